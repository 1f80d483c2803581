"""Queue mode, with real services and workers: whatever fails, each acknowledged event counts once.

Clients send all the time. At the end everything has its time to come back, and then the ledger is
counted against what the clients were told.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from data.postgres.embedded import EmbeddedPostgres
from data.postgres.engine import WRITER
from resolvers.sites import SiteDraft, checked, store_site
from tests.faults.load import Load
from tests.faults.test_spool import primary_with_site
from tests.fixtures.ledger import Database, engine_of, new_database
from tests.fixtures.redis import RedisServer, running_redis
from tests.fixtures.service import Service, running
from tests.fixtures.worker import WorkerProcess, launch_worker, running_worker

CLIENTS = 6
# Twice what the service promises: so long after the cause is gone, it is whole again by itself.
WHOLE_SECONDS = 60
# For what is still to go wrong there is more time.
WRONG_SECONDS = 60

INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { eventId status } }
}
"""


@dataclass(slots=True)
class Tally:
    """What clients were told."""

    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Scene:
    """Services and workers on one ledger and one Redis, under load."""

    folder: Path
    database: Database
    redis: RedisServer
    stack: AsyncExitStack
    tally: Tally = field(default_factory=Tally)
    services: list[Service] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        url = self.database.url("postgres").replace("postgresql+asyncpg", "postgresql")
        return {"DATABASE_URL": url, "REDIS_URL": self.redis.url, "INGEST_MODE": "queue"}

    async def add_service(self) -> Service:
        home = self.folder / f"service-{len(self.services)}"
        service = await self.stack.enter_async_context(running(home, **self.environment))
        self.services.append(service)
        return service

    async def add_worker(self) -> WorkerProcess:
        worker = await launch_worker(self.folder / "worker", **self.environment)
        self.workers.append(worker)
        return worker

    async def send(self, service: Service, ids: list[str]) -> None:
        """One request; what became of it is in the tally."""
        events = [{"eventId": one, "eventType": "view", "userId": one[:3]} for one in ids]
        try:
            answer = await service.graphql(INGEST, {"events": events})
        except httpx.TransportError:
            self.tally.refused["no answer"] += 1
            return
        if "errors" in answer:
            [error] = answer["errors"]
            self.tally.refused[error["extensions"]["code"]] += 1
            return
        receipts = answer["data"]["ingest"]["receipts"]
        assert [one["eventId"] for one in receipts] == ids
        for one in receipts:
            self.tally.statuses[one["status"]] += 1
            self.tally.acknowledged.add(one["eventId"])

    async def client(self, number: int, over: asyncio.Event) -> None:
        while not over.is_set():
            ids = [str(uuid4()) for _ in range(random.choice([1, 1, 5, 60]))]
            await self.send(self.services[number % len(self.services)], ids)
            await asyncio.sleep(random.uniform(0, 0.02))

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Clients that send while the block does its worst."""
        over = asyncio.Event()
        clients = [asyncio.create_task(self.client(number, over)) for number in range(CLIENTS)]
        try:
            await asyncio.sleep(0.7)
            yield
            await asyncio.sleep(0.7)
        finally:
            over.set()
            await asyncio.gather(*clients)

    async def until_told(self, status: str, more: int) -> None:
        """Return when clients were told so of that many more events."""
        enough = self.tally.statuses[status] + more
        async with asyncio.timeout(WRONG_SECONDS):
            while self.tally.statuses[status] < enough:
                await asyncio.sleep(0.02)

    async def health(self) -> dict[str, Any]:
        body: dict[str, Any] = (await self.services[0].client.get("/health")).json()
        return body

    async def until_whole(self) -> None:
        """Return when nothing waits any more and every service says that all is well."""
        async with asyncio.timeout(WHOLE_SECONDS):
            for service in self.services:
                while True:
                    answer = await service.data("{ system { queue { length } } }")
                    queue = answer["system"]["queue"]
                    health = (await service.client.get("/health")).json()
                    if queue and not queue["length"] and health["status"] == "ok":
                        break
                    await asyncio.sleep(0.1)

    async def compare(self) -> None:
        """Every acknowledged event is in the ledger exactly once."""
        connection = await self.database.connect()
        rows = await connection.fetch("select event_id::text from events")
        ids = await connection.fetchval("select count(*) from event_ids")
        batches = await connection.fetchval("select sum(events) from ingest_batches")
        await connection.close()
        counts = Counter(row[0] for row in rows)
        assert self.tally.acknowledged - set(counts) == set()
        assert set(counts.values()) == {1}
        assert ids == batches == len(rows)
        assert len(self.tally.acknowledged) > 200
        assert self.tally.refused.keys() <= {"OVERLOADED"}


@asynccontextmanager
async def a_scene(database: Database, folder: Path, redis: RedisServer) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(folder, database, redis, stack)
        async with engine_of(database, WRITER) as engine:
            await store_site(engine, checked(SiteDraft("shop")), datetime.now(UTC))
        try:
            yield scene
        finally:
            for worker in scene.workers:
                if worker.process.returncode is None:
                    worker.thaw()
                    assert await worker.stop() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A service and a worker, over a Redis with a file that is synced every second."""
    folder = tmp_path_factory.mktemp("queue")
    (folder / "redis").mkdir()
    async with (
        new_database(postgres) as database,
        running_redis(folder / "redis", "--appendonly", "yes") as redis,
        a_scene(database, folder, redis) as made,
    ):
        await asyncio.gather(made.add_service(), made.add_worker())
        yield made


@pytest.fixture
def scene(lasting: Scene) -> Scene:
    """The same for all: what was made to fail came back by itself, or the test has failed."""
    lasting.tally = Tally()
    return lasting


@pytest.mark.asyncio(loop_scope="module")
async def test_workers_that_are_killed_with_a_batch_in_hand_lose_and_double_nothing(
    scene: Scene,
) -> None:
    async with scene.load():
        for _ in range(3):
            await scene.add_worker()
            await asyncio.sleep(random.uniform(0.05, 0.4))
            scene.workers[-1].kill()
            await scene.workers.pop().stop()
    await scene.until_whole()

    await scene.compare()
    assert scene.tally.statuses.keys() == {"QUEUED"}
    assert not scene.tally.refused


@pytest.mark.asyncio(loop_scope="module")
async def test_a_worker_that_hangs_is_taken_over_from_and_may_come_back(scene: Scene) -> None:
    async with scene.load():
        scene.workers[0].freeze()
        await scene.add_worker()
    # What it has in hand is another's after a while.
    await scene.until_whole()
    scene.workers[0].thaw()
    assert await scene.workers.pop(0).stop() == 0
    await scene.until_whole()

    await scene.compare()
    assert scene.tally.statuses.keys() == {"QUEUED"}


@pytest.mark.asyncio(loop_scope="module")
async def test_redis_killed_and_back_three_times(scene: Scene) -> None:
    async with scene.load():
        for _ in range(3):
            await scene.redis.kill()
            await scene.until_told("ACCEPTED", 100)
            await scene.redis.start()
            await scene.until_told("QUEUED", 100)
    await scene.until_whole()

    await scene.compare()


@pytest.mark.asyncio(loop_scope="module")
async def test_redis_frozen_for_five_seconds(scene: Scene) -> None:
    async with scene.load():
        scene.redis.freeze()
        await asyncio.sleep(2.5)
        async with asyncio.timeout(WRONG_SECONDS):
            while (frozen := await scene.health())["queue"] != "down":
                await asyncio.sleep(0.05)
        await asyncio.sleep(2.5)
        await scene.until_told("ACCEPTED", 100)
        scene.redis.thaw()
        await scene.until_told("QUEUED", 100)
    await scene.until_whole()

    assert (frozen["status"], frozen["queue"]) == ("degraded", "down")
    await scene.compare()
    assert scene.tally.statuses["ACCEPTED"] > 100


@pytest.mark.asyncio(loop_scope="module")
async def test_redis_out_of_memory(scene: Scene) -> None:
    async with scene.load(), scene.redis.client() as client:
        await client.config_set("maxmemory", "1mb")
        await client.config_set("maxmemory-policy", "noeviction")
        await scene.until_told("ACCEPTED", 200)
        await client.config_set("maxmemory", 0)
        await scene.until_told("QUEUED", 100)
    await scene.until_whole()

    await scene.compare()


@pytest.mark.asyncio(loop_scope="module")
async def test_redis_restarted_empty_while_nobody_drains(scene: Scene) -> None:
    await scene.add_service()
    assert [await worker.stop() for worker in scene.workers] == [0]
    scene.workers.clear()
    async with scene.load():
        await scene.until_told("QUEUED", 200)
        await scene.redis.kill()
        for file in scene.redis.folder.glob("*.aof"):
            file.unlink()
        await scene.redis.start()
        await scene.until_told("QUEUED", 100)
    await scene.add_worker()
    await scene.until_whole()

    await scene.compare()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_ledger_away_while_events_come_and_are_drained(scene: Scene) -> None:
    admin = await scene.database.server_connection()
    name = scene.database.name
    async with scene.load():
        await admin.execute(f"alter database {name} allow_connections false")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
        )
        async with asyncio.timeout(WRONG_SECONDS):
            while (away := await scene.health())["database"] != "down":
                await asyncio.sleep(0.05)
        await scene.until_told("QUEUED", 200)
        await admin.execute(f"alter database {name} allow_connections true")
    await admin.close()
    await scene.until_whole()

    assert (away["status"], away["database"], away["queue"]) == ("degraded", "down", "ok")
    await scene.compare()
    assert not scene.tally.refused


async def test_a_full_queue_refuses_and_loses_nothing(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    async with a_scene(database, tmp_path, durable_redis) as scene:
        home = tmp_path / "service"
        environment = {**scene.environment, "QUEUE_MAX_EVENTS": "1000"}
        scene.services.append(await scene.stack.enter_async_context(running(home, **environment)))
        async with scene.load():
            async with asyncio.timeout(WRONG_SECONDS):
                while scene.tally.refused["OVERLOADED"] < 20:
                    await asyncio.sleep(0.05)
        full = await scene.health()
        await scene.add_worker()
        await scene.until_whole()
        await scene.compare()

    assert full["queue"] == "degraded"
    assert "no worker" in full["details"]["queue"]


async def test_a_worker_that_is_stopped_while_the_primary_hangs_ends_and_leaves_its_events(
    tmp_path: Path, durable_redis: RedisServer
) -> None:
    queued = [str(uuid4()) for _ in range(200)]
    async with primary_with_site(tmp_path) as primary:
        environment = {
            "DATABASE_URL": primary.url,
            "REDIS_URL": durable_redis.url,
            "INGEST_MODE": "queue",
        }
        worker = await launch_worker(tmp_path / "worker", **environment)
        async with running(tmp_path / "service", **environment) as service:
            load = Load([service])
            await load.send_once([str(uuid4())])
            async with asyncio.timeout(WHOLE_SECONDS):
                while not await primary.counts():
                    await asyncio.sleep(0.05)
            primary.freeze()
            try:
                await load.send_once(queued)
                await load.until_metric("footfall_queue_pending_entries", 1)
                # Far longer than it needs, and less than a driver that is left to itself.
                async with asyncio.timeout(60):
                    exit_code = await worker.stop()
            finally:
                primary.thaw()
            async with running_worker(tmp_path / "worker", **environment):
                await load.until_metric("footfall_queue_waiting_entries", 0)
        counts = await primary.counts()

    assert exit_code == 0
    assert load.statuses == {"QUEUED": len(queued) + 1}
    assert counts == Counter(load.acknowledged)
