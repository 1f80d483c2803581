"""The service while its ledger is away: every way in goes on, and nothing that was taken is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from data.events import ReceiptStatus
from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

RECEIPTS = 'query ($ids: [UUID!]!) { receipts(siteId: "shop", eventIds: $ids) { status } }'
PARTS = "{ system { status parts { name status detail } } }"


async def cut_off(database: Database) -> asyncpg.Connection:
    """Let nobody at the ledger; the connection is for `let_in`."""
    admin = await database.server_connection()
    await admin.execute(f"alter database {database.name} allow_connections false")
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name
    )
    return admin


async def let_in(database: Database, admin: asyncpg.Connection) -> None:
    """Let everybody at the ledger again."""
    await admin.execute(f"alter database {database.name} allow_connections true")
    await admin.close()


@asynccontextmanager
async def away(database: Database) -> AsyncIterator[None]:
    """The ledger, cut off from everybody until the block is left."""
    admin = await cut_off(database)
    try:
        yield
    finally:
        await let_in(database, admin)


async def until_whole(app: App) -> None:
    async with asyncio.timeout(30):
        while (await app.client.get("/health")).json()["status"] != "ok":
            await asyncio.sleep(0.05)


async def ids_in(database: Database) -> list[UUID]:
    connection = await database.connect()
    rows = await connection.fetch("select event_id from events")
    await connection.close()
    return sorted(row[0] for row in rows)


async def test_every_way_in_queues_and_each_event_is_in_the_ledger_once(
    app: App, database: Database
) -> None:
    key = await app.key("shop", Scope.INGEST)
    ids = [uuid4() for _ in range(6)]
    await app.ingest("shop", {"eventType": "v", "eventId": str(ids[0])})
    ingest = """
      mutation ($events: [EventInput!]!) {
        ingest(input: {events: $events}) {
          received accepted duplicates queued rejected receipts { eventId status }
        }
      }
    """
    sent = [
        {"eventType": "v", "eventId": str(ids[0])},
        {"eventType": "v", "eventId": str(ids[1])},
        {"eventType": ""},
    ]

    async with away(database):
        payload = (await app.data(ingest, {"events": sent}, key))["ingest"]
        single = await app.client.post(
            "/collect", json={"site": "shop", "event": "v", "id": str(ids[2])}
        )
        several = {"site": "shop", "events": [{"event": "v", "id": str(one)} for one in ids[3:5]]}
        batch = await app.client.post("/collect", json=several)
        pixel = await app.client.get(f"/collect?site=shop&event=v&id={ids[5]}")
        refused = await app.client.post("/collect", json={"site": "shop", "event": ""})

    assert [payload[name] for name in ("received", "accepted", "duplicates")] == [3, 0, 0]
    assert (payload["queued"], payload["rejected"]) == (2, 1)
    statuses = [one["status"] for one in payload["receipts"]]
    assert statuses == ["QUEUED", "QUEUED", "REJECTED"]
    assert payload["receipts"][1]["eventId"] == str(ids[1])
    assert (single.status_code, single.json()["status"]) == (200, "queued")
    assert (single.json()["event_id"], single.json()["receipt"]) == (str(ids[2]), "QUEUED")
    assert (batch.json()["status"], batch.json()["queued"]) == ("queued", 2)
    assert "x-footfall" not in pixel.headers
    assert refused.status_code == 400

    await until_whole(app)
    assert await ids_in(database) == sorted(ids)
    receipts = (await app.data(RECEIPTS, {"ids": [str(one) for one in ids]}))["receipts"]
    assert [one["status"] for one in receipts] == ["ACCEPTED"] * 6


async def part(app: App) -> tuple[str, str]:
    """What `system` says of the spool."""
    [found] = [one for one in (await app.data(PARTS))["system"]["parts"] if one["name"] == "spool"]
    return found["status"], found["detail"]


async def test_operators_see_the_outage_and_its_end(app: App, database: Database) -> None:
    await app.ingest("shop", {"eventType": "v"})
    assert await part(app) == ("OK", "empty")

    async with away(database):
        await app.ingest("shop", {"eventType": "v"})
        health = await app.client.get("/health")
        page = (await app.client.get("/metrics")).text.splitlines()
        status, detail = await part(app)

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert (health.json()["database"], health.json()["spool"]) == ("down", "degraded")
    assert 'footfall_ingest_events_total{outcome="queued",way="graphql"} 1.0' in page
    assert 'footfall_spool_events_total{outcome="spooled"} 1.0' in page
    assert "footfall_ledger_outages_total 1.0" in page
    assert status == "DEGRADED"
    assert "wait for the ledger" in detail
    await until_whole(app)
    assert await part(app) == ("OK", "empty")


async def test_what_is_spooled_when_the_service_stops_is_in_the_ledger_after_the_next_start(
    database: Database, tmp_path: Path
) -> None:
    first = uuid4()
    async with open_app(database, tmp_path / "home") as app:
        await app.site("shop")
        await app.resources.directory.sites()
        admin = await cut_off(database)
        answer = await app.ingest("shop", {"eventType": "v", "eventId": str(first)})
        assert answer == [ReceiptStatus.QUEUED]
    await let_in(database, admin)
    left = await ids_in(database)
    async with open_app(database, tmp_path / "home") as app:
        await until_whole(app)

    assert left == []
    assert await ids_in(database) == [first]


async def test_a_full_spool_is_told_with_a_time_to_retry(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", spool_megabytes=1) as app:
        await app.site("shop")
        await app.resources.directory.sites()
        large = {"site": "shop", "events": [{"event": "v", "props": {"x": "y" * 30_000}}] * 20}
        async with away(database):
            first = await app.client.post("/collect", json=large)
            full = await app.client.post("/collect", json=large)
            error = await app.refusal(
                "mutation ($input: IngestInput!) { ingest(input: $input) { queued } }",
                {
                    "input": {
                        "siteId": "shop",
                        "events": [{"eventType": "v", "properties": {"x": "y" * 30_000}}] * 20,
                    }
                },
            )
        await until_whole(app)
        again = await app.client.post("/collect", json=large)

    assert (first.status_code, first.json()["queued"]) == (200, 20)
    assert (full.status_code, full.json()["code"]) == (503, "OVERLOADED")
    assert int(full.headers["retry-after"]) > 1
    assert error["code"] == "OVERLOADED"
    assert error["retryAfter"] > 1
    assert again.json()["accepted"] == 20
