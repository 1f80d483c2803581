"""Nothing acknowledged is lost and nothing is counted twice, whoever is killed at any moment."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import duckdb
import httpx

from data.postgres.embedded import embedded_server
from tests.fixtures.service import Service, footfall, free_port, launch

KILLS = 20
CLIENTS = 8

ASK_NOW = """
{ dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-01"}) { meta { computedAt } } }
"""

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
    [copy] = (home / "columnar" / "0").glob("copy-*.duckdb")
    with duckdb.connect(str(copy), read_only=True) as reading:
        copied = reading.execute(
            "select event_id::varchar, user_id, arrival from events"
        ).fetchall()
    assert sorted(copied) == sorted(tuple(row) for row in rows)


async def under_load(service: Service, tally: Tally, kill: Callable[[], Awaitable[None]]) -> None:
    """Kill somebody at a random moment while many clients send, and let them notice."""
    stop = asyncio.Event()
    clients = [asyncio.create_task(client(service, tally, stop)) for _ in range(CLIENTS)]
    await asyncio.sleep(random.uniform(0.05, 0.6))
    await kill()
    stop.set()
    await asyncio.gather(*clients)


async def settle(service: Service, tally: Tally) -> None:
    """Send what is left, let the copy follow, stop in an orderly way, and compare."""
    while tally.open:
        await send(service, tally.open.pop(), tally)
    # Clients that send again what was taken hear that it is known.
    known, before = random.sample(sorted(tally.acknowledged), 300), tally.duplicates
    await send(service, known, tally)
    assert tally.duplicates == before + len(known)
    answer = await service.data(ASK_NOW)
    await service.until_followed(answer["dau"]["meta"]["computedAt"])
    assert await service.stop() == 0
    await service.client.aclose()
    await compare(service.home, tally)
    assert len(tally.acknowledged) > 1_000


async def test_a_service_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    home, port, tally = tmp_path / "home", free_port(), Tally()
    await footfall(home, "sites", "create", "shop")
    for _ in range(KILLS):
        service = await launch(home, port)

        async def kill(service: Service = service) -> None:
            await service.stop(signal.SIGKILL)

        await under_load(service, tally, kill)
        await service.client.aclose()

    await settle(await launch(home, port), tally)


async def test_a_service_whose_postgres_is_killed_comes_back_by_itself(tmp_path: Path) -> None:
    home, tally = tmp_path / "home", Tally()
    await footfall(home, "sites", "create", "shop")
    service = await launch(home)

    async def kill() -> None:
        postmaster = (home / "postgres" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGKILL)
        await asyncio.sleep(random.uniform(0.0, 0.3))

    for _ in range(KILLS):
        await under_load(service, tally, kill)
        await service.wait_until_ready()

    await settle(service, tally)
