"""Rate limits counted in Redis: together while it is there, by each process while it is not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from limits import RateLimitItemPerSecond

from data.rate_limits import OwnWindows, Windows
from data.redis.client import RedisConnection, RedisPace, open_redis
from data.redis.limits import SharedWindows
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer, running_redis
from tests.fixtures.windows import lasting_window

SOON = 30.0
FIVE = RateLimitItemPerSecond(5, lasting_window())


@asynccontextmanager
async def windows(server: RedisServer) -> AsyncIterator[SharedWindows]:
    """The windows of one process."""
    metrics = Metrics.create()
    pace = RedisPace(answer_seconds=1.5, look_seconds=0.1)
    async with open_redis(server.url, metrics.redis, pace) as redis:
        yield SharedWindows(redis, "footfall:test:rates", metrics.rate_limits)


async def until(redis: RedisConnection, *, available: bool) -> None:
    async with asyncio.timeout(SOON):
        while redis.is_available is not available:
            await asyncio.sleep(0.02)


async def taken(windows: Windows, name: str, times: int) -> int:
    """How many of so many requests at once were within the limit."""
    standings = await asyncio.gather(*(windows.take(name, FIVE) for _ in range(times)))
    return sum(standing.is_within for standing in standings)


async def test_processes_count_together(redis_server: RedisServer) -> None:
    async with windows(redis_server) as one, windows(redis_server) as other:
        assert one.is_shared
        assert [(await w.take("a", FIVE)).remaining for w in (one, other, one)] == [4, 3, 2]
        both = await asyncio.gather(taken(one, "a", 10), taken(other, "a", 10))
        refused = await other.take("a", FIVE)

        assert sum(both) == 2
        assert (refused.is_within, refused.remaining, refused.limit) == (False, 0, 5)
        assert 0 < refused.reset_seconds <= FIVE.get_expiry()
        assert await taken(one, "b", 10) == 5


async def test_counters_go_by_themselves(redis_server: RedisServer) -> None:
    async with windows(redis_server) as one:
        await one.take("a", RateLimitItemPerSecond(5, 6))
        async with redis_server.client() as client:
            keys = [key async for key in client.scan_iter()]
            assert [await client.pttl(key) for key in keys] > [0]
            async with asyncio.timeout(SOON):
                while await client.dbsize():
                    await asyncio.sleep(0.05)


async def test_while_redis_is_away_each_counts_for_itself(redis_server: RedisServer) -> None:
    async with windows(redis_server) as one, windows(redis_server) as other:
        assert await taken(one, "a", 4) == 4
        await redis_server.kill()

        first = [await taken(one, "a", 10), await taken(other, "a", 10)]
        await until(one.redis, available=False)
        assert first == [5, 5]
        assert not one.is_shared
        assert await taken(one, "a", 10) == 0

        await redis_server.start()
        await until(one.redis, available=True)
        await until(other.redis, available=True)
        together = [await taken(one, "a", 3), await taken(other, "a", 10)]
        assert together == [3, 2]
        places = {place: counter._value.get() for place, counter in one.metrics.places.items()}
        assert places["redis"] >= 7
        assert places["memory"] >= 20


async def test_a_redis_that_hangs_holds_up_one_request_at_most(redis_server: RedisServer) -> None:
    async with windows(redis_server) as one:
        await one.take("a", FIVE)
        redis_server.freeze()
        try:
            assert await taken(one, "a", 10) == 5
            await until(one.redis, available=False)
            assert await taken(one, "b", 10) == 5
        finally:
            redis_server.thaw()
        await until(one.redis, available=True)


async def test_a_redis_without_room_is_done_without(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("full")
    async with (
        running_redis(folder, "--maxmemory", "1", "--maxmemory-policy", "noeviction") as full,
        windows(full) as one,
    ):
        assert await taken(one, "a", 10) == 5
        assert one.redis.is_available


async def test_a_process_alone_keeps_a_bounded_number_of_counters() -> None:
    own = OwnWindows(most=100)
    outcomes = Counter([await taken(own, f"client {n}", 6) for n in range(500)])
    storage = own._limiter.storage

    assert outcomes == {5: 500}
    assert len(vars(storage)["storage"]) <= 100
    assert len(vars(storage)["expirations"]) <= 100


async def test_and_forgets_those_that_have_ended() -> None:
    own, brief = OwnWindows(), RateLimitItemPerSecond(5, 1)
    for number in range(50):
        await own.take(f"client {number}", brief)
    await asyncio.sleep(2.1)  # what counts lives for two windows
    await own.take("another", brief)

    assert len(vars(own._limiter.storage)["expirations"]) == 1
