"""Exports of all schedules while events come as they please and processes are killed at random.

In the end the files of each destination hold what the ledger holds, and nothing twice.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest_asyncio

from data.s3.bucket import open_bucket
from tests.faults.export_reading import (
    by_id,
    ledger_rows,
    manifests_in,
    metered,
    objects_in,
    occurred_in,
)
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import BUCKET, KEY_ID, REGION, SECRET, S3Server, running_s3
from tests.fixtures.service import Service, free_port, launch
from tests.fixtures.source_answers import text
from tests.fixtures.source_server import SourceServer
from tests.fixtures.webhooks import is_signed

IS_LONG = bool(os.environ.get("FOOTFALL_LONG_FAULTS"))
SECONDS = 900 if IS_LONG else 300
RUNS = 30
KILLS = 30 if IS_LONG else 5
BACKUP = "their-backup"

SAVE_SITE = 'mutation ($id: ID!) { saveSite(input: {id: $id, timezone: "UTC"}) { id } }'
SAVE = """
mutation ($input: ExportDestinationInput!) { saveExportDestination(input: $input) { id hookToken webhookSecret } }
"""
RUN = """
mutation ($id: ID!, $since: DateTime, $until: DateTime) {
  runExport(destinationId: $id, since: $since, until: $until) { id isBackfill }
}
"""
RUNS_OF = """
query ($id: ID!) {
  exportRuns(destinationId: $id, first: 500) {
    nodes { id trigger status attempts error isBackfill targets { kind status error } }
  }
}
"""
VERIFY = "mutation ($id: ID!) { verifyExport(runId: $id) { matches problems } }"
INGEST = """
mutation ($site: ID!, $events: [EventInput!]!) {
  ingest(input: {siteId: $site, events: $events}) { receipts { eventId status } }
}
"""
_AT_WORK = """
select held_by from export_targets
where status = 'RUNNING' and held_until > clock_timestamp()
order by held_until desc
limit 1
"""
_HOLDS = """
select exists (
    select from export_targets
    where status = 'RUNNING' and held_until > clock_timestamp()
        and split_part(held_by, ':', 2) = $1
)
"""
_TAKEN_OVER = "select count(*) from export_targets where hold_id > 1"
# What may be answered while a process is killed, or looks for what another one has just done.
_PASSING = (httpx.HTTPError, ValueError)

DESTINATIONS: dict[str, dict[str, Any]] = {
    "hourly": {"schedule": "HOURLY", "format": "JSONL", "compression": "GZIP"},
    "daily": {"schedule": "DAILY", "format": "PARQUET", "compression": "ZSTD"},
    "cron": {"schedule": "7 3 * * mon", "format": "CSV", "compression": "NONE"},
    "realtime": {"schedule": "REALTIME", "format": "JSON", "compression": "ZSTD"},
    "threshold": {
        "schedule": "MANUAL",
        "thresholdEvents": 40,
        "format": "JSONL",
        "compression": "NONE",
    },
    "asked": {"schedule": "MANUAL", "format": "PARQUET", "compression": "GZIP"},
}
# Theirs is the time that nobody waits for here.
TIMED = ("hourly", "daily", "cron", "realtime")


@dataclass(slots=True)
class Feed:
    """Clients of two sites: events of any day, in any order, some of them again and again."""

    scene: "Scene"
    known: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    duplicates: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, site_id: str) -> None:
        """Send small batches, each until it is acknowledged, until told to stop."""
        while not self.stopping.is_set():
            batch = self._batch()
            while not await self._send_once(site_id, batch):
                await asyncio.sleep(0.05)
            await asyncio.sleep(random.uniform(0.02, 0.2))

    def _batch(self) -> list[dict[str, Any]]:
        events = [self._event() for _ in range(random.choice([1, 2, 5, 20]))]
        events += random.sample(self.known, min(len(self.known), random.choice([0, 1, 3])))
        events += random.sample(events, 1)
        random.shuffle(events)
        return events

    def _event(self) -> dict[str, Any]:
        # Now, or some hours or months late.
        late = random.choice([0, 0, random.expovariate(1 / 7_200), random.uniform(0, 3e7)])
        name = random.choice(["plain", 'a "quoted" one', "ünï, 日本", "two\nlines"])
        return {
            "eventId": str(uuid4()),
            "eventType": random.choice(["view", "buy"]),
            "userId": f"user {random.randrange(50)}",
            "url": random.choice([None, f"https://shop.example/{random.randrange(9)}"]),
            "occurredAt": (datetime.now(UTC) - timedelta(seconds=late)).isoformat(),
            "properties": random.choice([None, {"name": name, "price": 12.50, "n": [1, None]}]),
        }

    async def _send_once(self, site_id: str, batch: list[dict[str, Any]]) -> bool:
        body = await self.scene.ask(INGEST, {"site": site_id, "events": batch})
        if body is None:
            return False
        receipts = body["ingest"]["receipts"]
        assert {one["status"] for one in receipts} <= {"ACCEPTED", "DUPLICATE"}
        if site_id == "shop":
            self.acknowledged |= {one["eventId"] for one in receipts}
            self.duplicates += sum(one["status"] == "DUPLICATE" for one in receipts)
            self.known = (self.known + batch)[-500:]
        return True


@dataclass(slots=True)
class Scene:
    """Two services over one ledger, a bucket and its backup, and the destinations of a site."""

    database: Database
    server: S3Server
    receiver: SourceServer
    home: Path
    services: list[Service] = field(default_factory=list)
    gone: list[Service] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    token: str = ""
    secret: str = ""

    async def start(self, port: int | None = None) -> Service:
        """One more process; they share their folder, as those of one machine may."""
        return await launch(
            self.home,
            port,
            DATABASE_URL=self.database.url("postgres"),
            OUTBOUND_ALLOW_PRIVATE="true",
            LOG_LEVEL="ERROR",
        )

    async def ask(self, query: str, variables: dict[str, Any]) -> Any:
        """The data of an answer of any service; None where there is none now."""
        service = random.choice(self.services)
        try:
            body = await service.graphql(query, variables)
        except _PASSING:
            return None
        if "errors" in body:
            assert body["errors"][0]["extensions"]["code"] in ("UNAVAILABLE", "OVERLOADED"), body
            return None
        return body["data"]

    async def surely(self, query: str, variables: dict[str, Any]) -> Any:
        """The data of an answer, asked for until there is one."""
        async with asyncio.timeout(SECONDS):
            while (data := await self.ask(query, variables)) is None:
                await asyncio.sleep(0.2)
            return data

    async def save(self, name: str, fields: dict[str, Any]) -> None:
        """Make a destination with a prefix of its own; `hourly` has a backup and a webhook, too."""
        wanted = {
            "siteId": "shop",
            "name": name,
            "bucket": BUCKET,
            "prefix": name,
            "region": REGION,
            "endpointUrl": self.server.endpoint,
            "accessKeyId": KEY_ID,
            "secretAccessKey": SECRET,
            **fields,
        }
        if name == "hourly":
            wanted |= {"backupBucket": BACKUP, "webhookUrl": self.receiver.url("/hook")}
        if name == "asked":
            wanted |= {"rotateHook": True}
        saved = (await self.surely(SAVE, {"input": wanted}))["saveExportDestination"]
        self.ids[name] = saved["id"]
        self.token = saved["hookToken"] or self.token
        self.secret = saved["webhookSecret"] or self.secret

    async def end_one(self, number: int) -> None:
        """Take a process away, and bring another one up in its place.

        Every other time it is one that is at a run, and the last one of these may end in order.
        """
        midway, is_last = number % 2 == 0, number == KILLS - 1
        places = {service.process.pid: place for place, service in enumerate(self.services)}
        pid = await self.stopped_at_work() if midway else random.choice(list(places))
        ended = self.services[places[pid]]
        if is_last:
            os.kill(pid, signal.SIGCONT)
        await ended.stop(signal.SIGTERM if is_last else signal.SIGKILL)
        self.gone.append(ended)
        self.services[places[pid]] = await self.start(ended.port)

    async def stopped_at_work(self) -> int:
        """A process that hangs with a target of a run in its hands."""
        while True:
            pid = await self.pid_at_work()
            os.kill(pid, signal.SIGSTOP)
            # What it has told the ledger before is done by then.
            await asyncio.sleep(0.1)
            async with self.ledger() as ledger:
                if await ledger.fetchval(_HOLDS, str(pid)):
                    return pid
            os.kill(pid, signal.SIGCONT)

    async def pid_at_work(self) -> int:
        """The process that holds a target of a run."""
        async with self.ledger() as ledger:
            while True:
                holder: str | None = await ledger.fetchval(_AT_WORK)
                if holder is not None and (pid := int(holder.split(":")[1])) in self.pids:
                    return pid
                await asyncio.sleep(0.01)

    @property
    def pids(self) -> set[int]:
        """The processes that there are now."""
        return {service.process.pid for service in self.services}

    async def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs of a destination, the newest first."""
        data = await self.surely(RUNS_OF, {"id": self.ids[name]})
        found: list[dict[str, Any]] = data["exportRuns"]["nodes"]
        return found

    async def count(self) -> Counter[str]:
        """How many runs each destination has."""
        return Counter({name: len(await self.runs(name)) for name in self.ids})

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[asyncpg.Connection]:
        """A look behind the scenes."""
        connection = await self.database.connect()
        try:
            yield connection
        finally:
            await connection.close()

    async def make_time_come(self) -> None:
        """Have what goes by the clock be due now, in the middle of an hour, too."""
        async with self.ledger() as ledger:
            await ledger.execute(
                "update export_destinations set next_run_at = now()"
                " where destination_id = any($1::uuid[])",
                [UUID(self.ids[name]) for name in TIMED],
            )

    async def call_hook(self) -> None:
        """What a client's own system does."""
        service = random.choice(self.services)
        with suppress(*_PASSING):
            response = await service.client.post(f"/hooks/export/{self.token}")
            assert response.status_code in (200, 202, 503), response.text


async def repeat(work: Callable[[], Awaitable[object]], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await work()
        await asyncio.sleep(random.uniform(0.5, 1.5))


@asynccontextmanager
async def busy(scene: Scene, feed: Feed) -> AsyncIterator[None]:
    """Events come and runs are asked for in every way, until the block is left."""

    async def ask() -> None:
        await scene.ask(RUN, {"id": scene.ids["asked"]})

    works = (scene.make_time_come, scene.call_hook, ask)
    tasks = [asyncio.create_task(repeat(work, feed.stopping)) for work in works]
    tasks += [asyncio.create_task(feed.send(site_id)) for site_id in ("shop", "shop", "other")]
    try:
        yield
    finally:
        feed.stopping.set()
        await asyncio.gather(*tasks)


async def until_exported(scene: Scene) -> None:
    """Return when every event is in a run of each destination, and every run is published."""
    async with scene.ledger() as ledger:
        newest = await ledger.fetchval("select max(position) from ingest_batches")
        async with asyncio.timeout(SECONDS):
            while True:
                for name in scene.ids:
                    planned = await ledger.fetchval(
                        "select planned_through from export_destinations"
                        " where destination_id = $1::uuid",
                        UUID(scene.ids[name]),
                    )
                    if planned < newest:
                        await scene.ask(RUN, {"id": scene.ids[name]})
                        break
                else:
                    states = await ledger.fetch("select status, error from export_targets")
                    dead = [state["error"] for state in states if state["status"] == "DEAD"]
                    assert dead == []
                    if {state["status"] for state in states} == {"SUCCEEDED"}:
                        return
                await asyncio.sleep(0.2)


def compare(name: str, ledger: dict[str, Any], bucket: dict[str, Path]) -> None:
    """The files of a destination are the ledger, by manifests without overlap or gap."""
    manifests = manifests_in(bucket, name)
    chain = sorted(one.stretch for one in manifests if not one.is_backfill)
    assert chain[0][0] == 0
    assert [after for after, _ in chain[1:]] == [through for _, through in chain[:-1]]
    rows = [row for one in manifests if not one.is_backfill for row in one.rows(bucket)]
    assert len(rows) == len(ledger)
    assert by_id(rows) == ledger
    # Nothing that no manifest lists: no client would read it, but it would lie there for ever.
    files = {file for one in manifests for file in one.files}
    assert {one for one in bucket if one.startswith(f"{name}/events/")} == files


async def verify(scene: Scene, run_id: str) -> list[str]:
    data = (await scene.surely(VERIFY, {"id": run_id}))["verifyExport"]
    problems: list[str] = data["problems"]
    assert data["matches"] is (problems == [])
    return problems


async def told(scene: Scene, run_ids: set[str]) -> None:
    """Return when the webhook was told of each of these runs, and of no other."""
    async with asyncio.timeout(SECONDS):
        while True:
            asked = list(scene.receiver.asked)
            notices = {one.headers["webhook-id"]: json.loads(one.body) for one in asked}
            published = [one for one in notices.values() if one["type"] == "export.succeeded"]
            told = Counter(one["data"]["export_id"] for one in published)
            if set(told) == run_ids:
                break
            await asyncio.sleep(0.2)
    # Of a process that was killed a notice may come twice, but under one id.
    assert set(told.values()) == {1}
    assert all(is_signed(one, scene.secret) for one in asked)


async def verify_all(scene: Scene, run_ids: Sequence[str]) -> list[str]:
    """What is wrong with any of these runs, a few of which are looked at at a time."""
    gate = asyncio.Semaphore(4)

    async def one(run_id: str) -> list[str]:
        async with gate:
            return await verify(scene, run_id)

    return [problem for each in await asyncio.gather(*map(one, run_ids)) for problem in each]


@pytest_asyncio.fixture
async def scene(
    database: Database, source_server: SourceServer, tmp_path: Path
) -> AsyncIterator[Scene]:
    """Two services with all destinations."""
    source_server.at("/hook", text(b"", status=204))
    (tmp_path / "s3" / BACKUP).mkdir(parents=True)
    async with running_s3(tmp_path / "s3") as server:
        made = Scene(database, server, source_server, tmp_path / "home")
        try:
            made.services.append(await made.start(free_port()))
            for site_id in ("shop", "other"):
                await made.surely(SAVE_SITE, {"id": site_id})
            for name, fields in DESTINATIONS.items():
                await made.save(name, fields)
            made.services.append(await made.start(free_port()))
            yield made
        finally:
            for service in (*made.services, *made.gone):
                await service.stop(signal.SIGKILL)
                await service.client.aclose()


async def test_thirty_runs_among_kills_are_together_the_ledger_and_can_be_proved(
    scene: Scene,
) -> None:
    feed = Feed(scene)
    async with busy(scene, feed), asyncio.timeout(SECONDS):
        for number in range(KILLS):
            await asyncio.sleep(random.uniform(0.5, 3))
            await scene.end_one(number)
        while (runs := await scene.count()).total() < RUNS or min(runs.values()) < 3:
            await asyncio.sleep(0.5)
    since, until = datetime.now(UTC) - timedelta(days=100), datetime.now(UTC)
    asked = {"id": scene.ids["asked"], "since": since.isoformat(), "until": until.isoformat()}
    assert (await scene.surely(RUN, asked))["runExport"]["isBackfill"]
    await until_exported(scene)

    async with scene.ledger() as ledger:
        rows = await ledger_rows(ledger, "shop")
        assert await ledger.fetchval(_TAKEN_OVER) > 0
    assert set(rows) == feed.acknowledged
    assert min(len(rows), feed.duplicates) > 100
    bucket, backup = (objects_in(scene.server.folder / name) for name in (BUCKET, BACKUP))
    for name in DESTINATIONS:
        compare(name, rows, bucket)
    compare("hourly", rows, backup)
    assert metered(backup) == [one.metering for one in manifests_in(backup, "hourly")]
    [taken] = [one for one in manifests_in(bucket, "asked") if one.is_backfill]
    assert by_id(taken.rows(bucket)) == occurred_in(rows, since, until)

    found = {name: await scene.runs(name) for name in DESTINATIONS}
    triggers = {run["trigger"] for runs in found.values() for run in runs}
    assert triggers >= {"SCHEDULE", "THRESHOLD", "REQUEST", "HOOK"}
    ids = [run["id"] for runs in found.values() for run in runs]
    assert len(ids) >= RUNS
    assert await verify_all(scene, ids) == []
    await told(scene, {run["id"] for run in found["hourly"]})
    await spoil(scene, found["hourly"], found["cron"])


async def spoil(scene: Scene, altered: list[dict[str, Any]], deleted: list[dict[str, Any]]) -> None:
    """Change a file of one destination and delete one of another: just these runs say so."""
    bucket = objects_in(scene.server.folder / BUCKET)
    files = {
        one.content["export_id"]: one.files
        for name in ("hourly", "cron")
        for one in manifests_in(bucket, name)
    }
    one, other = (
        next(run["id"] for run in runs if files[run["id"]]) for runs in (altered, deleted)
    )
    changed, gone = files[one][0], files[other][0]
    data = bytearray(bucket[changed].read_bytes())
    data[len(data) // 2] ^= 1
    # As anybody may who has a key: what the server itself has in mind must change, too.
    async with open_bucket(scene.server.place(), allow_private=True) as opened:
        await opened.put_bytes(changed, bytes(data), "application/octet-stream")
        await opened.delete(gone)

    [problem] = await verify(scene, one)
    assert (changed in problem, "was changed" in problem) == (True, True)
    [problem] = await verify(scene, other)
    assert (gone in problem, "is missing" in problem) == (True, True)
    others = [run["id"] for run in (*altered, *deleted) if run["id"] not in (one, other)]
    assert await verify_all(scene, others) == []
