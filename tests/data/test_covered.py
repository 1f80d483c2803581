"""What questions cover: no event outside of it makes a difference, and not much more is inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from data.calendar import DateRange, Interval, Weekday
from data.covered import Covered, Report, covered
from data.day_versions import DayVersions, Touched
from data.events import StoredEvent
from data.queries import (
    ActiveUsersQuery,
    CohortRule,
    EventCountsQuery,
    PeriodRule,
    RetentionQuery,
    Scope,
    TopEventsQuery,
    Watermark,
)
from tests import oracle
from tests.slices import EPOCH, MICROSECOND, Batch, stored
from tests.strategies import Scene, cases, draw_active_users, draw_retention, mixed_cases

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
UTC_ZONE = ZoneInfo("UTC")
APIA = ZoneInfo("Pacific/Apia")


def touched(batches: Iterable[Batch]) -> list[Touched]:
    """What batches touch, event by event."""
    return [
        Touched(event.site_id, event.occurred_at.astimezone(UTC).toordinal(), batch.position)
        for batch in batches
        for event in batch.events
    ]


def advance(versions: DayVersions, batches: Sequence[Batch]) -> None:
    versions.advance(touched(batches), Watermark(batches[-1].position, 0, EPOCH))


def compare(scene: Scene, query: Report, answer: Callable[[Sequence[StoredEvent]], Any]) -> None:
    """After every slice: rows differ from those before only where the version does."""
    versions, batches = DayVersions(), list[Batch]()
    what = covered(query)
    before, rows = what.version(versions), answer([])
    for piece in scene.slices:
        batches += piece
        advance(versions, piece)
        version, again = what.version(versions), answer(stored(batches))
        if version == before:
            assert again == rows
        else:
            assert version > before
        before, rows = version, again


@given(case=mixed_cases())
def test_rows_stay_as_they_are_while_the_version_of_what_they_cover_does(
    case: tuple[Scene, ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery],
) -> None:
    scene, users, top, counts, retained = case

    compare(scene, users, lambda events: oracle.active_users(events, users))
    compare(scene, top, lambda events: oracle.top_events(events, top))
    compare(scene, counts, lambda events: oracle.event_counts(events, counts))
    compare(scene, retained, lambda events: oracle.retention(events, retained))


@given(
    case=cases(draw_retention, lambda events, query: bool(oracle.retention(events, query).sizes))
)
def test_what_retention_looks_back_and_forward_to_is_covered(
    case: tuple[Scene, list[RetentionQuery]],
) -> None:
    for query in case[1]:
        compare(case[0], query, partial(oracle.retention, query=query))


@given(
    case=cases(
        draw_active_users, lambda events, query: bool(oracle.active_users(events, query).users)
    )
)
def test_the_version_is_the_last_position_of_the_days_that_are_covered(
    case: tuple[Scene, list[ActiveUsersQuery]],
) -> None:
    scene, queries = case
    versions, batches = DayVersions(), [batch for piece in scene.slices for batch in piece]
    advance(versions, batches)

    for query in queries:
        what = covered(query)
        assert what.start is not None
        assert what.end is not None
        days = range(what.start.toordinal(), (what.end - MICROSECOND).toordinal() + 1)
        positions = [
            one.position
            for one in touched(batches)
            if one.site_id == query.scope.site_id and one.day in days
        ]
        assert what.version(versions) == max(positions, default=0)


def scope(start: str, end: str, zone: ZoneInfo = UTC_ZONE) -> Scope:
    return Scope("shop", DateRange(date.fromisoformat(start), date.fromisoformat(end)), zone)


def at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


MARCH = scope("2024-03-06", "2024-03-08")
BACK = RetentionQuery(MARCH, Interval.WEEK, Weekday.MONDAY, periods=2)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        (ActiveUsersQuery(MARCH), "2024-03-06", "2024-03-09"),
        # A week that sticks out of the range is counted on the days of the range alone.
        (ActiveUsersQuery(MARCH, Interval.WEEK), "2024-03-06", "2024-03-09"),
        (ActiveUsersQuery(MARCH, rolling=30), "2024-02-06", "2024-03-09"),
        (TopEventsQuery(MARCH), "2024-03-06", "2024-03-09"),
        (EventCountsQuery(MARCH, Interval.MONTH), "2024-03-06", "2024-03-09"),
        (
            EventCountsQuery(scope("2024-03-31", "2024-03-31", BERLIN), Interval.HOUR),
            "2024-03-30T23:00",
            "2024-03-31T22:00",
        ),
        (
            TopEventsQuery(scope("2024-07-04", "2024-07-04", NEW_YORK)),
            "2024-07-04T04:00",
            "2024-07-05T04:00",
        ),
        (BACK, None, "2024-03-25"),
        (replace(BACK, unbounded=True), None, None),
        (replace(BACK, cohort=CohortRule.RECURRING), "2024-03-04", "2024-03-25"),
        (
            replace(BACK, cohort=CohortRule.RECURRING, period_rule=PeriodRule.RANGE_START),
            "2024-03-06",
            "2024-03-27",
        ),
        (
            RetentionQuery(MARCH, Interval.MONTH, periods=0, cohort=CohortRule.RECURRING),
            "2024-03-01",
            "2024-04-01",
        ),
    ],
)
def test_what_a_question_covers(query: Report, start: str | None, end: str | None) -> None:
    assert covered(query) == Covered("shop", at(start), at(end))


def test_a_day_that_clocks_skip_covers_nothing() -> None:
    versions = DayVersions()
    what = covered(TopEventsQuery(scope("2011-12-30", "2011-12-30", APIA)))
    versions.advance([Touched("shop", date(2011, 12, 30).toordinal(), 7)], None)

    assert what.version(versions) == 0


def test_now_belongs_to_what_ends_after_it() -> None:
    what = covered(TopEventsQuery(scope("2024-03-06", "2024-03-08", BERLIN)))

    assert what.reaches(datetime(2024, 3, 8, 22, 59, tzinfo=UTC))
    assert not what.reaches(datetime(2024, 3, 8, 23, tzinfo=UTC))
    assert covered(RetentionQuery(MARCH, unbounded=True)).reaches(datetime(2050, 1, 1, tzinfo=UTC))
