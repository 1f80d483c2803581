"""The oracle itself, against facts that were worked out by hand."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from data.calendar import DateRange, Interval, Weekday
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    CohortRule,
    EventCountsQuery,
    EventCountsRows,
    EventFilter,
    EventsQuery,
    Field,
    PeriodRule,
    Place,
    RetentionQuery,
    RetentionRows,
    Scope,
    StringFilter,
    TopEventsQuery,
    TopEventsRow,
    TopEventsRows,
)
from tests import oracle
from tests.slices import instant
from tests.slices import some_event as event

ZONE_UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")


def scope(
    first: str, last: str, zone: ZoneInfo = ZONE_UTC, condition: EventFilter | None = None
) -> Scope:
    days = DateRange(date.fromisoformat(first), date.fromisoformat(last))
    return Scope("shop", days, zone, condition or EventFilter())


def days(found: dict[date, int]) -> dict[str, int]:
    return {day.isoformat(): count for day, count in found.items()}


# Who and when


def test_the_actor_is_the_user_else_the_visitor() -> None:
    assert oracle.actor_of(event("2024-05-01", "ann", visitor_id="v1")) == "ann"
    assert oracle.actor_of(event("2024-05-01", None, visitor_id="v1")) == "v1"
    assert oracle.actor_of(event("2024-05-01", None)) is None
    assert oracle.actor_of(event("2024-05-01", "", visitor_id="v1")) == ""


def test_the_day_is_the_one_of_the_zone() -> None:
    late = event("2024-05-01 22:30")

    assert oracle.day_of(late, ZONE_UTC) == date(2024, 5, 1)
    assert oracle.day_of(late, BERLIN) == date(2024, 5, 2)
    assert oracle.day_of(event("2011-12-30 09:59"), ZoneInfo("Pacific/Apia")) == date(2011, 12, 29)
    assert oracle.day_of(event("2011-12-30 10:00"), ZoneInfo("Pacific/Apia")) == date(2011, 12, 31)


@pytest.mark.parametrize(
    ("day", "interval", "week_start", "expected"),
    [
        (date(2024, 5, 1), Interval.DAY, Weekday.MONDAY, date(2024, 5, 1)),
        (date(2024, 5, 1), Interval.WEEK, Weekday.MONDAY, date(2024, 4, 29)),
        (date(2024, 5, 1), Interval.WEEK, Weekday.SUNDAY, date(2024, 4, 28)),
        (date(2024, 5, 1), Interval.WEEK, Weekday.WEDNESDAY, date(2024, 5, 1)),
        (date(2024, 5, 1), Interval.WEEK, Weekday.THURSDAY, date(2024, 4, 25)),
        (date(2025, 1, 1), Interval.WEEK, Weekday.MONDAY, date(2024, 12, 30)),
        (date(2024, 2, 29), Interval.MONTH, Weekday.MONDAY, date(2024, 2, 1)),
    ],
)
def test_periods_begin_where_the_calendar_says(
    day: date, interval: Interval, week_start: Weekday, expected: date
) -> None:
    assert oracle.first_day_of_period(day, interval, week_start) == expected


@pytest.mark.parametrize(
    ("zone", "at", "began"),
    [
        ("UTC", "2024-05-01 12:34:56.789", "2024-05-01 12:00"),
        ("UTC", "2024-05-01 12:00", "2024-05-01 12:00"),
        ("Asia/Kathmandu", "2024-05-01 12:10", "2024-05-01 11:15"),
        # The hour from 2 to 3 comes twice in Berlin, and half of it again on Lord Howe Island.
        ("Europe/Berlin", "2024-10-27 00:59", "2024-10-27 00:00"),
        ("Europe/Berlin", "2024-10-27 01:01", "2024-10-27 01:00"),
        ("Australia/Lord_Howe", "2024-04-06 14:59", "2024-04-06 14:00"),
        ("Australia/Lord_Howe", "2024-04-06 15:20", "2024-04-06 15:00"),
        ("Australia/Lord_Howe", "2024-04-06 15:40", "2024-04-06 15:30"),
        # Forward by half an hour: from 2:00 to 2:30.
        ("Australia/Lord_Howe", "2024-10-05 15:31", "2024-10-05 15:30"),
        # Back at 00:01 to 23:01: what is left of 23 o'clock begins with the change.
        ("America/St_Johns", "2010-11-07 02:30:30", "2010-11-07 02:30"),
        ("America/St_Johns", "2010-11-07 02:45", "2010-11-07 02:31"),
        ("America/St_Johns", "2010-11-07 03:30", "2010-11-07 03:30"),
    ],
)
def test_a_clock_hour_begins_at_minute_zero_or_with_a_change(
    zone: str, at: str, began: str
) -> None:
    assert oracle.clock_hour(instant(at), ZoneInfo(zone)) == instant(began)


# Reports


SPRING = [
    event("2024-04-29 10:00", "ann"),
    event("2024-04-30 10:00", "bob"),
    event("2024-05-01 10:00", "ann"),
    event("2024-05-01 11:00", None),
    event("2024-05-01 11:00", None, visitor_id="ann"),
    event("2024-05-02 22:30", "cid", "buy"),
    event("2024-05-07 10:00", "ann", "buy"),
    event("2024-05-01 10:00", "eve", site_id="other"),
]


def test_active_users_by_day_week_and_month() -> None:
    asked = scope("2024-04-30", "2024-05-07")
    by_day = oracle.active_users(SPRING, ActiveUsersQuery(asked))
    by_week = oracle.active_users(SPRING, ActiveUsersQuery(asked, Interval.WEEK))
    by_month = oracle.active_users(SPRING, ActiveUsersQuery(asked, Interval.MONTH))

    assert days(by_day.users) == {
        "2024-04-30": 1,
        "2024-05-01": 1,
        "2024-05-02": 1,
        "2024-05-07": 1,
    }
    assert days(by_week.users) == {"2024-04-29": 3, "2024-05-06": 1}
    assert days(by_month.users) == {"2024-04-01": 1, "2024-05-01": 2}
    assert by_day.total == by_week.total == by_month.total == 3


def test_active_users_are_cut_to_the_days_of_the_range() -> None:
    # Ann's Monday lies in the first week but before the range, and so does not count.
    found = oracle.active_users(
        SPRING, ActiveUsersQuery(scope("2024-04-30", "2024-04-30"), Interval.WEEK)
    )

    assert found == ActiveUsersRows({date(2024, 4, 29): 1}, 1)


def test_rolling_users_look_back_before_the_range() -> None:
    asked = scope("2024-05-02", "2024-05-08")
    found = oracle.active_users(SPRING, ActiveUsersQuery(asked, rolling=3))

    assert days(found.users) == {
        "2024-05-02": 3,
        "2024-05-03": 2,
        "2024-05-04": 1,
        "2024-05-07": 1,
        "2024-05-08": 1,
    }
    assert found.total == 2


def test_active_users_in_another_zone() -> None:
    asked = scope("2024-05-02", "2024-05-03", BERLIN)

    found = oracle.active_users(SPRING, ActiveUsersQuery(asked))

    assert found == ActiveUsersRows({date(2024, 5, 3): 1}, 1)


def test_top_events_count_events_and_users() -> None:
    asked = scope("2024-04-29", "2024-05-07")

    assert oracle.top_events(SPRING, TopEventsQuery(asked)) == TopEventsRows(
        (TopEventsRow("view", 5, 2), TopEventsRow("buy", 2, 2)), 7
    )
    assert oracle.top_events(SPRING, TopEventsQuery(asked, 1)) == TopEventsRows(
        (TopEventsRow("view", 5, 2),), 7
    )


def test_ties_of_top_events_are_ordered_by_code_point() -> None:
    types = ["b", "B", "ä", "a", "\uffee", "\U0001f600"]
    events = [event("2024-05-01", None, what) for what in types]

    found = oracle.top_events(events, TopEventsQuery(scope("2024-05-01", "2024-05-01")))

    assert [row.event_type for row in found.rows] == ["B", "a", "b", "ä", "\uffee", "\U0001f600"]
    assert {row.users for row in found.rows} == {0}


def test_event_counts_by_day_and_by_hour() -> None:
    asked = scope("2024-05-01", "2024-05-02")

    by_day = oracle.event_counts(SPRING, EventCountsQuery(asked))
    by_hour = oracle.event_counts(SPRING, EventCountsQuery(asked, Interval.HOUR))

    assert by_day == EventCountsRows({date(2024, 5, 1): 3, date(2024, 5, 2): 1}, 4)
    assert by_hour == EventCountsRows(
        {
            instant("2024-05-01 10:00"): 1,
            instant("2024-05-01 11:00"): 2,
            instant("2024-05-02 22:00"): 1,
        },
        4,
    )


def test_an_hour_that_comes_twice_is_counted_twice() -> None:
    events = [event("2024-10-27 00:30"), event("2024-10-27 01:30"), event("2024-10-27 01:40")]
    asked = scope("2024-10-27", "2024-10-27", BERLIN)

    found = oracle.event_counts(events, EventCountsQuery(asked, Interval.HOUR))

    assert found.counts == {instant("2024-10-27 00:00"): 1, instant("2024-10-27 01:00"): 2}


# Weeks from 29 April, 6 May, 13 May, 20 May.
RETURNING = [
    event("2024-04-22 12:00", "old"),
    event("2024-04-29 12:00", "ann"),
    event("2024-05-01 12:00", "bob"),
    event("2024-05-06 12:00", "ann"),
    event("2024-05-07 12:00", "old"),
    event("2024-05-08 12:00", "cid", "buy"),
    event("2024-05-20 12:00", "ann", "buy"),
    event("2024-05-21 12:00", "cid"),
    event("2024-05-21 12:00", None),
]


def retained(first: str = "2024-05-01", last: str = "2024-05-12", **given: object) -> RetentionRows:
    query = RetentionQuery(scope(first, last), periods=3, **given)  # type: ignore[arg-type]
    return oracle.retention(RETURNING, query)


def test_retention_of_those_who_started_in_the_range() -> None:
    # Ann's first day is before the range, so she is in no cohort, though her week is in it.
    assert retained() == RetentionRows({0: 1, 1: 1}, {(0, 0): 1, (1, 0): 1, (1, 2): 1})


def test_retention_of_a_range_that_holds_the_whole_week() -> None:
    assert retained("2024-04-29") == RetentionRows(
        {0: 2, 1: 1}, {(0, 0): 2, (0, 1): 1, (0, 3): 1, (1, 0): 1, (1, 2): 1}
    )


def test_recurring_retention_takes_everyone_in_every_period() -> None:
    assert retained(cohort=CohortRule.RECURRING) == RetentionRows(
        {0: 1, 1: 3}, {(0, 0): 1, (1, 0): 3, (1, 2): 2}
    )


def test_unbounded_retention_counts_who_was_back_then_or_later() -> None:
    assert retained("2024-04-29", unbounded=True) == RetentionRows(
        {0: 2, 1: 1},
        {(0, 0): 2, (0, 1): 1, (0, 2): 1, (0, 3): 1, (1, 0): 1, (1, 1): 1, (1, 2): 1},
    )


def test_retention_counted_from_the_start_of_the_range() -> None:
    # Weeks from 1 May, 8 May, 15 May, 22 May: Cid starts in the second and is back in the third.
    assert retained(period_rule=PeriodRule.RANGE_START) == RetentionRows(
        {0: 1, 1: 1}, {(0, 0): 1, (1, 0): 1, (1, 1): 1}
    )


def test_months_from_the_start_of_the_range_have_thirty_days() -> None:
    events = [event("2024-01-31", "ann"), event("2024-03-01", "ann"), event("2024-03-31", "ann")]
    asked = scope("2024-01-31", "2024-01-31")
    query = RetentionQuery(asked, Interval.MONTH, periods=3, period_rule=PeriodRule.RANGE_START)

    assert oracle.retention(events, query) == RetentionRows(
        {0: 1}, {(0, 0): 1, (0, 1): 1, (0, 2): 1}
    )


def test_retention_between_event_types() -> None:
    # Ann buys for the first time in the last week; nobody has come back to view by then but Cid.
    assert retained(last="2024-05-21", start_events=("buy",), return_events=("view",)) == (
        RetentionRows({1: 1, 3: 1}, {(1, 2): 1})
    )
    assert retained(start_events=()) == RetentionRows({}, {})


def test_the_first_event_is_the_first_that_passes_the_filter() -> None:
    # Old viewed first, but by the filter only Cid's and Ann's purchases are there.
    only_buys = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="buy")),))
    query = RetentionQuery(scope("2024-05-06", "2024-05-26", condition=only_buys), periods=2)

    assert oracle.retention(RETURNING, query) == RetentionRows({0: 1, 2: 1}, {(0, 0): 1, (2, 0): 1})


def test_returns_count_in_all_of_the_first_period() -> None:
    # Back on Monday, started on Tuesday, in a range that begins on Tuesday: the same week.
    events = [event("2024-04-29", "ann", "back"), event("2024-04-30", "ann", "start")]
    query = RetentionQuery(
        scope("2024-04-30", "2024-05-05"),
        periods=1,
        start_events=("start",),
        return_events=("back",),
    )

    assert oracle.retention(events, query) == RetentionRows({0: 1}, {(0, 0): 1})


def test_events_come_newest_first_then_latest_arrival_first() -> None:
    events = [
        event("2024-05-01", arrival=3),
        event("2024-05-02", arrival=1),
        event("2024-05-01", arrival=2, user_id=None, visitor_id="ann"),
        event("2024-05-01", "bob", arrival=4, visitor_id="ann"),
    ]

    def arrivals(query: EventsQuery) -> list[int]:
        return [found.arrival for found in oracle.events_page(events, query)]

    assert arrivals(EventsQuery("shop", ZONE_UTC)) == [1, 4, 3, 2]
    assert arrivals(EventsQuery("shop", ZONE_UTC, first=2)) == [1, 4]
    after = Place(instant("2024-05-01"), 4)
    assert arrivals(EventsQuery("shop", ZONE_UTC, after=after)) == [3, 2]
    assert arrivals(EventsQuery("shop", ZONE_UTC, actor="ann")) == [1, 3, 2]
    one_day = DateRange(date(2024, 5, 1), date(2024, 5, 1))
    assert arrivals(EventsQuery("shop", ZONE_UTC, one_day)) == [4, 3, 2]
    assert arrivals(EventsQuery("other", ZONE_UTC)) == []
