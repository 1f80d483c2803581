"""Two processes over one ledger and one Redis share a limit, and go on when Redis is killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, running
from tests.fixtures.windows import lasting_window

LIMIT = 40
SOON = 60.0
SETTINGS = {
    "RATE_LIMIT_INGEST_REQUESTS": str(LIMIT),
    "RATE_LIMIT_WINDOW_SECONDS": str(lasting_window()),
}
EVENT = b'{"site": "shop", "event": "v", "user": "u"}'


@asynccontextmanager
async def two(home: Path, redis: RedisServer) -> AsyncIterator[list[Service]]:
    """Two processes of one service."""
    settings = {**SETTINGS, "REDIS_URL": redis.url, "TRUSTED_PROXIES": "127.0.0.1"}
    async with running(home, **settings) as one, running(home, **settings) as other:
        await one.data('mutation { saveSite(input: {id: "shop"}) { id } }')
        # The other one hears of the site within a second.
        async with asyncio.timeout(SOON):
            while (await send(other, "192.0.2.99")).status_code == 400:
                await asyncio.sleep(0.1)
        yield [one, other]


async def send(service: Service, address: str) -> httpx.Response:
    headers = {"x-forwarded-for": address}
    return await service.client.post("/collect", content=EVENT, headers=headers)


async def taken(services: list[Service], address: str, times: int) -> int:
    """How many of so many events from an address, sent to all in turn, were taken."""
    answers = await asyncio.gather(
        *(send(services[number % len(services)], address) for number in range(times))
    )
    assert {answer.status_code for answer in answers} <= {200, 429}
    return sum(answer.status_code == 200 for answer in answers)


async def until_redis_is(services: list[Service], status: str) -> None:
    async with asyncio.timeout(SOON):
        for service in services:
            while (await service.client.get("/health")).json()["cache"] != status:
                await asyncio.sleep(0.1)


async def test_a_limit_is_shared_and_redis_is_not_needed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path / "home", redis_server) as services:
        together = await taken(services, "192.0.2.1", 3 * LIMIT)

        await redis_server.kill()
        at_once = await taken(services, "192.0.2.2", 4 * LIMIT)
        await until_redis_is(services, "down")
        apart = await taken(services, "192.0.2.3", 4 * LIMIT)
        health = (await services[0].client.get("/health")).json()

        await redis_server.start()
        await until_redis_is(services, "ok")
        again = await taken(services, "192.0.2.4", 3 * LIMIT)

    assert together == LIMIT
    # Each for itself: nobody is locked out, and nobody gets more than that.
    assert (at_once, apart) == (2 * LIMIT, 2 * LIMIT)
    assert health["details"]["rate_limits"].startswith("each process counts for itself")
    assert again == LIMIT
