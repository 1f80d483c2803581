"""A primary that is away for long, or restarts again and again, with a standby and under load."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.load import SECONDS, Load, under_load
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service
from tests.fixtures.standby import Replicated
from tests.fixtures.worker import running_worker

# A minute is what operators ask about; what matters has happened after a few seconds.
AWAY_SECONDS = 60 if os.environ.get("FOOTFALL_LONG_FAULTS") else 0
RESTARTS = 10


async def until_empty(service: Service) -> None:
    """Return when nothing waits in the queue."""
    async with asyncio.timeout(SECONDS):
        while True:
            state = await service.data("{ system { queue { length } } }")
            if state["system"]["queue"] == {"length": 0}:
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def loaded(
    mode: str, pair: Replicated, redis: RedisServer, home: Path
) -> AsyncIterator[Load]:
    """A service under load, with a worker where it queues."""
    if mode == "direct":
        async with under_load(pair, home) as load:
            yield load
        return
    queue = {"REDIS_URL": redis.url, "INGEST_MODE": "queue"}
    worker = running_worker(home / "worker", DATABASE_URL=pair.primary.url(), **queue)

    async def settled() -> None:
        await until_empty(load.service)

    async with worker, under_load(pair, home, settled, **queue) as load:
        yield load


@pytest.mark.parametrize("mode", ["direct", "queue"])
async def test_a_primary_that_is_away_and_comes_back_costs_no_client_an_event(
    mode: str, replicated: Replicated, durable_redis: RedisServer, tmp_path: Path
) -> None:
    async with loaded(mode, replicated, durable_redis, tmp_path / "home") as load:
        # Or nobody could say meanwhile what was taken in between.
        await replicated.caught_up()
        await replicated.primary.kill()
        await load.until("database", "down")
        # Events go elsewhere meanwhile, and reports go on.
        await load.until_more(lambda: load.statuses["QUEUED"], 200)
        await load.until_more(lambda: load.answers, 20)
        await asyncio.sleep(AWAY_SECONDS)
        response = await load.service.client.get("/health")
        await replicated.primary.start()
        await load.until("database", "ok")

        assert (response.status_code, response.json()["status"]) == (200, "degraded")

    assert load.failed == {}


async def test_a_primary_that_is_restarted_ten_times_costs_no_client_an_event(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        for number in range(RESTARTS):
            # In turns as an operator does it, and as a loss of power does.
            await (replicated.primary.kill() if number % 2 else replicated.primary.stop())
            await load.until_more(lambda: load.answers, 1)
            await replicated.primary.start()
            await load.until("database", "ok")
            # Or nobody could say afterwards what was taken in between.
            await replicated.caught_up()

    assert load.statuses["QUEUED"] > 0
    assert load.failed == {}
