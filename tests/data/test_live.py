"""Live data: every event once and in order, numbers that are right, and readers who come and go."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.event_store import StoreUnavailable
from data.events import StoredEvent
from data.follower import Follower
from data.live import Live
from data.live_events import EventBounds, LiveEvents
from data.live_streams import EventStream
from data.postgres.reads import Reads
from data.queries import EVERYTHING, EventFilter, Field, StringFilter
from tests.data.live_scene import NOW, SECONDS, Scene, opened, until
from tests.fixtures.ledger import Database

BUYS = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="buy")),))
BAD = EventFilter(fields=((Field.PATH, StringFilter(matches="(")),))


@pytest.fixture
async def scene(writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(writer, reader, tmp_path, lambda: datetime.now(UTC)) as one:
        yield one


async def read(stream: AsyncIterator[StoredEvent], number: int) -> list[int]:
    """The numbers of the next events."""
    async with asyncio.timeout(SECONDS):
        return [(await anext(stream)).event_id.int for _ in range(number)]


# Events


async def test_events_come_as_they_are_committed_and_nothing_older(scene: Scene) -> None:
    await scene.many(3)
    await scene.settled()
    stream = scene.live.events("shop", EVERYTHING)

    first = await scene.many(2)
    elsewhere = await scene.many(2, site_id="blog")
    second = await scene.many(1)

    assert await read(stream, 3) == first + second
    assert elsewhere == [6, 7]


async def test_each_filter_gets_what_passes_it(scene: Scene) -> None:
    all_events, buys = (scene.live.events("shop", wanted) for wanted in (EVERYTHING, BUYS))

    await scene.commit(scene.event(), scene.event(event_type="buy"), scene.event())
    await scene.commit(scene.event(event_type="buy"))

    assert await read(all_events, 4) == [1, 2, 3, 4]
    assert await read(buys, 2) == [2, 4]


async def test_a_thousand_readers_of_one_site_share_one_question(scene: Scene) -> None:
    streams = [scene.live.events("shop", EVERYTHING) for _ in range(1_000)]
    await asyncio.sleep(0.1)
    before = scene.reads("new_events")

    await scene.many(5)

    assert [await read(stream, 5) for stream in streams] == [[1, 2, 3, 4, 5]] * 1_000
    assert scene.reads("new_events") - before <= 3
    assert scene.value("live_open_streams", field="liveEvents") == 1_000


async def test_a_large_batch_reaches_a_reader_who_keeps_up_whole(scene: Scene) -> None:
    stream = scene.live.events("shop", EVERYTHING)

    numbers = await scene.many(5_000)

    assert await read(stream, 5_000) == numbers
    assert stream.missed == 0


async def test_rebuilds_neither_repeat_nor_lose_events(scene: Scene) -> None:
    await scene.many(50)
    await scene.settled()
    stream = scene.live.events("shop", EVERYTHING)
    before = await scene.many(1)
    seen: list[int] = []

    async def collect() -> None:
        async for event in stream:
            seen.append(event.event_id.int)  # noqa: PERF401 - looked at while it grows

    reading = asyncio.create_task(collect())
    committed = before
    for round_number in range(6):
        changing = asyncio.create_task(
            scene.follower.rebuild(lambda *_: None) if round_number % 2 else scene.start_over()
        )
        for _ in range(8):
            committed += await scene.many(3)
            await asyncio.sleep(0.02)
        await changing
    last = await scene.many(1)
    await until(lambda: last[0] in seen)
    await asyncio.sleep(0.3)
    reading.cancel()

    assert seen == committed + last
    assert scene.value("follow_rebuilds_total", reason="damaged") == 3


async def test_a_ledger_that_turns_back_is_followed_from_its_new_end(
    scene: Scene, database: Database
) -> None:
    await scene.many(5)
    await scene.settled()
    stream = scene.live.events("shop", EVERYTHING)
    old = [number for _ in range(4) for number in await scene.many(1)]
    assert await read(stream, 4) == old

    # A backup is restored: the last commits are gone, and others will take their positions.
    connection = await database.connect()
    async with connection.transaction():
        await connection.execute(
            "delete from events where batch_id in"
            " (select batch_id from ingest_batches where position > 1)"
        )
        await connection.execute("delete from ingest_batches where position > 1")
    await connection.close()
    await until(
        lambda: (
            scene.value("follow_rebuilds_total", reason="ahead_of_ledger") == 1
            and scene.follower.is_caught_up
        )
    )
    new = [number for _ in range(8) for number in await scene.many(1)]

    assert await read(stream, 8) == new


async def test_a_slow_reader_loses_the_oldest_events_and_hears_how_many(scene: Scene) -> None:
    scene.live.every_event.bounds = EventBounds(most_waiting=10)
    slow = scene.live.events("shop", EVERYTHING)
    await scene.many(4)
    assert await read(slow, 1) == [1]

    await scene.many(30)
    await until(lambda: scene.value("live_dropped_events_total") == 23)

    assert slow.missed == 0
    assert await read(slow, 10) == list(range(25, 35))
    assert slow.missed == 23


async def test_readers_who_leave_are_forgotten_however_they_do(scene: Scene) -> None:
    live = scene.live.every_event
    left, abandoned, unread, cancelled = (live_stream(scene) for _ in range(4))
    await left.aclose()

    async def around(stream: EventStream) -> AsyncIterator[StoredEvent]:
        async with aclosing(stream):
            async for event in stream:
                yield event

    # A generator that was never begun closes nothing; it lets go of what it holds.
    wrapped = around(unread)
    reading = asyncio.create_task(read(cancelled, 1))
    await asyncio.sleep(0)
    assert len(live) == 3
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    del abandoned, unread, wrapped, cancelled, reading
    # This very step still holds what it waited for.
    await asyncio.sleep(0)
    gc.collect()

    assert len(live) == 0
    # The question that was asked for them while they were there.
    await until(lambda: scene.reads("new_events") == 1)
    await scene.many(1)
    await until(lambda: scene.value("follow_applied_rows_total") == 1)
    assert scene.reads("new_events") == 1
    with pytest.raises(StopAsyncIteration):
        await anext(left)


def live_stream(scene: Scene) -> EventStream:
    return scene.live.events("shop", EVERYTHING)


async def test_a_filter_that_the_store_cannot_work_with_harms_nobody_else(scene: Scene) -> None:
    good, bad = (scene.live.events("shop", wanted) for wanted in (EVERYTHING, BAD))

    await scene.many(2)

    assert await read(good, 2) == [1, 2]
    with pytest.raises(StoreUnavailable):
        await read(bad, 1)
    await scene.many(1)
    assert await read(good, 1) == [3]


async def test_a_bad_filter_alone_ends_too(scene: Scene) -> None:
    bad = scene.live.events("shop", BAD)
    await scene.many(1)

    with pytest.raises(StoreUnavailable):
        await read(bad, 1)


async def test_who_comes_while_a_bad_filter_is_read_for_another_hears_of_it_too(
    scene: Scene,
) -> None:
    first = scene.live.events("shop", BAD)
    for _ in range(3):
        await asyncio.sleep(0)  # until the question is on its way
    first.close()
    second = scene.live.events("shop", BAD)

    with pytest.raises(StoreUnavailable):
        await read(second, 1)


async def test_live_events_outlive_a_ledger_that_goes_away(
    scene: Scene, database: Database
) -> None:
    stream = scene.live.events("shop", EVERYTHING)
    await scene.many(1)
    connection = await database.connect()
    await connection.execute("alter table ingest_batches rename to away")
    await until(lambda: not scene.follower.is_healthy)
    await connection.execute("alter table away rename to ingest_batches")
    await connection.close()
    await scene.many(1)

    assert await read(stream, 2) == [1, 2]


async def test_a_reader_with_much_to_read_lets_others_work(scene: Scene) -> None:
    stream = scene.live.events("shop", EVERYTHING)
    await scene.many(1_000)
    await until(lambda: stream.waiting == 1_000)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(work())
    await read(stream, 1_000)
    working.cancel()

    assert turns >= 20


async def test_streams_end_with_live_data(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with opened(writer, reader, tmp_path, lambda: NOW) as scene:
        reading = [
            asyncio.create_task(collected(scene.live.events("shop", EVERYTHING))),
            asyncio.create_task(collected(scene.live.activity("shop"))),
        ]
        await asyncio.sleep(0.05)

    assert len(await asyncio.gather(*reading)) == 2


async def collected(stream: AsyncIterator[object]) -> list[object]:
    async with asyncio.timeout(SECONDS):
        return [item async for item in stream]


def test_a_stream_is_a_generator_to_those_who_close_generators() -> None:
    assert isinstance(EventStream(lambda _: None, -1, 10, lambda _: None), AsyncGenerator)


async def test_an_error_thrown_into_a_stream_comes_back_and_ends_it() -> None:
    stream = EventStream(lambda _: None, -1, 10, lambda _: None)

    with pytest.raises(ValueError, match="why"):
        await stream.athrow(ValueError("why"))
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_nothing_can_be_listened_to_before_the_ledger_was_seen(scene: Scene) -> None:
    follower = Follower(scene.copy, Reads(scene.writer), scene.writer, scene.metrics.follow)
    blind = Live(follower, LiveEvents(scene.copy, scene.metrics.live), scene.live.current_activity)

    with pytest.raises(StoreUnavailable):
        blind.events("shop", EVERYTHING)
