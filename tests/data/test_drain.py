"""Draining the queue: everything ends up in the ledger once, or among the dead letters."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from structlog.typing import EventDict

from data.drain import DrainPace, Worker
from data.events import Event, Rejection, RejectionCode
from data.postgres.append import Append, Appended, append
from data.postgres.engine import LedgerUnavailable
from data.redis.dead_letters import DeadLetter, delete_letters, letters_after
from data.redis.entries import decode_entry, encode_entry
from data.redis.queue import Queue, QueueLimits
from telemetry.logs import current_correlation_id
from telemetry.metrics import Metrics
from tests.data.redis.queueing import NOW, SOON, event, queue_on, until
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer

PACE = DrainPace(
    wait_seconds=0.05,
    gather_seconds=0.01,
    idle_seconds=0.3,
    renew_seconds=0.05,
    reclaim_seconds=0.05,
    most_pause_seconds=0.1,
    grace_seconds=10,
)


@dataclass(slots=True)
class Running:
    """A worker at work."""

    worker: Worker
    metrics: Metrics
    task: asyncio.Task[None]
    positions: list[int] = field(default_factory=list)

    def value(self, name: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(f"footfall_worker_{name}", labels)
        assert found is not None, name
        return found


@asynccontextmanager
async def working(
    queue: Queue, append_: Append, name: str = "one", pace: DrainPace = PACE
) -> AsyncIterator[Running]:
    metrics, positions = Metrics.create(), list[int]()
    worker = Worker(name, queue, append_, positions.append, metrics.worker, metrics.queue, pace)
    task = asyncio.create_task(worker.run())
    running = Running(worker, metrics, task, positions)
    try:
        yield running
    finally:
        worker.stop()
        async with asyncio.timeout(SOON):
            await task


async def put(queue: Queue, *groups: Sequence[Event], rejected: Sequence[Rejection] = ()) -> None:
    await queue.append(
        [(len(group) + len(rejected), encode_entry(group, rejected)) for group in groups]
    )


async def until_empty(queue: Queue) -> None:
    async with asyncio.timeout(SOON):
        while (await queue.state()).entries:
            await asyncio.sleep(0.02)


async def stored(database: Database) -> list[str]:
    connection = await database.connect()
    rows = await connection.fetch("select event_id::text from events order by 1")
    await connection.close()
    return [row[0] for row in rows]


async def letters_of(queue: Queue) -> Sequence[DeadLetter]:
    return (await letters_after(queue, None, 10)).letters


def ids(*groups: Sequence[Event]) -> list[str]:
    return sorted(str(one.event_id) for group in groups for one in group)


def with_correlation_id(_: object, __: str, entry: EventDict) -> EventDict:
    return {**entry, "correlation_id": current_correlation_id()}


def bad() -> Event:
    """An event that PostgreSQL does not take, though the pipeline's rules know of no such one."""
    return event(user_id="half\x00way")


async def test_events_and_rejections_are_committed_and_leave_the_queue(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    groups = [[event() for _ in range(number)] for number in (1, 50, 700, 2, 3_000, 4_000)]
    rejection = Rejection("shop", RejectionCode.INVALID_URL, "no", "{}", 2, NOW)
    async with queue_on(redis_server) as queue:
        await put(queue, *groups)
        await put(queue, [event()], rejected=[rejection])
        async with working(queue, partial(append, writer)) as one:
            await until_empty(queue)
            await put(queue, [event()])
            await until_empty(queue)
            # What has left the queue is counted a moment later.
            await until(lambda: one.value("drained_events_total") >= sum(map(len, groups)) + 3)
            drained = one.value("drained_events_total")
        state = await queue.state()

    assert len(await stored(database)) == sum(map(len, groups)) + 2
    assert set(ids(*groups)) <= set(await stored(database))
    assert drained == sum(map(len, groups)) + 3
    assert one.positions == sorted(set(one.positions))
    assert (state.events, state.pending, state.workers) == (0, 0, 0)


async def test_an_entry_that_comes_twice_counts_once(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    group = [event() for _ in range(20)]
    async with queue_on(redis_server) as queue:
        await put(queue, *[group] * 10)
        async with (
            working(queue, partial(append, writer)),
            working(queue, partial(append, writer), "other"),
        ):
            await until_empty(queue)

    assert await stored(database) == ids(group)


async def test_what_a_dead_worker_had_in_hand_another_takes_over(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    groups = [[event()] for _ in range(30)]
    async with queue_on(redis_server) as queue:
        await put(queue, *groups)
        assert len(await queue.take("dead")) == 30
        async with working(queue, partial(append, writer)) as one:
            await until_empty(queue)
            reclaimed = one.value("reclaimed_entries_total")

    assert reclaimed == 30
    assert await stored(database) == ids(*groups)


async def test_what_a_slow_worker_has_in_hand_nobody_takes(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    gate = asyncio.Event()

    async def slow(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        await gate.wait()
        return await append(writer, events, rejections)

    async with queue_on(redis_server) as queue:
        await put(queue, [event()])
        # More than this process may be held up.
        pace = replace(PACE, idle_seconds=2.5)
        async with working(queue, slow, pace=pace):
            async with asyncio.timeout(SOON):
                while not (await queue.state()).pending:
                    await asyncio.sleep(0.02)
            async with working(queue, partial(append, writer), "other", pace) as other:
                # Twice as long as an entry may be idle.
                await asyncio.sleep(5)
                reclaimed = other.value("reclaimed_entries_total")
            gate.set()
            await until_empty(queue)

    assert reclaimed == 0
    assert len(await stored(database)) == 1


async def test_while_the_ledger_is_away_nothing_leaves_the_queue(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    away = True

    async def moody(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        if away:
            raise LedgerUnavailable("the connection was refused")
        return await append(writer, events, rejections)

    groups = [[event() for _ in range(10)] for _ in range(20)]
    async with queue_on(redis_server) as queue:
        await put(queue, *groups)
        async with working(queue, moody) as one:
            await until(lambda: one.value("retries_total") >= 5)
            state = await queue.state()
            away = False
            await until_empty(queue)

    assert (state.entries, state.dead_letters) == (20, 0)
    assert await stored(database) == ids(*groups)


async def test_a_worker_that_is_stopped_meanwhile_gives_back_what_it_has(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    async def away(_: Sequence[Event], __: Sequence[Rejection]) -> Appended:
        raise LedgerUnavailable("the connection was refused")

    patient = replace(PACE, idle_seconds=3_600)
    async with queue_on(redis_server) as queue:
        await put(queue, [event()])
        for name in ("one", "two", "three", "four", "five", "six", "seven"):
            async with working(queue, away, name, patient) as one:
                await until(lambda one=one: one.value("retries_total") >= 1)  # type: ignore[misc]
        # At once, and not as one that seven workers died of.
        async with working(queue, partial(append, writer), "last", patient):
            await until_empty(queue)
        state = await queue.state()

    assert state.dead_letters == 0
    assert len(await stored(database)) == 1


@pytest.mark.parametrize("heeds", [True, False])
async def test_a_worker_that_is_stopped_while_a_commit_hangs_ends_and_others_go_on_with_it(
    heeds: bool, redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    gate = asyncio.Event()

    async def hanging(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                # A driver may wait on, for what a server that hangs does not say.
                if heeds:
                    raise
        return await append(writer, events, rejections)

    hurried, group = replace(PACE, idle_seconds=3_600, grace_seconds=0.1), [event()]
    async with queue_on(redis_server) as queue:
        await put(queue, group)
        async with working(queue, hanging, "one", hurried) as one:
            async with asyncio.timeout(SOON):
                while not (await queue.state()).pending:
                    await asyncio.sleep(0.02)
        late = list(one.worker._tasks)
        # At once: nobody waits until it has been idle for an hour.
        async with working(queue, partial(append, writer), "other", hurried) as other:
            await until_empty(queue)
            reclaimed = other.value("reclaimed_entries_total")
        gate.set()
        await asyncio.gather(*late)

    assert len(late) == (0 if heeds else 1)
    assert reclaimed == 1
    assert await stored(database) == ids(group)


async def test_one_refused_event_sinks_no_other(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    good, refused = [[event() for _ in range(150)] for _ in range(4)], [bad(), bad()]
    async with queue_on(redis_server) as queue:
        await put(queue, good[0], [*good[1], refused[0], *good[2]], [refused[1]], good[3])
        with capture_logs([with_correlation_id]) as logs:
            async with working(queue, partial(append, writer)) as one:
                await until_empty(queue)
            counted = one.value("refused_events_total", reason="refused")
        letters = await letters_of(queue)

    assert await stored(database) == ids(*good)
    assert counted == 2
    assert [decode_entry(letter.content).events for letter in letters] == [[one] for one in refused]
    for letter in letters:
        assert (letter.events, letter.tries) == (1, 1)
        assert letter.reason.startswith("it holds a character that the database does not store")
        assert "invalid byte sequence" not in letter.reason
        assert timedelta() <= letter.failed_at - letter.queued_at < timedelta(minutes=1)
    # What the driver said is in the log alone, under the id that the letter names.
    buried = [one for one in logs if one["event"] == "worker.buried"]
    assert len(buried) == 2
    for line, letter in zip(buried, letters, strict=True):
        assert "invalid byte sequence" in line["said"][0]
        assert isinstance(line["correlation_id"], str)
        assert letter.reason.endswith(f"under the correlation id {line['correlation_id']}")


async def test_what_cannot_be_decoded_is_kept_as_it_is(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    async with queue_on(redis_server) as queue, redis_server.client() as client:
        await put(queue, [event()])
        await queue.append([(3, b"\x09 from the future")])
        await client.xadd(queue.keys[0], {"somebody": "else's"})
        async with working(queue, partial(append, writer)):
            await until_empty(queue)
        letters = await letters_of(queue)
        state = await queue.state()

    assert [(one.events, one.content) for one in letters] == [
        (3, b"\x09 from the future"),
        (0, b""),
    ]
    assert all("decoded" in one.reason for one in letters)
    assert state.events == 0
    assert len(await stored(database)) == 1


async def test_what_kills_every_worker_goes_and_takes_no_other_entry_with_it(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    poison, groups = event(user_id="poison"), [[event()] for _ in range(10)]

    async def mortal(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        if poison in events:
            raise SystemError("the worker dies of it")
        return await append(writer, events, rejections)

    async with queue_on(redis_server) as queue:
        await put(queue, *groups[:5], [poison], *groups[5:])
        # Captured: showing the traceback would take longer than all else.
        with capture_logs() as logs:
            async with working(queue, mortal) as one:
                await until_empty(queue)
            counted = one.value("refused_events_total", reason="poison")
        [letter] = await letters_of(queue)

    assert counted == 1
    assert sum(entry["event"] == "worker.failed" for entry in logs) == 5
    assert decode_entry(letter.content).events == [poison]
    assert letter.tries == 6
    assert await stored(database) == ids(*groups)


async def test_while_the_dead_letters_are_full_a_refused_event_stays_in_the_queue(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    async with queue_on(redis_server, QueueLimits(dead_letters=1)) as queue:
        await put(queue, [bad()], [bad()], [event()])
        async with working(queue, partial(append, writer)) as one:
            await until(lambda: one.value("refused_events_total", reason="full") >= 8)
            state = await queue.state()
            [letter] = await letters_of(queue)
            await delete_letters(queue, [letter.letter_id])
            await until_empty(queue)
        [other] = await letters_of(queue)

    assert (state.entries, state.dead_letters) == (1, 1)
    # However often it was tried: it is there for what it holds.
    assert "does not store" in other.reason
    assert len(await stored(database)) == 1


async def test_dead_letters_are_queued_anew_as_far_as_there_is_room(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    async with queue_on(redis_server, QueueLimits(events=2)) as queue:
        for _ in range(3):
            await queue.append([(1, b"?")])
            async with working(queue, partial(append, writer)):
                await until_empty(queue)
        letters = await letters_of(queue)
        replayed = await queue.replay([one.letter_id for one in letters])
        again = await queue.replay([letters[0].letter_id, "99-99"])
        state = await queue.state()

    assert len(letters) == 3
    assert (replayed, again) == (2, 0)
    assert (state.events, state.entries, state.dead_letters) == (2, 2, 1)


async def test_a_redis_that_goes_and_comes_back_is_drained_by_the_same_worker(
    durable_redis: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    groups = [[event() for _ in range(5)] for _ in range(40)]
    async with queue_on(durable_redis) as queue:
        await put(queue, *groups[:20])
        async with working(queue, partial(append, writer)):
            await durable_redis.kill()
            await asyncio.sleep(0.3)
            await durable_redis.start()
            async with asyncio.timeout(SOON):
                await queue.redis.until_available()
            await put(queue, *groups[20:])
            await until_empty(queue)

    assert await stored(database) == ids(*groups)


async def test_workers_share_what_waits(
    redis_server: RedisServer, writer: AsyncEngine, database: Database
) -> None:
    async with queue_on(redis_server) as queue:
        await put(queue, *[[event() for _ in range(100)] for _ in range(200)])
        async with (
            working(queue, partial(append, writer), "one") as one,
            working(queue, partial(append, writer), "two") as two,
        ):
            await until_empty(queue)
            workers = (await queue.state()).workers

        # Read when both have ended: what has left the queue is counted a moment later.
        shares = [each.value("drained_events_total") for each in (one, two)]
    assert workers == 2
    assert sum(shares) == 20_000
    assert min(shares) > 0
    assert len(await stored(database)) == 20_000
