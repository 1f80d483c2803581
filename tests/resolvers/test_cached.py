"""Keys of questions: the same for the same question in any process, and for no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from data.calendar import DateRange, Interval, Weekday
from data.covered import Report
from data.queries import (
    ActiveUsersQuery,
    EventCountsQuery,
    EventFilter,
    Field,
    NumberFilter,
    PropertyFilter,
    RetentionQuery,
    Scope,
    StringFilter,
    TopEventsQuery,
)
from resolvers.cached import key_of
from tests.fixtures.service import ROOT
from tests.strategies import Scene, cases, draw_active_users, draw_event_counts

SHOP = Scope("shop", DateRange(date(2026, 1, 1), date(2026, 1, 31)), ZoneInfo("Europe/Berlin"))
ONE = EventFilter(fields=((Field.PATH, StringFilter(eq="/")),))


@given(case=cases(draw_active_users, lambda _, query: bool(query)))
def test_questions_have_one_key_if_and_only_if_they_are_equal(
    case: tuple[Scene, Sequence[ActiveUsersQuery]],
) -> None:
    for one in case[1]:
        for other in case[1]:
            assert (key_of("active_users", one) == key_of("active_users", other)) == (
                repr(one) == repr(other)
            )


@given(case=cases(draw_event_counts, lambda _, query: bool(query)))
def test_kinds_of_questions_have_keys_of_their_own(
    case: tuple[Scene, Sequence[EventCountsQuery]],
) -> None:
    for query in case[1]:
        other = ActiveUsersQuery(query.scope, query.interval, query.week_start)
        assert key_of("event_counts", query) != key_of("active_users", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TopEventsQuery(SHOP), TopEventsQuery(SHOP, 11)),
        (TopEventsQuery(SHOP), TopEventsQuery(replace(SHOP, site_id="blog"))),
        (TopEventsQuery(SHOP), TopEventsQuery(replace(SHOP, zone=ZoneInfo("Europe/Paris")))),
        (TopEventsQuery(SHOP), TopEventsQuery(replace(SHOP, filter=ONE))),
        (
            TopEventsQuery(replace(SHOP, filter=ONE)),
            TopEventsQuery(replace(SHOP, filter=EventFilter(negated=ONE))),
        ),
        (
            TopEventsQuery(replace(SHOP, filter=EventFilter(any_of=()))),
            TopEventsQuery(replace(SHOP, filter=EventFilter(any_of=None))),
        ),
        (
            ActiveUsersQuery(SHOP, Interval.WEEK, Weekday.MONDAY),
            ActiveUsersQuery(SHOP, Interval.WEEK, Weekday.SUNDAY),
        ),
        (RetentionQuery(SHOP, start_events=None), RetentionQuery(SHOP, start_events=())),
        (
            RetentionQuery(SHOP, start_events=("a", "b")),
            RetentionQuery(SHOP, return_events=("a", "b")),
        ),
    ],
)
def test_what_differs_in_anything_is_another_question(one: Report, other: Report) -> None:
    assert key_of("report", one) != key_of("report", other)


def test_a_key_is_the_same_in_another_process() -> None:
    asked = PropertyFilter("n", number=NumberFilter(gt=1.5), string=StringFilter(in_=("ä", "\0")))
    query = TopEventsQuery(replace(SHOP, filter=EventFilter(properties=(asked,))))
    program = (
        "import datetime, zoneinfo\n"
        "from datetime import date\n"
        "from data.calendar import DateRange\n"
        "from data.queries import *\n"
        "from data.queries import NumberFilter, PropertyFilter\n"
        "from resolvers.cached import key_of\n"
        "asked = PropertyFilter('n', number=NumberFilter(gt=1.5),"
        " string=StringFilter(in_=('\\xe4', '\\0')))\n"
        "scope = Scope('shop', DateRange(date(2026, 1, 1), date(2026, 1, 31)),"
        " zoneinfo.ZoneInfo('Europe/Berlin'), EventFilter(properties=(asked,)))\n"
        "print(key_of('top_events', TopEventsQuery(scope)).hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == key_of("top_events", query).hex()
