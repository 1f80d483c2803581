"""Nothing acknowledged is lost and nothing is counted twice, whoever is killed at any moment."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import duckdb

from data.postgres.embedded import embedded_server
from tests.faults.clients import Tally, client, send
from tests.fixtures.service import Service, free_port, launch

KILLS = 20 if os.environ.get("FOOTFALL_LONG_FAULTS") else 6
CLIENTS = 8
SAVE_SITE = 'mutation { saveSite(input: {id: "shop", name: "Shop", timezone: "UTC"}) { id } }'

ASK_NOW = """
{ dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-01"}) { meta { computedAt } } }
"""


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
    # As many as make it worth counting, also where the machine had no time for more.
    while len(tally.acknowledged) <= 1_000:
        await send(service, [str(uuid4()) for _ in range(400)], tally)
    await service.until_drained()
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
    for number in range(KILLS):
        service = await launch(home, port)
        if number == 0:
            await service.data(SAVE_SITE)

        async def kill(service: Service = service) -> None:
            await service.stop(signal.SIGKILL)

        await under_load(service, tally, kill)
        await service.client.aclose()

    await settle(await launch(home, port), tally)


async def test_a_service_whose_postgres_is_killed_comes_back_by_itself(tmp_path: Path) -> None:
    home, tally = tmp_path / "home", Tally()
    service = await launch(home)
    await service.data(SAVE_SITE)

    async def kill() -> None:
        postmaster = (home / "postgres" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGKILL)
        await asyncio.sleep(random.uniform(0.0, 0.3))

    for _ in range(KILLS):
        await under_load(service, tally, kill)
        await service.until_drained()

    await settle(service, tally)
