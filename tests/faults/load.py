"""Services under load: what clients send, ask and are told, and the count at the end."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import duckdb
import httpx

from tests.fixtures.service import Service, launch
from tests.fixtures.standby import Replicated

# Twice what the service promises: so long after the cause is gone, it is whole again by itself.
SECONDS = 60

INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { eventId status } }
}
"""
SAVE_SITE = 'mutation { saveSite(input: {id: "shop", name: "Shop", timezone: "UTC"}) { id } }'
ASK = """
query ($range: DateRange!, $ids: [UUID!]!) {
  eventCounts(siteId: "shop", range: $range) { total meta { dataThrough } }
  receipts(siteId: "shop", eventIds: $ids) { status }
}
"""
REPORT = """
query ($range: DateRange!) {
  eventCounts(siteId: "shop", range: $range) { total meta { dataThrough } }
}
"""
# About a second's events. Whether the newest were taken only the primary can say, as long as they
# have not reached the standby: where the primary is lost at that moment, nobody can.
NEWEST = 600
STATUSES = {"ACCEPTED", "DUPLICATE", "QUEUED"}


class Connects(Protocol):
    """A ledger that can be counted."""

    async def connect(self) -> asyncpg.Connection:
        """A connection of the superuser."""


@dataclass(slots=True)
class Load:
    """What clients sent and were told. `failed` counts answers with errors, by their code."""

    services: list[Service]
    # Without a standby there is nobody to ask for receipts while the primary is away.
    asks_receipts: bool = True
    # How often each id was acknowledged, and how often as a new one in the ledger.
    acknowledged: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    open: list[list[str]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    answers: int = 0
    went_back: int = 0
    lags: list[float] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def service(self) -> Service:
        """The only one, or the first."""
        return self.services[0]

    async def send(self) -> None:
        """Send small batches, and again what was left without an answer, until told to stop."""
        while not self.stopping.is_set():
            ids = self.open.pop() if self.open else [str(uuid4()) for _ in range(20)]
            await self.send_once(ids)
            await asyncio.sleep(0.05)

    async def send_once(self, ids: list[str]) -> None:
        """Send one batch; what is not acknowledged is open."""
        events = [{"eventId": one, "eventType": "view", "userId": one[:4]} for one in ids]
        body = await self._graphql("ingest", INGEST, {"events": events})
        if body is None:
            self.open.append(ids)
            return
        for one in body["ingest"]["receipts"]:
            assert one["status"] in STATUSES
            self.statuses[one["status"]] += 1
            self.acknowledged[one["eventId"]] += 1
            if one["status"] == "ACCEPTED":
                self.accepted[one["eventId"]] += 1

    async def send_open(self) -> None:
        """Send what was left without an answer until all of it is acknowledged."""
        async with asyncio.timeout(SECONDS):
            while self.open:
                await self.send_once(self.open.pop())
                await asyncio.sleep(0.05)

    async def ask(self) -> None:
        """Ask for a report and for receipts of a moment ago, until told to stop."""
        service = random.choice(self.services)
        before = datetime.min.replace(tzinfo=UTC)
        while not self.stopping.is_set():
            ids = list(self.accepted)[-NEWEST - 20 : -NEWEST]
            today = datetime.now(UTC).date()
            days = {"from": str(today - timedelta(days=1)), "to": str(today)}
            if service not in self.services:
                service, before = self.service, datetime.min.replace(tzinfo=UTC)
            asked = {"range": days, "ids": ids} if self.asks_receipts else {"range": days}
            query = ASK if self.asks_receipts else REPORT
            body = await self._graphql("ask", query, asked, service)
            if body is not None:
                self.answers += 1
                self.unknown += sum(one is None for one in body.get("receipts", []))
                through = datetime.fromisoformat(body["eventCounts"]["meta"]["dataThrough"])
                self.went_back += through < before
                before = through
                self.lags.append((datetime.now(UTC) - through).total_seconds())
            await asyncio.sleep(0.05)

    async def _graphql(
        self, what: str, query: str, variables: dict[str, Any], service: Service | None = None
    ) -> Any:
        chosen = service or random.choice(self.services)
        try:
            body = await chosen.graphql(query, variables)
        except (httpx.HTTPError, ValueError) as error:
            self.failed[f"{what} {type(error).__name__}"] += 1
            return None
        if "errors" in body:
            self.failed[f"{what} {body['errors'][0]['extensions']['code']}"] += 1
            return None
        return body["data"]

    @asynccontextmanager
    async def flowing(self, senders: int = 3, askers: int = 2) -> AsyncIterator[None]:
        """Clients at work until the block is left, each to the end of its last request."""
        self.stopping.clear()
        tasks = [asyncio.create_task(self.send()) for _ in range(senders)]
        tasks += [asyncio.create_task(self.ask()) for _ in range(askers)]
        try:
            await asyncio.sleep(1)
            yield
            # As many as make it worth counting, also where the machine had no time for more.
            async with asyncio.timeout(SECONDS):
                while self.answers <= 10 or len(self.acknowledged) <= 100:
                    await asyncio.sleep(0.05)
        finally:
            self.stopping.set()
            await asyncio.gather(*tasks)

    async def health(self, service: Service | None = None) -> dict[str, Any]:
        """What `/health` says now."""
        found: dict[str, Any] = (await (service or self.service).client.get("/health")).json()
        return found

    async def until(self, part: str, status: str) -> None:
        """Return when every service says that a part is like this."""
        async with asyncio.timeout(SECONDS):
            for service in self.services:
                while (await self.health(service))[part] != status:
                    await asyncio.sleep(0.1)

    async def until_more(self, count: Callable[[], int], more: int) -> None:
        """Return when a number has grown by so much."""
        enough = count() + more
        async with asyncio.timeout(SECONDS):
            while count() < enough:
                await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """The value of a series of the first service, by the line that begins with this."""
        page = (await self.service.client.get("/metrics")).text
        [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(line.rpartition(" ")[2])

    async def until_metric(self, name: str, value: float) -> None:
        """Return when a series of the first service has this value."""
        async with asyncio.timeout(SECONDS):
            while await self.metric(name) != value:
                await asyncio.sleep(0.05)

    async def whole(self) -> None:
        """Nothing is open any more, all is well, and all of it is in every copy."""
        await self.send_open()
        await self.until("status", "ok")
        committed = datetime.now(UTC).isoformat()
        for service in self.services:
            await service.until_followed(committed, SECONDS)

    async def count(self, *ledgers: Connects) -> None:
        """Nothing lost and nothing twice, in ledgers and copies; the services have ended."""
        counts: Counter[str] = Counter()
        for ledger in ledgers:
            connection = await ledger.connect()
            rows = await connection.fetch("select event_id::text from events")
            await connection.close()
            counts = Counter(row["event_id"] for row in rows)
            assert set(counts) == set(self.acknowledged)
            assert set(counts.values()) == {1}
        # No id was told twice that it is new.
        assert max(self.accepted.values(), default=0) <= 1
        for service in self.services:
            assert _copied(service.home) == counts
        # An event that was accepted is known, wherever receipts were read.
        assert self.unknown == 0
        assert self.went_back == 0
        assert self.answers > 10
        assert len(self.acknowledged) > 100


def _copied(home: Path) -> Counter[str]:
    [copy] = (home / "columnar" / "0").glob("copy-*.duckdb")
    with duckdb.connect(str(copy), read_only=True) as reading:
        rows = reading.execute("select event_id::varchar from events").fetchall()
    return Counter(row[0] for row in rows)


async def _nothing() -> None:
    """Most have nothing more to wait for."""


@asynccontextmanager
async def under_load(
    pair: Replicated,
    home: Path,
    settled: Callable[[], Awaitable[None]] = _nothing,
    /,
    **settings: str,
) -> AsyncIterator[Load]:
    """A service over a pair under load; it is whole again, and all is counted, at the end.

    `settled` returns when what is acknowledged elsewhere has reached the ledger.
    """
    service = await launch(
        home,
        None,
        DATABASE_URL=pair.primary.url(),
        REPLICA_DATABASE_URL=pair.standby.url("replica_user"),
        **settings,
    )
    load = Load([service])
    try:
        await service.data(SAVE_SITE)
        async with load.flowing():
            yield load
        await load.send_open()
        await settled()
        await load.until("replica", "ok")
        await load.whole()
        assert await service.stop() == 0
        await pair.caught_up()
        await load.count(pair.primary, pair.standby)
    finally:
        await service.client.aclose()
        if service.process.returncode is None:
            service.process.kill()
            await service.process.wait()
