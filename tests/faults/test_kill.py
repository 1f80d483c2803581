"""Nothing acknowledged is lost and nothing is counted twice, whoever is killed at any moment."""

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import duckdb
import httpx
import pytest

from data.postgres.embedded import embedded_server
from tests.fixtures.service import Service, footfall, free_port, launch

KILLS = 20
CLIENTS = 8

INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { eventId status } }
}
"""


@dataclass(slots=True)
class Tally:
    """What the clients were told: `acknowledged` ids, and those whose answer never came."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    open: list[list[str]] = field(default_factory=list)
    duplicates: int = 0


async def send(service: Service, ids: list[str], tally: Tally) -> None:
    """One request with these ids; raises if it was not acknowledged as a whole."""
    if len(ids) == 1:
        body = {"site": "shop", "event_id": ids[0], "event": "view", "user": ids[0][:4]}
        response = await service.client.post("/collect", json=body)
        response.raise_for_status()
        receipts = [(response.json()["event_id"], response.json()["receipt"])]
    else:
        events = [{"eventId": one, "eventType": "view", "userId": one[:4]} for one in ids]
        answer = await service.graphql(INGEST, {"events": events})
        if "errors" in answer:
            raise ConnectionError(answer["errors"])
        payload = answer["data"]["ingest"]["receipts"]
        receipts = [(one["eventId"], one["status"]) for one in payload]
    assert [event_id for event_id, _ in receipts] == ids
    for event_id, status in receipts:
        assert status in ("ACCEPTED", "DUPLICATE")
        tally.acknowledged[event_id] += 1
        tally.accepted[event_id] += status == "ACCEPTED"
        tally.duplicates += status == "DUPLICATE"


async def client(service: Service, tally: Tally, stop: asyncio.Event) -> None:
    """Send, and send again what was left without an answer, until told to stop."""
    while not stop.is_set():
        ids = (
            tally.open.pop()
            if tally.open
            else [str(uuid4()) for _ in range(random.choice([1, 1, 2, 50, 400]))]
        )
        try:
            await send(service, ids, tally)
        except (httpx.HTTPError, ConnectionError, ValueError):
            tally.open.append(ids)
            await asyncio.sleep(0.01)


async def compare(home: Path, tally: Tally) -> None:
    """Every acknowledged id is in the ledger once, and the columnar copy equals the ledger."""
    async with embedded_server(home) as server:
        connection = await asyncpg.connect(
            host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
        )
        rows = await connection.fetch(
            "select e.event_id::text, e.user_id, b.position * 65536 + e.ordinal as arrival"
            " from events e join ingest_batches b using (batch_id)"
        )
        ids = await connection.fetchval("select count(*) from event_ids")
        batches = await connection.fetchval("select sum(events) from ingest_batches")
        await connection.close()
    counts = Counter(row["event_id"] for row in rows)
    assert set(tally.acknowledged) <= set(counts)
    assert set(counts.values()) == {1}
    assert ids == batches == len(rows)
    # No id was told twice that it is new.
    assert max(tally.accepted.values()) == 1
    slot = home / "columnar" / "0"
    copy = slot / f"copy-{(slot / 'current').read_text()}.duckdb"
    with duckdb.connect(str(copy), read_only=True) as reading:
        copied = reading.execute(
            "select event_id::varchar, user_id, arrival from events"
        ).fetchall()
    assert sorted(copied) == sorted(tuple(row) for row in rows)


@pytest.mark.parametrize("victim", ["service", "postgres"])
async def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, victim: str) -> None:
    home, port, tally = tmp_path / "home", free_port(), Tally()
    await footfall(home, "sites", "create", "shop")
    for _ in range(KILLS):
        service = await launch(home, port)
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(service, tally, stop)) for _ in range(CLIENTS)]
        await asyncio.sleep(random.uniform(0.05, 0.6))
        if victim == "service":
            await service.stop(signal.SIGKILL)
        else:
            os.kill(int((home / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            await asyncio.sleep(random.uniform(0.0, 0.3))
        stop.set()
        await asyncio.gather(*clients)
        if victim == "postgres":
            await service.stop(signal.SIGKILL)
        await service.client.aclose()
    service = await launch(home, port)
    while tally.open:
        await send(service, tally.open.pop(), tally)
    moment = await service.data(
        '{ dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-01"}) { meta { computedAt } } }'
    )
    await service.until_followed(moment["dau"]["meta"]["computedAt"])
    assert await service.stop() == 0
    await service.client.aclose()
    await compare(home, tally)
    # The test has teeth only if requests were cut off after their commit, too.
    assert tally.duplicates > 0
    assert len(tally.acknowledged) > 1_000
    with suppress(FileNotFoundError):
        assert "FATAL" not in (home / "service.log").read_text()
