"""Each report on a handful of events that can be counted by hand."""

import asyncio
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from data.calendar import Interval, Weekday, hours_of
from data.duckdb.store import DuckDBStore
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    CohortRule,
    EventCountsQuery,
    EventCountsRows,
    EventFilter,
    EventsQuery,
    Field,
    RetentionQuery,
    RetentionRows,
    StringFilter,
    TopEventsQuery,
    TopEventsRow,
    TopEventsRows,
)
from tests.data.duckdb.examples import (
    BERLIN,
    UTC_ZONE,
    Feed,
    make_event,
    march,
    mark,
    on,
    scope,
)

HAVANA = ZoneInfo("America/Havana")
ST_JOHNS = ZoneInfo("America/St_Johns")
APIA = ZoneInfo("Pacific/Apia")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


async def active(store: DuckDBStore, query: ActiveUsersQuery) -> ActiveUsersRows:
    return (await store.active_users([query])).rows[0]


async def counted(store: DuckDBStore, query: EventCountsQuery) -> EventCountsRows:
    return (await store.event_counts([query])).rows[0]


async def top(store: DuckDBStore, query: TopEventsQuery) -> TopEventsRows:
    return (await store.top_events([query])).rows[0]


async def kept(store: DuckDBStore, query: RetentionQuery) -> RetentionRows:
    return (await store.retention([query])).rows[0]


async def test_an_empty_copy_answers_with_nothing(store: DuckDBStore) -> None:
    asked = scope("2024-03-01", "2024-03-31")
    answer = await store.active_users([ActiveUsersQuery(asked), ActiveUsersQuery(asked, rolling=7)])

    assert answer.rows == [ActiveUsersRows({}, 0), ActiveUsersRows({}, 0)]
    assert answer.watermark is None
    assert await counted(store, EventCountsQuery(asked)) == EventCountsRows({}, 0)
    assert await top(store, TopEventsQuery(asked)) == TopEventsRows((), 0)
    assert await kept(store, RetentionQuery(asked)) == RetentionRows({}, {})
    assert (await store.events([EventsQuery("site", UTC_ZONE)])).rows == [()]
    assert (await store.retention([])).rows == []


async def test_a_user_counts_by_user_id_else_visitor_id_else_not(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(
        make_event(1, user_id="ann", visitor_id="v1"),
        make_event(2, user_id="ann", visitor_id="v2"),
        make_event(3, visitor_id="v1"),
        make_event(4, visitor_id="ann"),
        make_event(5),
        make_event(6, user_id=""),
        make_event(7, user_id="ann", site_id="other"),
    )
    asked = scope("2024-03-04", "2024-03-04")

    assert await active(store, ActiveUsersQuery(asked)) == ActiveUsersRows({march(4): 3}, 3)
    assert await counted(store, EventCountsQuery(asked)) == EventCountsRows({march(4): 6}, 6)


async def test_the_day_is_that_of_the_zone(store: DuckDBStore, feed: Feed) -> None:
    await feed(
        make_event(1, "2024-03-03T22:59:59.999999", user_id="a"),
        make_event(2, "2024-03-03T23:00", user_id="b"),
        make_event(3, "2024-03-04T22:59:59.999999", user_id="c"),
        make_event(4, "2024-03-04T23:00", user_id="d"),
    )

    rows = await active(store, ActiveUsersQuery(scope("2024-03-04", "2024-03-04", BERLIN)))

    assert rows == ActiveUsersRows({march(4): 2}, 2)


async def test_a_period_is_cut_to_the_range_and_named_by_its_first_day(
    store: DuckDBStore, feed: Feed
) -> None:
    # 2024-03-06 is a Wednesday.
    await feed(*(on(f"2024-03-{day:02}", f"user {day}", day) for day in range(1, 32)))
    asked = scope("2024-03-06", "2024-03-12")

    weeks = await active(store, ActiveUsersQuery(asked, Interval.WEEK))
    sunday_weeks = await active(
        store, ActiveUsersQuery(asked, Interval.WEEK, week_start=Weekday.SUNDAY)
    )
    months = await active(store, ActiveUsersQuery(asked, Interval.MONTH))

    assert weeks == ActiveUsersRows({march(4): 5, march(11): 2}, 7)
    assert sunday_weeks == ActiveUsersRows({march(3): 4, march(10): 3}, 7)
    assert months == ActiveUsersRows({march(1): 7}, 7)


async def test_rolling_users_are_those_of_the_last_days(store: DuckDBStore, feed: Feed) -> None:
    await feed(
        on("2024-03-01", "before", 1),
        on("2024-03-03", "before", 2),
        on("2024-03-05", "twice", 3),
        on("2024-03-06", "twice", 4),
        on("2024-03-06", "twice", 5),
        on("2024-03-09", "after", 6),
        on("2024-03-04", "away", 7),
        on("2024-03-08", "away", 8),
    )

    rows = await active(store, ActiveUsersQuery(scope("2024-03-04", "2024-03-08"), rolling=3))

    users = {march(4): 2, march(5): 3, march(6): 2, march(7): 1, march(8): 2}
    assert rows == ActiveUsersRows(users, 2)


async def test_top_events_come_by_count_then_by_name(store: DuckDBStore, feed: Feed) -> None:
    types = ["b", "b", "a", "a", "B", "B", "é", "z", "\U0001f600", "\uffee", "c", "c", "c"]
    await feed(
        *(
            make_event(number, event_type=name, user_id="u" if number % 2 else None)
            for number, name in enumerate(types)
        )
    )
    asked = scope("2024-03-04", "2024-03-04")

    rows = await top(store, TopEventsQuery(asked, limit=8))

    assert rows == TopEventsRows(
        (
            TopEventsRow("c", 3, 1),
            TopEventsRow("B", 2, 1),
            TopEventsRow("a", 2, 1),
            TopEventsRow("b", 2, 1),
            TopEventsRow("z", 1, 1),
            TopEventsRow("é", 1, 0),
            TopEventsRow("\uffee", 1, 1),
            TopEventsRow("\U0001f600", 1, 0),
        ),
        13,
    )
    for limit in range(1, 8):
        first = TopEventsRows(rows.rows[:limit], 13)
        assert await top(store, TopEventsQuery(asked, limit=limit)) == first


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        (BERLIN, "2024-10-26", "2024-10-27"),
        (BERLIN, "2024-03-31", "2024-03-31"),
        (LORD_HOWE, "2024-04-06", "2024-04-08"),
        (LORD_HOWE, "2024-10-05", "2024-10-06"),
        (HAVANA, "2024-03-10", "2024-03-10"),
        (HAVANA, "2024-11-03", "2024-11-03"),
        # Back across midnight: the last hour of the first day comes twice, with a minute between.
        (ST_JOHNS, "2010-11-06", "2010-11-06"),
        (ST_JOHNS, "2010-11-07", "2010-11-07"),
        # A day that was left out.
        (APIA, "2011-12-29", "2011-12-31"),
        (APIA, "2011-12-30", "2011-12-30"),
    ],
)
async def test_clock_hours_are_those_of_the_calendar(
    store: DuckDBStore, feed: Feed, zone: ZoneInfo, start: str, end: str
) -> None:
    noon = datetime.fromisoformat(start).replace(hour=12, tzinfo=UTC).timestamp()
    instants = [datetime.fromtimestamp(noon + n * 600, UTC) for n in range(-6 * 40, 6 * 80)]
    await feed(*(make_event(n, at.isoformat()[:-6]) for n, at in enumerate(instants)))
    asked = scope(start, end, zone)

    rows = await counted(store, EventCountsQuery(asked, Interval.HOUR))

    expected = {
        hour: sum(hour <= at < end for at in instants) for hour, end in hours_of(asked.days, zone)
    }
    assert rows.counts == {hour: count for hour, count in expected.items() if count}
    assert rows.total == sum(expected.values())


async def test_counts_per_week_and_month(store: DuckDBStore, feed: Feed) -> None:
    await feed(*(on(f"2024-02-{day:02}", "u", day) for day in range(20, 30)))
    await feed(*(on(f"2024-03-{day:02}", "u", day) for day in range(1, 11)))
    asked = scope("2024-02-28", "2024-03-05")

    weeks = await counted(store, EventCountsQuery(asked, Interval.WEEK))
    months = await counted(store, EventCountsQuery(asked, Interval.MONTH))

    assert weeks == EventCountsRows({date(2024, 2, 26): 5, march(4): 2}, 7)
    assert months == EventCountsRows({date(2024, 2, 1): 2, march(1): 5}, 7)


async def test_questions_of_all_shapes_are_answered_in_the_order_asked(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(
        make_event(1, "2024-03-04T23:30", user_id="a", event_type="view"),
        make_event(2, "2024-03-05T12:00", user_id="b", event_type="buy"),
        make_event(3, "2024-03-05T12:00", user_id="b", site_id="other"),
    )
    buys = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="buy")),))
    wide, berlin = scope("2024-03-04", "2024-03-05"), scope("2024-03-05", "2024-03-05", BERLIN)

    answer = await store.active_users(
        [
            ActiveUsersQuery(wide),
            ActiveUsersQuery(wide, rolling=2),
            ActiveUsersQuery(berlin),
            ActiveUsersQuery(wide, Interval.WEEK),
            ActiveUsersQuery(scope("2024-03-04", "2024-03-05", condition=buys)),
            ActiveUsersQuery(scope("2024-03-04", "2024-03-05", site="other")),
            ActiveUsersQuery(scope("2024-03-04", "2024-03-05", site="unknown")),
            ActiveUsersQuery(wide),
        ]
    )

    per_day = ActiveUsersRows({march(4): 1, march(5): 1}, 2)
    assert answer.rows == [
        per_day,
        ActiveUsersRows({march(4): 1, march(5): 2}, 2),
        ActiveUsersRows({march(5): 2}, 2),
        ActiveUsersRows({march(4): 2}, 2),
        ActiveUsersRows({march(5): 1}, 1),
        ActiveUsersRows({march(5): 1}, 1),
        ActiveUsersRows({}, 0),
        per_day,
    ]
    assert answer.watermark == mark(1)


async def test_ranges_at_the_ends_of_the_calendar_are_answered(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(
        make_event(1, "0001-01-12T12:00", user_id="a"),
        make_event(2, "9999-11-28T12:00", user_id="a"),
    )
    for zone in (UTC_ZONE, APIA, HAVANA):
        first, last = (
            scope("0001-01-10", "0001-01-15", zone),
            scope("9999-11-25", "9999-11-30", zone),
        )
        for asked in (first, last):
            rows = await active(store, ActiveUsersQuery(asked, rolling=30))
            assert rows.total == 1
            for interval in (Interval.DAY, Interval.WEEK, Interval.MONTH):
                assert (await active(store, ActiveUsersQuery(asked, interval))).total == 1
                for unbounded in (False, True):
                    query = RetentionQuery(
                        asked,
                        interval,
                        periods=30,
                        cohort=CohortRule.RECURRING,
                        unbounded=unbounded,
                    )
                    assert sum((await kept(store, query)).sizes.values()) == 1


async def test_many_questions_at_once_do_not_disturb_each_other(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(*(make_event(n, f"2024-03-{n:02}T12:00", user_id=f"u{n}") for n in range(1, 32)))
    asked = [scope(f"2024-03-{day:02}", "2024-03-31") for day in range(1, 32)]

    found = await asyncio.gather(*(active(store, ActiveUsersQuery(one)) for one in asked))

    assert [rows.total for rows in found] == list(range(31, 0, -1))
