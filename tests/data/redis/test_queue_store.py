"""Taking events by the queue: what is acknowledged is in Redis, or will be again."""

import asyncio
import re
from pathlib import Path
from secrets import token_hex

import pytest
from structlog.testing import capture_logs

from data.events import Event
from data.intake import StoreAway, StoreFull, Taken
from data.redis.entries import decode_entry
from data.redis.queue import Queue, QueueLimits
from data.redis.queue_store import QueueUnusable
from data.redis.queue_watch import WatchPace
from tests.data.redis.queueing import SOON, event, process, queue_on, until
from tests.fixtures.redis import RedisServer, running_redis


async def drained(queue: Queue) -> list[Event]:
    """All events that wait, taken out as a worker does."""
    found = list[Event]()
    while taken := await queue.take("one"):
        found += [each for one in taken for each in decode_entry(one.content).events]
        await queue.settle(taken)
    return found


def ids(events: list[Event]) -> list[str]:
    return sorted(str(one.event_id) for one in events)


async def test_requests_at_the_same_time_share_a_round_trip(durable_redis: RedisServer) -> None:
    sent = [event() for _ in range(200)]
    async with process(durable_redis, must_last=True) as one:
        before = one.metrics.redis.uses["succeeded"]._value.get()
        taken = await asyncio.gather(*(one.store.submit([each], [], 200) for each in sent))
        trips = one.metrics.redis.uses["succeeded"]._value.get() - before

        assert taken == [Taken(None)] * 200
        assert trips < 50
        assert one.value("appended_events_total", outcome="queued") == 200
        assert ids(await drained(one.queue)) == ids(sent)


async def test_what_is_held_is_let_go_once_it_has_left_the_queue(
    durable_redis: RedisServer,
) -> None:
    async with process(durable_redis) as one:
        for _ in range(5):
            await one.store.submit([event()], [], 200)
        held = len(one.store.watch.held)
        await drained(one.queue)
        await until(lambda: not len(one.store.watch.held))

        assert held == 5
        assert one.value("held_bytes") == 0


async def test_a_full_queue_says_so_and_takes_nothing_of_the_request(
    durable_redis: RedisServer,
) -> None:
    async with process(durable_redis, QueueLimits(events=10)) as one:
        await one.store.submit([event() for _ in range(8)], [], 200)
        with pytest.raises(StoreFull):
            await one.store.submit([event() for _ in range(3)], [], 200)

        assert len(await drained(one.queue)) == 8
        await one.store.submit([event() for _ in range(3)], [], 200)
        assert one.value("appended_events_total", outcome="full") == 3


async def test_a_redis_that_keeps_no_file_is_refused_where_it_must(
    redis_server: RedisServer,
) -> None:
    with pytest.raises(QueueUnusable, match="appendonly yes"):
        async with process(redis_server, must_last=True):
            pass


async def test_a_redis_that_may_evict_the_queue_is_refused_where_it_must(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
    async with running_redis(tmp_path, *options) as server:
        with pytest.raises(QueueUnusable, match="noeviction"):
            async with process(server, must_last=True):
                pass


async def test_elsewhere_it_is_used_with_a_warning(redis_server: RedisServer) -> None:
    with capture_logs() as logs:
        async with process(redis_server) as one:
            assert await one.store.submit([event()], [], 200) == Taken(None)
            durability = one.store.watch.durability

    assert durability
    assert not durability.is_durable
    # What Redis is slow to show of what it took is given again, which counts once.
    told = [entry["event"] for entry in logs if entry["event"] != "queue.given_again"]
    assert told == ["queue.not_durable"]


async def test_a_redis_whose_file_is_switched_off_takes_nothing_more(
    durable_redis: RedisServer,
) -> None:
    async with process(durable_redis, must_last=True) as one, durable_redis.client() as client:
        await one.store.submit([event()], [], 200)
        await client.config_set("appendonly", "no")
        await until(lambda: one.store.why_not_used() is not None)
        with pytest.raises(StoreAway, match="append-only"):
            await one.store.submit([event()], [], 200)
        await client.config_set("appendonly", "yes")
        await until(lambda: one.store.why_not_used() is None)

        assert await one.store.submit([event()], [], 200) == Taken(None)


async def test_a_redis_that_is_away_is_the_next_stores_turn(durable_redis: RedisServer) -> None:
    async with process(durable_redis) as one:
        durable_redis.freeze()
        for _ in range(3):
            with pytest.raises(StoreAway):
                await one.store.submit([event()], [], 200)
        durable_redis.thaw()
        await until(lambda: one.queue.redis.is_available)

        assert await one.store.submit([event()], [], 200) == Taken(None)


async def test_a_full_memory_is_the_next_stores_turn(durable_redis: RedisServer) -> None:
    async with process(durable_redis) as one, durable_redis.client() as client:
        await client.config_set("maxmemory", "1kb")
        with pytest.raises(StoreAway, match="OOM"):
            await one.store.submit([event()], [], 200)

        assert one.queue.redis.is_available


@pytest.mark.parametrize("how", ["killed", "flushed"])
async def test_a_redis_that_comes_back_empty_is_given_all_that_waits_again(
    how: str, redis_server: RedisServer
) -> None:
    sent = [event() for _ in range(450)]
    async with process(redis_server) as one, process(redis_server) as other:
        for number, each in enumerate(sent[:-1]):
            await (one if number % 2 else other).store.submit([each], [], 200)
        if how == "killed":
            await redis_server.kill()
            await redis_server.start()
            await until(lambda: one.queue.redis.is_available)
        else:
            async with redis_server.client() as client:
                await client.flushall()
        # In between or not: what comes now is queued or refused, and never lost.
        while True:
            try:
                await one.store.submit([sent[-1]], [], 200)
                break
            except StoreAway:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(SOON):
            while (await one.queue.state()).events < len(sent):
                await asyncio.sleep(0.05)

        found = await drained(one.queue)
        assert set(ids(found)) == set(ids(sent))
        await until(lambda: not len(one.store.watch.held) and not len(other.store.watch.held))
        assert one.value("reappended_entries_total") >= 224


async def test_a_redis_that_lost_its_last_moments_is_given_just_those_again(
    durable_redis: RedisServer,
) -> None:
    sent = [event() for _ in range(60)]
    file = durable_redis.folder / "appendonly.aof"
    async with process(durable_redis) as one:
        for each in sent[:40]:
            await one.store.submit([each], [], 200)
        size = file.stat().st_size
        for each in sent[40:]:
            await one.store.submit([each], [], 200)
        await durable_redis.kill()
        with file.open("r+b") as opened:
            opened.truncate(size)
        await durable_redis.start()
        await until(lambda: one.value("reappended_entries_total") > 0)

        assert one.value("reappended_entries_total") == 20
        assert ids(await drained(one.queue)) == ids(sent)


async def test_a_redis_that_kept_all_is_given_nothing_again(durable_redis: RedisServer) -> None:
    sent = [event() for _ in range(40)]
    async with process(durable_redis) as one:
        for each in sent:
            await one.store.submit([each], [], 200)
        run_id = one.store.watch.durability and one.store.watch.durability.run_id
        await durable_redis.kill()
        await durable_redis.start()
        await until(
            lambda: bool(one.store.watch.durability and one.store.watch.durability.run_id != run_id)
        )

        assert one.value("reappended_entries_total") == 0
        assert ids(await drained(one.queue)) == ids(sent)


async def test_what_one_process_holds_is_bounded_and_the_rest_is_said(
    durable_redis: RedisServer,
) -> None:
    pace = WatchPace(look_seconds=0.05, held_bytes=2_000)
    async with process(durable_redis, pace=pace) as one:
        for _ in range(10):
            await one.store.submit([event(), event()], [], 200)
        bare = one.store.watch.held.bare_events
        said = one.value("bare_events")
        await drained(one.queue)
        await until(lambda: one.store.watch.held.bare_events == 0)

    assert 0 < bare < 20
    assert said == bare


async def test_giving_again_goes_on_where_it_was_cut_off(redis_server: RedisServer) -> None:
    # Too small to be compressed, so that they take the room that they seem to.
    sent = [event(url="/" + "x" * 3_000) for _ in range(650)]
    async with process(redis_server) as one, redis_server.client() as client:
        for start in range(0, len(sent), 50):
            group = sent[start : start + 50]
            await asyncio.gather(*(one.store.submit([each], [], 200) for each in group))
        await client.flushall()
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + 1_200_000)
        async with asyncio.timeout(SOON):
            while not (await one.queue.state()).entries:
                await asyncio.sleep(0.01)
        # Time for many more attempts.
        await asyncio.sleep(0.5)
        cut_off = (await one.queue.state()).entries
        await client.config_set("maxmemory", 0)
        await until(lambda: one.value("reappended_entries_total") >= len(sent))
        entries = (await one.queue.state()).entries

        assert 0 < cut_off < len(sent)
        assert entries == len(sent)
        assert ids(await drained(one.queue)) == ids(sent)
        await until(lambda: not len(one.store.watch.held))


async def test_large_entries_are_given_again_little_by_little(redis_server: RedisServer) -> None:
    # One script with all of them would take longer than Redis has for an answer.
    sent = [event(properties=token_hex(400_000)) for _ in range(8)]
    async with process(redis_server) as one, redis_server.client() as client:
        for each in sent:
            await one.store.submit([each], [], 800_000)
        held = one.value("held_bytes")
        await client.config_set("slowlog-log-slower-than", 0)
        await client.flushall()
        await until(lambda: one.value("reappended_entries_total") >= len(sent))
        # It tells of each argument how many bytes it leaves out.
        said = [str(call["command"]) for call in await client.slowlog_get(1_000)]
        sizes = [sum(map(int, re.findall(r"\((\d+) more bytes\)", call))) for call in said]

        assert held / 2 < sum(sizes)
        assert max(sizes) < held / 2
        assert set(ids(await drained(one.queue))) == set(ids(sent))


async def test_what_redis_does_not_take_again_is_committed_from_here(
    redis_server: RedisServer,
) -> None:
    sent = [event() for _ in range(30)]
    pace = WatchPace(look_seconds=0.05, rescue_seconds=0.3)
    async with process(redis_server, pace=pace) as one, redis_server.client() as client:
        for each in sent:
            await one.store.submit([each], [], 200)
        await client.config_set("maxmemory", "1kb")
        await client.flushall()
        await until(lambda: not len(one.store.watch.held))

        assert one.queue.redis.is_available
        assert ids(one.other.taken) == ids(sent)


async def test_what_is_held_is_committed_from_here_when_redis_stays_away(
    durable_redis: RedisServer,
) -> None:
    sent = [event() for _ in range(30)]
    pace = WatchPace(look_seconds=0.05, rescue_seconds=0.3)
    async with process(durable_redis, pace=pace) as one:
        one.other.is_away = True
        for each in sent:
            await one.store.submit([each], [], 200)
        await durable_redis.kill()
        with pytest.raises(StoreAway):
            await one.store.submit([event()], [], 200)
        await asyncio.sleep(0.5)
        kept = len(one.store.watch.held)
        one.other.is_away = False
        await until(lambda: not len(one.store.watch.held))

    assert kept == 30
    assert ids(one.other.taken) == ids(sent)


async def test_a_process_that_ends_while_redis_is_away_leaves_nothing_behind(
    durable_redis: RedisServer,
) -> None:
    sent = [event() for _ in range(30)]
    async with process(durable_redis) as one:
        for each in sent:
            await one.store.submit([each], [], 200)
        await durable_redis.kill()
        with pytest.raises(StoreAway):
            await one.store.submit([event()], [], 200)

    assert ids(one.other.taken) == ids(sent)


async def test_a_process_that_ends_while_it_hands_over_leaves_nothing_behind(
    durable_redis: RedisServer,
) -> None:
    sent = [event() for _ in range(250)]
    pace = WatchPace(look_seconds=0.05, rescue_seconds=0.1)
    async with process(durable_redis, pace=pace) as one:
        for each in sent:
            await one.store.submit([each], [], 200)
        one.other.is_ready.clear()
        await durable_redis.kill()
        await until(lambda: one.other.asked > 0)
        # In the middle of the end, both would have been at it.
        asyncio.get_running_loop().call_later(0.3, one.other.is_ready.set)

    assert ids(one.other.taken) == ids(sent)
    assert not len(one.store.watch.held)


async def test_what_was_handed_to_a_process_that_closes_is_queued(
    durable_redis: RedisServer,
) -> None:
    sent = [event() for _ in range(300)]
    async with process(durable_redis) as one:
        waiting = [asyncio.create_task(one.store.submit([each], [], 200)) for each in sent]
        await asyncio.sleep(0)
    taken = await asyncio.gather(*waiting)
    with pytest.raises(StoreAway, match="stopping"):
        await one.store.submit([event()], [], 200)

    assert taken == [Taken(None)] * 300
    async with queue_on(durable_redis) as queue:
        assert ids(await drained(queue)) == ids(sent)
