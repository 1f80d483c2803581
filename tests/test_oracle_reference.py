"""The oracle against the reference answers of real event sets, which others worked out."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from data.calendar import DateRange, Interval, Weekday
from data.events import StoredEvent
from data.queries import (
    EVERYTHING,
    ActiveUsersQuery,
    EventCountsQuery,
    EventFilter,
    NumberFilter,
    PropertyFilter,
    RetentionQuery,
    Scope,
    TopEventsQuery,
)
from tests import oracle

UTC_ZONE = ZoneInfo("UTC")
NAMES = ("cdnow", "apache", "oss_commits")
DAY = timedelta(days=1)


@pytest.fixture(scope="module", params=NAMES)
def reference(shared_data: Path, request: pytest.FixtureRequest) -> Reference:
    name: str = request.param
    return read_reference(shared_data, name)


class Reference:
    """Events of one set, all as one site's, with the answers that they must give."""

    def __init__(self, events: list[StoredEvent], expected: dict[str, Any]) -> None:
        self.events = events
        self.expected = expected

    def scope(self, zone: ZoneInfo = UTC_ZONE, condition: EventFilter = EVERYTHING) -> Scope:
        """All days of the set."""
        days = sorted(date.fromisoformat(day) for day in self.expected["dau"])
        return Scope("all", DateRange(days[0], days[-1]), zone, condition)


@lru_cache
def read_reference(folder: Path, name: str) -> Reference:
    with gzip.open(folder / f"{name}.events.jsonl.gz", "rt", encoding="utf-8") as lines:
        events = [stored_event(json.loads(line), index) for index, line in enumerate(lines)]
    return Reference(events, json.loads((folder / f"{name}.expected.json").read_text()))


def stored_event(line: dict[str, Any], arrival: int) -> StoredEvent:
    occurred_at = datetime.fromisoformat(line["occurred_at"])
    return StoredEvent(
        event_id=UUID(line["event_id"]),
        # What the sets say of all sites together is asked of one.
        site_id="all",
        event_type=line["event_type"],
        occurred_at=occurred_at,
        received_at=occurred_at,
        user_id=line.get("user_id"),
        visitor_id=line.get("visitor_id"),
        session_id=line.get("session_id"),
        url=line.get("url"),
        path=line.get("path"),
        referrer=line.get("referrer"),
        properties=line.get("properties"),
        arrival=arrival,
    )


def without_zeros(expected: dict[str, int]) -> dict[str, int]:
    return {key: count for key, count in expected.items() if count}


def test_active_users(reference: Reference) -> None:
    scope, expected = reference.scope(), reference.expected

    by_day = oracle.active_users(reference.events, ActiveUsersQuery(scope))
    by_week = oracle.active_users(reference.events, ActiveUsersQuery(scope, Interval.WEEK))
    sundays = oracle.active_users(
        reference.events, ActiveUsersQuery(scope, Interval.WEEK, Weekday.SUNDAY)
    )
    by_month = oracle.active_users(reference.events, ActiveUsersQuery(scope, Interval.MONTH))

    assert {day.isoformat(): n for day, n in by_day.users.items()} == without_zeros(expected["dau"])
    assert by_day.total == expected["actors"]
    assert {day.isoformat(): n for day, n in by_week.users.items()} == expected["wau_calendar"]
    assert {day.isoformat(): n for day, n in sundays.users.items()} == (
        expected["wau_calendar_sunday"]
    )
    assert {f"{day:%Y-%m}": n for day, n in by_month.users.items()} == expected["mau_calendar"]


@pytest.mark.parametrize(("rolling", "key"), [(7, "wau_trailing"), (30, "mau_trailing")])
def test_users_of_the_last_days(reference: Reference, rolling: int, key: str) -> None:
    query = ActiveUsersQuery(reference.scope(), rolling=rolling)

    found = oracle.active_users(reference.events, query).users

    # The sets hold a sample of days.
    expected: dict[str, int] = reference.expected[key]
    assert {day: found.get(date.fromisoformat(day), 0) for day in expected} == expected


def test_top_events_and_events_per_month(reference: Reference) -> None:
    scope, expected = reference.scope(), reference.expected

    top = oracle.top_events(reference.events, TopEventsQuery(scope, 10))
    by_month = oracle.event_counts(reference.events, EventCountsQuery(scope, Interval.MONTH))

    assert [[row.event_type, row.count] for row in top.rows] == expected["top_event_types"]
    assert top.total == by_month.total == expected["events"]
    assert {f"{month:%Y-%m}": n for month, n in by_month.counts.items()} == (
        expected["events_per_month"]
    )


def assert_retention(
    reference: Reference, key: str, interval: Interval, week_start: Weekday
) -> None:
    expected: dict[str, list[int]] = reference.expected[key]
    most = max(len(cells) for cells in expected.values())
    query = RetentionQuery(reference.scope(), interval, week_start, periods=most)

    found = oracle.retention(reference.events, query)

    cohorts = {
        oracle.period_number(date.fromisoformat(day), query): cells
        for day, cells in expected.items()
    }
    assert found.sizes == {index: cells[0] for index, cells in cohorts.items() if cells[0]}
    assert found.returned == {
        (index, k): users
        for index, cells in cohorts.items()
        for k, users in enumerate(cells)
        if users
    }


def test_weekly_retention(reference: Reference) -> None:
    assert_retention(reference, "retention_weekly", Interval.WEEK, Weekday.MONDAY)


def test_monthly_retention(reference: Reference) -> None:
    assert_retention(reference, "retention_monthly", Interval.MONTH, Weekday.MONDAY)


def test_weekly_retention_where_weeks_begin_on_sunday(shared_data: Path) -> None:
    cdnow = read_reference(shared_data, "cdnow")

    assert_retention(cdnow, "retention_weekly_sunday", Interval.WEEK, Weekday.SUNDAY)


def test_events_by_the_hour(shared_data: Path) -> None:
    apache = read_reference(shared_data, "apache")

    found = oracle.event_counts(apache.events, EventCountsQuery(apache.scope(), Interval.HOUR))

    assert {f"{hour:%Y-%m-%dT%H}": count for hour, count in found.counts.items()} == (
        apache.expected["events_per_hour"]
    )


def test_a_filter_on_a_number(shared_data: Path) -> None:
    cdnow = read_reference(shared_data, "cdnow")
    dear = EventFilter(properties=(PropertyFilter("usd", number=NumberFilter(gte=50.0)),))

    found = oracle.top_events(cdnow.events, TopEventsQuery(cdnow.scope(condition=dear)))

    assert found.total == cdnow.expected["purchases_with_usd_at_least_50"]


def test_days_of_other_zones(shared_data: Path) -> None:
    commits = read_reference(shared_data, "oss_commits")
    zones: dict[str, dict[str, int]] = commits.expected["dau_other_timezones"]
    assert zones

    for name, expected in zones.items():
        found = oracle.active_users(
            commits.events, ActiveUsersQuery(commits.scope(ZoneInfo(name)))
        ).users

        assert {day: found.get(date.fromisoformat(day), 0) for day in expected} == expected
