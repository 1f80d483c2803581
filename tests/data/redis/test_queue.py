"""The queue in Redis: bounded, handed out once at a time, and nobody's fault taken for another's."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from data.redis.client import RedisUnavailable
from data.redis.entries import decode_entry, encode_entry
from data.redis.queue import Delivery, Letter, QueueLimits, waiting_for
from tests.data.redis.queueing import SOON, event, queue_on
from tests.fixtures.redis import RedisServer, running_redis


def entry(count: int = 1) -> tuple[int, bytes]:
    return count, encode_entry([event() for _ in range(count)], [])


async def test_entries_come_out_in_order_and_as_they_were_put_in(redis_server: RedisServer) -> None:
    entries = [entry(), entry(3), entry(2)]
    async with queue_on(redis_server) as queue:
        token, ids = await queue.append(entries)
        taken = await queue.take("one")
        state = await queue.state()

    assert [(one.events, one.content) for one in taken] == entries
    assert [one.entry_id for one in taken] == ids
    assert {one.times for one in taken} == {1}
    assert (state.token, state.events, state.entries, state.pending) == (token, 6, 3, 3)
    assert state.first == ids[0]
    assert state.last == ids[-1]


async def test_an_entry_goes_to_one_worker_and_leaves_once(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([entry(2)] * 10)
        one, other = await queue.take("one"), await queue.take("other")
        settled = [await queue.settle(one), await queue.settle(one)]
        state = await queue.state()

    assert (len(one), len(other)) == (10, 0)
    assert settled == [20, 0]
    assert (state.events, state.entries, state.pending, state.first) == (0, 0, 0, None)
    assert all(state.is_gone(each.entry_id) for each in one)


async def test_what_a_worker_is_given_at_once_is_bounded(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([(2_000, b"x")] * 5)
        await queue.append([(1, b"x" * 6_000_000)] * 4)
        await queue.append([(1, b"x")] * 1_500)
        sizes = []
        while taken := await queue.take("one"):
            sizes.append(len(taken))

    assert sizes == [3, 5, 1_000, 501]


async def test_a_full_queue_takes_what_fits_and_a_lone_large_entry(
    redis_server: RedisServer,
) -> None:
    async with queue_on(redis_server, QueueLimits(events=10)) as queue:
        _, first = await queue.append([entry(20)])
        _, full = await queue.append([entry()])
        await queue.settle(await queue.take("one"))
        _, mixed = await queue.append([entry(6), entry(6), entry(4)])
        state = await queue.state()

    assert first[0] is not None
    assert full == [None]
    assert [one is None for one in mixed] == [False, True, False]
    assert state.events == 10


async def test_what_a_worker_does_not_renew_another_takes_over(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([entry()] * 3)
        taken = await queue.take("one")
        early = await queue.reclaim("other", 60)
        await asyncio.sleep(3)
        await queue.renew("one", [taken[0].entry_id])
        late = await queue.reclaim("other", 2.5)

    assert early == []
    assert [one.entry_id for one in late] == [one.entry_id for one in taken[1:]]
    assert {one.times for one in late} == {2}


async def test_holding_an_entry_for_long_is_not_trying_it_often(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([entry()])
        [taken] = await queue.take("one")
        for _ in range(6):
            await queue.renew("one", [taken.entry_id])
        [again] = await queue.reclaim("other", 0)

    assert again.times == 2


async def test_an_entry_that_went_down_with_two_workers_comes_alone(
    redis_server: RedisServer,
) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([entry()] * 3)
        await queue.take("one")
        await queue.reclaim("other", 0)
        await queue.append([entry()] * 2)
        await queue.take("other")
        rounds = [await queue.reclaim("third", 0) for _ in range(4)]

    # The suspects one by one, renewed by being handed out; those of one worker together.
    assert [one.times for one in rounds[0]] == [3]
    assert sorted(len(each) for each in rounds) == [1, 1, 1, 1]


async def test_what_is_given_back_was_never_handed_out(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await queue.append([entry()] * 2)
        taken = await queue.take("one")
        await queue.give_back("one", taken, 10)
        again = await queue.reclaim("other", 9)

    assert [one.entry_id for one in again] == [one.entry_id for one in taken]
    assert {one.times for one in again} == {1}


async def test_a_worker_waits_for_the_next_entry_and_no_longer(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue, waiting_for(queue) as waiting:
        await queue.take("one")
        nothing = await waiting.one("one", 0.05)
        coming = asyncio.create_task(waiting.one("one", 20))
        await asyncio.sleep(0.1)
        put = entry(4)
        _, [entry_id] = await queue.append([put])
        [found] = await coming

    assert nothing == []
    assert found == Delivery(entry_id or b"", 1, *put)


async def test_what_is_refused_moves_to_the_dead_letters_once(redis_server: RedisServer) -> None:
    async with queue_on(redis_server, QueueLimits(dead_letters=3)) as queue:
        await queue.append([entry(2), entry(2)])
        one, other = await queue.take("one")
        letters = [Letter(1, b"a", "why"), Letter(1, b"b", "because")]
        moved = [await queue.bury(one, letters), await queue.bury(one, letters)]
        state = await queue.state()
        full = await queue.bury(other, letters)
        last = await queue.state()

    # A second time there is no room either, and nothing happens to what is gone.
    assert moved[0] is True
    assert (state.dead_letters, state.events, state.entries) == (2, 2, 1)
    assert full is False
    assert last == replace(state, now=last.now)


async def test_workers_are_counted_while_they_are_heard_of(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        before = (await queue.state()).workers
        await queue.renew("one", [])
        await queue.renew("other", [])
        two = (await queue.state()).workers
        await queue.leave("one")
        left = (await queue.state()).workers

    assert (before, two, left) == (0, 2, 1)


async def test_a_redis_whose_memory_is_full_takes_nothing_and_is_drained_all_the_same(
    redis_server: RedisServer,
) -> None:
    async with queue_on(redis_server) as queue, redis_server.client() as client:
        await queue.append([(1, b"x" * 100_000)] * 20)
        await client.config_set("maxmemory", "1mb")
        await client.config_set("maxmemory-policy", "noeviction")
        with pytest.raises(RedisUnavailable, match="OOM"):
            await queue.append([entry()])
        await queue.renew("one", [])
        taken = await queue.take("one")
        await queue.renew("one", [one.entry_id for one in taken])
        buried = await queue.bury(taken[0], [Letter(1, b"", "why")])
        settled = await queue.settle(taken[1:])
        state = await queue.state()
        await client.config_set("maxmemory", 0)
        _, [entry_id] = await queue.append([entry()])

    assert (len(taken), buried, settled) == (20, True, 19)
    assert (state.events, state.workers, state.dead_letters) == (0, 1, 1)
    assert entry_id


async def test_a_stream_that_was_lost_has_another_token(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue, redis_server.client() as client:
        token, [old] = await queue.append([entry()])
        await client.flushall()
        nothing = await queue.take("one")
        other, _ = await queue.append([entry()])
        missing = await queue.missing([old or b""])
        again = await queue.take("one")

    assert nothing == []
    assert token != other
    assert missing == {old}
    assert len(again) == 1


async def test_two_ledgers_share_a_redis_and_nothing_else(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        other = type(queue)(queue.redis, event().event_id, queue.limits)
        await queue.append([entry()])

        assert await other.take("one") == []
        assert (await other.state()).entries == 0
        assert len(await queue.take("one")) == 1


async def test_a_group_that_somebody_took_away_is_made_anew(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue, redis_server.client() as client:
        put = entry()
        await queue.append([put])
        await client.delete(queue.keys[1])
        taken = await queue.take("one")
        state = await queue.state()

    assert [decode_entry(one.content) for one in taken] == [decode_entry(put[1])]
    assert (state.events, state.entries) == (1, 1)


async def test_looking_tells_the_run_of_the_server_and_whether_it_keeps_a_file(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with queue_on(redis_server) as queue:
        _, one = await queue.look()
        await redis_server.kill()
        await redis_server.start()
        with suppress(RedisUnavailable):
            await queue.look()
        async with asyncio.timeout(SOON):
            await queue.redis.until_available()
        _, other = await queue.look()
    folder = tmp_path_factory.mktemp("durable")
    async with running_redis(folder, "--appendonly", "yes") as durable, queue_on(durable) as queue:
        _, kept = await queue.look()

    assert one["run_id"] != other["run_id"]
    assert (one["aof_enabled"], kept["aof_enabled"]) == (0, 1)
