"""A service over a real primary and its standby, under load, and the count at the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import httpx

from tests.fixtures.service import Service, launch
from tests.fixtures.standby import Replicated

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


@dataclass(slots=True)
class Load:
    """What clients sent and were told. `failed` counts answers with errors, by their code."""

    service: Service
    acknowledged: Counter[str] = field(default_factory=Counter)
    open: list[list[str]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    answers: int = 0
    went_back: int = 0
    lags: list[float] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

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
            assert one["status"] in ("ACCEPTED", "DUPLICATE")
            self.acknowledged[one["eventId"]] += one["status"] == "ACCEPTED"

    async def ask(self) -> None:
        """Ask for a report and for receipts of the last events, until told to stop."""
        before = datetime.min.replace(tzinfo=UTC)
        while not self.stopping.is_set():
            ids = list(self.acknowledged)[-20:]
            today = datetime.now(UTC).date()
            days = {"from": str(today - timedelta(days=1)), "to": str(today)}
            body = await self._graphql("ask", ASK, {"range": days, "ids": ids})
            if body is not None:
                self.answers += 1
                self.unknown += sum(one is None for one in body["receipts"])
                through = datetime.fromisoformat(body["eventCounts"]["meta"]["dataThrough"])
                self.went_back += through < before
                before = through
                self.lags.append((datetime.now(UTC) - through).total_seconds())
            await asyncio.sleep(0.05)

    async def _graphql(self, what: str, query: str, variables: dict[str, Any]) -> Any:
        try:
            body = await self.service.graphql(query, variables)
        except (httpx.HTTPError, ValueError) as error:
            self.failed[f"{what} {type(error).__name__}"] += 1
            return None
        if "errors" in body:
            self.failed[f"{what} {body['errors'][0]['extensions']['code']}"] += 1
            return None
        return body["data"]

    async def health(self) -> dict[str, Any]:
        """What `/health` says now."""
        found: dict[str, Any] = (await self.service.client.get("/health")).json()
        return found

    async def until(self, part: str, status: str) -> None:
        """Return when a part is said to be like this."""
        async with asyncio.timeout(SECONDS):
            while (await self.health())[part] != status:
                await asyncio.sleep(0.1)

    async def metric(self, name: str) -> float:
        """The value of a series, by the line that begins with this."""
        page = (await self.service.client.get("/metrics")).text
        [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(line.rpartition(" ")[2])


@asynccontextmanager
async def under_load(pair: Replicated, home: Path, **settings: str) -> AsyncIterator[Load]:
    """A service with senders and askers; they end, and all is counted, when the block is left."""
    service = await launch(
        home,
        None,
        DATABASE_URL=pair.primary.url(),
        REPLICA_DATABASE_URL=pair.standby.url("replica_user"),
        **settings,
    )
    load = Load(service)
    try:
        await service.data(SAVE_SITE)
        tasks = [asyncio.create_task(load.send()) for _ in range(3)]
        tasks += [asyncio.create_task(load.ask()) for _ in range(2)]
        await asyncio.sleep(1)
        yield load
        load.stopping.set()
        await asyncio.gather(*tasks)
        await _settle(pair, load)
    finally:
        await service.client.aclose()
        if service.process.returncode is None:
            service.process.kill()
            await service.process.wait()


async def _settle(pair: Replicated, load: Load) -> None:
    """Whole again by itself; nothing lost, nothing twice, in ledger, standby and copy."""
    while load.open:
        await load.send_once(load.open.pop())
    await load.until("replica", "ok")
    await load.until("status", "ok")
    committed = datetime.now(UTC)
    await load.service.until_followed(committed.isoformat(), SECONDS)
    assert await load.service.stop() == 0
    await pair.caught_up()
    counts: Counter[str] = Counter()
    for server in (pair.primary, pair.standby):
        connection = await server.connect()
        rows = await connection.fetch("select event_id::text from events")
        await connection.close()
        counts = Counter(row["event_id"] for row in rows)
        assert set(counts) == set(load.acknowledged)
        assert set(counts.values()) == {1}
    assert max(load.acknowledged.values()) == 1
    [copy] = (load.service.home / "columnar" / "0").glob("copy-*.duckdb")
    with duckdb.connect(str(copy), read_only=True) as reading:
        copied = reading.execute("select event_id::varchar from events").fetchall()
    assert Counter(row[0] for row in copied) == counts
    # An acknowledged event is known, wherever receipts were read.
    assert load.unknown == 0
    assert load.went_back == 0
    assert load.answers > 10
    assert len(load.acknowledged) > 100
