"""A Redis server, and the service's own connection to it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from data.redis.client import RedisConnection, RedisPace, open_redis
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer


@pytest.fixture
def metrics() -> Metrics:
    """A catalogue at zero."""
    return Metrics.create()


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer, metrics: Metrics) -> AsyncIterator[RedisConnection]:
    """A connection that looks for a Redis that is away ten times a second.

    It has more patience than that of the service: the machine may be busy with other things.
    """
    pace = RedisPace(answer_seconds=1.5, look_seconds=0.1)
    async with open_redis(redis_server.url, metrics.redis, pace) as connection:
        yield connection
