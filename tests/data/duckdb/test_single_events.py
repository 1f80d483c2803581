"""Pages of single events."""

from zoneinfo import ZoneInfo

from data.duckdb.store import DuckDBStore
from data.queries import EventsQuery, Place
from tests.data.duckdb.examples import UTC_ZONE, Feed, days, ids_of, make_event

ST_JOHNS = ZoneInfo("America/St_Johns")
APIA = ZoneInfo("Pacific/Apia")


async def test_events_come_newest_first_and_the_later_arrival_before_the_earlier(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(make_event(1, "2024-03-04T12:00"), make_event(2, "2024-03-04T12:00"))
    await feed(make_event(3, "2024-03-04T11:00"), make_event(4, "2024-03-04T12:00"))
    await feed(make_event(5, "2024-03-04T13:00"))

    assert await ids_of(store, EventsQuery("site", UTC_ZONE)) == [5, 4, 2, 1, 3]
    assert await ids_of(store, EventsQuery("site", UTC_ZONE, first=2)) == [5, 4]


async def test_pages_follow_each_other_without_gap_or_overlap(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(*(make_event(n, f"2024-03-04T12:00:{n // 4:02}") for n in range(40)))
    expected = sorted(range(40), key=lambda n: (n // 4, n), reverse=True)
    found: list[int] = []
    after = None
    while True:
        query = EventsQuery("site", UTC_ZONE, first=7, after=after)
        [page] = (await store.events([query])).rows
        if not page:
            break
        found += [event.event_id.int for event in page]
        after = Place(page[-1].occurred_at, page[-1].arrival)

    assert found == expected


async def test_events_of_one_actor_on_some_days(store: DuckDBStore, feed: Feed) -> None:
    await feed(
        make_event(1, "2010-11-07T02:30:30", user_id="a"),  # 00:00:30 of 7 November
        make_event(2, "2010-11-07T02:31:30", user_id="a"),  # 23:01:30 of 6 November, again
        make_event(3, "2010-11-07T02:31:30", user_id="b"),
        make_event(4, "2010-11-07T02:31:30", visitor_id="a"),
        make_event(5, "2010-11-07T12:00", user_id="b", visitor_id="a"),
    )

    async def of_day(day: str) -> list[int]:
        query = EventsQuery("site", ST_JOHNS, days(day, day), actor="a")
        return list(await ids_of(store, query))

    assert await of_day("2010-11-06") == [4, 2]
    assert await of_day("2010-11-07") == [1]
    skipped = EventsQuery("site", APIA, days("2011-12-30", "2011-12-30"))
    assert await ids_of(store, skipped) == []
