"""Persisted queries in Redis: shared, bounded, and never needed."""

import asyncio
from collections.abc import Collection
from hashlib import sha256

import pytest
from structlog.testing import capture_logs

from data.persisted import MOST_CHARACTERS
from data.redis.client import RedisConnection
from data.redis.documents import (
    ENTRY_BYTES,
    KEEP_SECONDS,
    MOST_SHARED_BYTES,
    SharedPersistedQueries,
)
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer

TEXTS, USED, BYTES = (f"footfall:{{persisted}}:{part}" for part in ("texts", "used", "bytes"))


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def process(
    redis: RedisConnection, metrics: Metrics, most_shared_bytes: int = MOST_SHARED_BYTES
) -> SharedPersistedQueries:
    """Persisted queries as one process has them, with nothing in its memory."""
    return SharedPersistedQueries(redis, metrics.persisted, most_shared_bytes=most_shared_bytes)


async def size_told(server: RedisServer) -> int:
    async with server.client() as client:
        told = await client.get(BYTES)
    assert told is not None
    return int(told)


def taken_by(texts: Collection[bytes | str]) -> int:
    """What these texts count for."""
    return sum(len(text) + ENTRY_BYTES for text in texts)


async def keep(persisted: SharedPersistedQueries, *texts: str) -> None:
    for text in texts:
        await persisted.keep(hash_of(text), text)


async def found(persisted: SharedPersistedQueries, *texts: str) -> list[str]:
    return [text for text in texts if await persisted.find(hash_of(text)) == text]


async def test_what_one_process_keeps_another_finds(
    redis: RedisConnection, metrics: Metrics
) -> None:
    await keep(process(redis, metrics), "{ a }", "{ \N{SNOWMAN} }")
    other = process(redis, metrics)

    assert await found(other, "{ a }", "{ b }", "{ \N{SNOWMAN} }") == ["{ a }", "{ \N{SNOWMAN} }"]
    assert await found(other, "{ a }") == ["{ a }"]

    count = metrics.registry.get_sample_value
    assert count("footfall_persisted_lookups_total", {"place": "redis"}) == 2
    assert count("footfall_persisted_lookups_total", {"place": "nowhere"}) == 1
    assert count("footfall_persisted_lookups_total", {"place": "memory"}) == 1


async def test_what_is_in_memory_costs_redis_nothing(
    redis: RedisConnection, metrics: Metrics
) -> None:
    persisted = process(redis, metrics)
    await keep(persisted, "{ a }")
    before = metrics.registry.get_sample_value(
        "footfall_redis_uses_total", {"outcome": "succeeded"}
    )

    for _ in range(50):
        await keep(persisted, "{ a }")
        assert await found(persisted, "{ a }")

    after = metrics.registry.get_sample_value("footfall_redis_uses_total", {"outcome": "succeeded"})
    assert after == before == 1


async def test_everything_expires_unless_it_is_used(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    await keep(process(redis, metrics), "{ old }", "{ used }")
    async with redis_server.client() as client:
        # As if both had been kept two weeks ago, and one of them been used yesterday.
        now = (await client.time())[0]
        ages = {"{ old }": 2 * KEEP_SECONDS, "{ used }": 24 * 3600}
        await client.zadd(USED, {hash_of(text): now - age for text, age in ages.items()})
    assert await found(process(redis, metrics), "{ used }")

    await keep(process(redis, metrics), "{ new }")

    texts = ("{ old }", "{ used }", "{ new }")
    assert await found(process(redis, metrics), *texts) == ["{ used }", "{ new }"]
    async with redis_server.client() as client:
        last_used = await client.zscore(USED, hash_of("{ used }"))
        assert last_used is not None
        assert last_used >= now
        for key in (TEXTS, USED, BYTES):
            assert 0 < await client.ttl(key) <= KEEP_SECONDS


async def test_texts_share_a_bounded_room_in_redis(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    texts = [f"{{ f{number:03} }}".ljust(100) for number in range(50)]

    room = 10 * (100 + ENTRY_BYTES)
    await keep(process(redis, metrics, most_shared_bytes=room), *texts)

    async with redis_server.client() as client:
        held = await client.hgetall(TEXTS)
        assert await size_told(redis_server) == taken_by(held.values()) == room
        assert await client.zcard(USED) == 10
    # The one that came last is always among them.
    assert texts[-1].encode() in held.values()


async def test_many_short_texts_take_no_more_of_redis_than_is_told(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    await keep(process(redis, metrics), *(f"{{f{number}}}" for number in range(3_000)))

    async with redis_server.client() as client:
        taken = [await client.memory_usage(key, samples=0) or 0 for key in (TEXTS, USED)]
    assert 0 < sum(taken) <= await size_told(redis_server)


async def test_a_text_larger_than_the_room_drives_all_others_out_and_stays_within_its_own_limit(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    persisted = process(redis, metrics, most_shared_bytes=100)
    await keep(persisted, "{ a }", "x" * 500, "y" * (MOST_CHARACTERS + 1))

    async with redis_server.client() as client:
        assert list((await client.hgetall(TEXTS)).values()) == [b"x" * 500]


@pytest.mark.parametrize("lost", [TEXTS, USED, BYTES])
async def test_a_part_that_redis_threw_away_is_got_over(
    lost: str, redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    await keep(process(redis, metrics), "{ a }", "{ b }")
    async with redis_server.client() as client:
        await client.delete(lost)

    await keep(process(redis, metrics), "{ c }")

    assert await found(process(redis, metrics), "{ c }")
    async with redis_server.client() as client:
        held = (await client.hgetall(TEXTS)).values()
        assert await size_told(redis_server) == taken_by(held)
        assert await client.zcard(USED) == len(held)


async def test_a_text_that_is_not_the_one_of_its_hash_is_not_believed_and_is_mended(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    async with redis_server.client() as client:
        await client.hset(TEXTS, hash_of("{ a }"), "{ somethingElse }")
        await client.set(BYTES, len("{ somethingElse }") + ENTRY_BYTES)
        await client.zadd(USED, {hash_of("{ a }"): 4_000_000_000})
    assert await process(redis, metrics).find(hash_of("{ a }")) is None

    await keep(process(redis, metrics), "{ a }")

    assert await found(process(redis, metrics), "{ a }") == ["{ a }"]
    assert await size_told(redis_server) == taken_by([b"{ a }"])


async def test_while_redis_is_away_the_memory_serves_and_is_shared_afterwards(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    persisted = process(redis, metrics)
    await keep(persisted, "{ before }")
    with capture_logs() as logs:
        await redis_server.kill()
        async with asyncio.timeout(30):
            await keep(persisted, "{ meanwhile }")
            assert await found(persisted, "{ before }", "{ meanwhile }", "{ never }") == [
                "{ before }",
                "{ meanwhile }",
            ]
            # Empty, as after a restart without anything on disk.
            await redis_server.start()
            await redis.until_available()

    assert await found(process(redis, metrics), "{ meanwhile }") == []
    assert await found(persisted, "{ meanwhile }")
    assert await found(process(redis, metrics), "{ meanwhile }") == ["{ meanwhile }"]
    assert {entry["event"] for entry in logs} <= {"redis.gone", "redis.back"}


async def test_a_redis_that_hangs_delays_one_request_and_not_those_after_it(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    persisted = process(redis, metrics)
    await keep(persisted, "{ a }")
    redis_server.freeze()

    async with asyncio.timeout(30):
        for number in range(200):
            text = f"{{ f{number} }}"
            assert await found(persisted, text) == []
            await keep(persisted, text)
            assert await found(persisted, "{ a }", text) == ["{ a }", text]

    failed = metrics.registry.get_sample_value("footfall_redis_uses_total", {"outcome": "failed"})
    redis_server.thaw()
    assert failed == 1


async def test_a_redis_without_room_is_done_without(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    async with redis_server.client() as client:
        await client.config_set("maxmemory", "1")
    persisted = process(redis, metrics)

    await keep(persisted, "{ a }")

    assert await found(persisted, "{ a }") == ["{ a }"]
    assert redis.is_available
