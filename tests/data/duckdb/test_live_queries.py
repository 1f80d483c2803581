"""What live subscriptions ask of the copy, against plain Python on random events and moments."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.duckdb.store import DuckDBStore, open_copy
from data.events import Event, StoredEvent
from data.live_window import Window
from data.queries import (
    EVERYTHING,
    Activity,
    EventFilter,
    Field,
    KnownActivity,
    NewEventsQuery,
    StringFilter,
    last_arrival,
)
from tests import oracle
from tests.data.duckdb.examples import LEDGER, Feed, make_event, mark
from tests.filter_strategies import draw_filter
from tests.slices import Batch, stored, write_slice
from tests.strategies import SITES, Scene, draw_scene

some = settings(suppress_health_check=[HealthCheck.too_slow])

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIVE_MINUTES = timedelta(minutes=5)


# New events


def expected_events(events: Sequence[StoredEvent], query: NewEventsQuery) -> list[StoredEvent]:
    return [
        event
        for event in events
        if event.site_id == query.site_id
        and event.arrival > query.after
        and oracle.holds(event, query.filter)
    ]


def draw_queries(random: Random, scene: Scene) -> list[NewEventsQuery]:
    places = [-1, -1, -1, *(event.arrival for event in scene.events)]
    return [
        NewEventsQuery(
            random.choice(SITES),
            random.choice((EVERYTHING, draw_filter(random, scene.words))),
            random.choice(places),
        )
        for _ in range(random.choice((1, 1, 2, 3, 7)))
    ]


@some
@given(random=st.randoms(use_true_random=False))
async def test_new_events_in_pages_are_those_behind_each_place(random: Random) -> None:
    scene = draw_scene(random)
    queries = draw_queries(random, scene)
    most = random.choice((1, 2, 5, 1_000))
    expected = [expected_events(scene.events, query) for query in queries]
    with tempfile.TemporaryDirectory() as folder:
        async with open_copy(Path(folder) / "copy.duckdb", ledger_id=LEDGER) as store:
            await put(store, Path(folder), scene.slices)
            found: list[list[StoredEvent]] = [[] for _ in queries]
            while True:
                page = await store.new_events(queries, most)
                for events, rows in zip(found, page.rows, strict=True):
                    events.extend(rows)
                if page.is_all:
                    break
                queries = [
                    NewEventsQuery(one.site_id, one.filter, max(one.after, page.through))
                    for one in queries
                ]

    assert found == expected
    assert page.through == last_arrival(scene.slices[-1][-1].position)


async def put(store: DuckDBStore, folder: Path, slices: Sequence[Sequence[Batch]]) -> None:
    for piece in slices:
        rows = write_slice(folder / "slice.csv", piece)
        await store.apply(folder / "slice.csv", rows, mark(piece[-1].position))


async def test_an_empty_copy_has_nothing_new(store: DuckDBStore) -> None:
    page = await store.new_events([NewEventsQuery("site", EVERYTHING, -1)], 10)

    assert (page.rows, page.through, page.is_all) == ([()], -1, True)


async def test_an_event_that_several_wait_for_is_one_object(store: DuckDBStore, feed: Feed) -> None:
    await feed(make_event(1), make_event(2, event_type="buy"))
    buys = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="buy")),))

    page = await store.new_events(
        [NewEventsQuery("site", EVERYTHING, -1), NewEventsQuery("site", buys, -1)], 10
    )

    assert [[event.event_id.int for event in rows] for rows in page.rows] == [[1, 2], [2]]
    assert page.rows[0][1] is page.rows[1][0]


# Activity


def activity(events: Sequence[StoredEvent], site_id: str, at: datetime) -> Activity:
    """What is going on, slow and obvious."""
    found = [
        event
        for event in events
        if event.site_id == site_id and at - FIVE_MINUTES < event.occurred_at <= at
    ]
    actors = {oracle.actor_of(event) for event in found} - {None}
    paths = Counter(event.path for event in found if event.path is not None)
    first = sorted(paths, key=lambda path: (-paths[path], path))[:10]
    return Activity(at, len(actors), len(found), tuple(first))


# Around the ends of the five minutes, within them, late and early.
DISTANCES = (
    timedelta(),
    MICROSECOND,
    -MICROSECOND,
    timedelta(seconds=-1),
    timedelta(seconds=-1, microseconds=-1),
    timedelta(seconds=-1.5),
    timedelta(seconds=1),
    timedelta(seconds=4),
    timedelta(seconds=200),
    timedelta(seconds=400),
    timedelta(seconds=-150),
    -FIVE_MINUTES,
    -FIVE_MINUTES + MICROSECOND,
    -FIVE_MINUTES - MICROSECOND,
    -FIVE_MINUTES + timedelta(seconds=1),
    -FIVE_MINUTES + timedelta(seconds=3),
    timedelta(days=-40),
)
PAUSES = (0, 1, 1, 1, 2, 3, 30, 298, 299, 300, 301, 1_000)
ACTORS = (None, "u1", "u2", "U1", "é", "")
PATHS = (None, *(f"/{letter}" for letter in "abcdefghijkl"), "/Ä", "/\U0001f600", "/\uffee", "")


@dataclass
class Story:
    """Batches and looks in turn, each at a moment."""

    random: Random
    number: int = 0
    position: int = 0
    at: datetime = NOON
    events: list[StoredEvent] = field(default_factory=list)

    def batch(self) -> Batch:
        self.position += self.random.choice((1, 2))
        batch = Batch(self.position, [self.event() for _ in range(self.random.choice((1, 3, 9)))])
        self.events += stored([batch])
        return batch

    def event(self) -> Event:
        self.number += 1
        return Event(
            event_id=UUID(int=self.number),
            site_id=self.random.choice(SITES),
            event_type="view",
            occurred_at=self.at + self.random.choice(DISTANCES),
            received_at=self.at,
            user_id=self.random.choice(ACTORS),
            visitor_id=self.random.choice(ACTORS),
            path=self.random.choice(PATHS),
        )


@dataclass
class Watcher:
    """A window of one site, and what it knows."""

    site_id: str
    window: Window = field(default_factory=Window)
    arrival: int = -1

    @property
    def known(self) -> KnownActivity:
        return KnownActivity(self.site_id, self.arrival, self.window.at)


@some
@given(random=st.randoms(use_true_random=False))
async def test_windows_and_counts_say_at_every_moment_what_plain_python_says(
    random: Random,
) -> None:
    story, watchers = Story(random), [Watcher(site_id) for site_id in SITES]
    with tempfile.TemporaryDirectory() as folder:
        async with open_copy(Path(folder) / "copy.duckdb", ledger_id=LEDGER) as store:
            for _ in range(random.choice((3, 8, 20))):
                if random.choice((True, True, False)):
                    await put(store, Path(folder), [[story.batch()]])
                story.at += timedelta(seconds=random.choice(PAUSES))
                looking = [watcher for watcher in watchers if random.choice((True, True, False))]
                expected = [activity(story.events, one.site_id, story.at) for one in looking]

                assert await moved(store, story.at, looking) == expected
                counted = await store.activity(story.at, [one.site_id for one in looking])
                assert list(counted.rows) == expected


async def moved(store: DuckDBStore, at: datetime, watchers: Sequence[Watcher]) -> list[Activity]:
    answer = await store.activity_changes(at, [watcher.known for watcher in watchers])
    second = int(at.timestamp())
    for watcher in watchers:
        watcher.arrival = last_arrival(answer.watermark.position) if answer.watermark else -1
    return [
        watcher.window.move(second, changes)
        for watcher, changes in zip(watchers, answer.rows, strict=True)
    ]


async def test_a_window_keeps_no_more_than_the_five_minutes_hold(
    store: DuckDBStore, feed: Feed
) -> None:
    watcher = Watcher("site")
    sizes, found = [], Activity(NOON, 0, 0, ())
    for step in range(40):
        at = NOON + step * timedelta(minutes=1)
        await feed(
            *(
                make_event(
                    number, at.isoformat()[:19], user_id=f"u{step} {number}", path=f"/{step}"
                )
                for number in range(200)
            )
        )
        [found] = await moved(store, at, [watcher])
        sizes.append(watcher.window.entries)

    assert (found.users, found.events) == (1_000, 1_000)
    # Actors who left stay until they are as many as the others, and a few.
    assert max(sizes) <= 2 * 1_000 + 300 + 200 + 10


async def test_no_site_has_no_activity(store: DuckDBStore) -> None:
    assert list((await store.activity(NOON, [])).rows) == []
    assert list((await store.activity_changes(NOON, [])).rows) == []
