"""Health and metrics: what an operator and a load balancer see."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from resolvers.system import CHECK_SECONDS
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer
from tests.fixtures.windows import lasting_window


async def test_a_whole_service_says_so_part_by_part(app: App) -> None:
    await app.ingest("shop", {"eventType": "v"})
    await app.followed()

    answer = await app.client.get("/health")

    found = answer.json()
    assert answer.status_code == 200
    assert {name: found[name] for name in ("status", "database", "replica", "columnar")} == {
        "status": "ok",
        "database": "ok",
        "replica": "ok",
        "columnar": "ok",
    }
    assert found["scheduler"] == "ok"
    assert found["data_through"]
    assert answer.headers["cache-control"] == "no-store"


async def test_who_is_held_up_does_not_take_the_ledger_for_gone(app: App) -> None:
    await app.followed()
    loop = asyncio.get_running_loop()

    for after in (0.001, 0.003, 0.006):
        # By other work, or by a busy machine: while the ledger is asked how it is.
        loop.call_later(after, time.sleep, CHECK_SECONDS + 0.5)
        found = (await app.client.get("/health")).json()
        assert found["database"] == "ok", after


@pytest_asyncio.fixture
async def app_without_spool(database: Database, tmp_path: Path) -> AsyncIterator[App]:
    """The application with nothing that takes events instead of the ledger."""
    async with open_app(database, tmp_path / "home", spool_megabytes=0) as opened:
        await opened.site("shop")
        yield opened


async def test_without_ledger_and_spool_the_service_is_down_and_reports_go_on(
    app_without_spool: App, database: Database
) -> None:
    app = app_without_spool
    await app.ingest(
        "shop", {"eventType": "v", "userId": "a", "occurredAt": "2026-03-01T12:00:00Z"}
    )
    await app.followed()
    report = '{ dau(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-01"}) { total } }'
    admin = await database.server_connection()
    await admin.execute(f"alter database {database.name} allow_connections false")
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name
    )

    health = await app.client.get("/health")
    live = await app.client.get("/health/live")
    dau = await app.data(report)
    refused = await app.client.post("/collect", json={"site": "shop", "event": "v"})

    assert (health.status_code, health.json()["status"]) == (503, "down")
    assert health.json()["database"] == "down"
    assert live.status_code == 200
    assert dau["dau"]["total"] == 1
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert int(refused.headers["retry-after"]) >= 1
    assert "Error" not in refused.text

    await admin.execute(f"alter database {database.name} allow_connections true")
    await admin.close()
    async with asyncio.timeout(60):
        while (await app.client.get("/health")).json()["status"] != "ok":
            await asyncio.sleep(0.05)
    again = await app.client.post("/collect", json={"site": "shop", "event": "v"})
    assert again.status_code == 200


async def test_a_mutation_that_nothing_takes_has_a_code_and_a_time_to_retry(
    app_without_spool: App, database: Database
) -> None:
    app = app_without_spool
    await app.ingest("shop", {"eventType": "v"})
    admin = await database.connect()
    await admin.execute("alter table event_ids rename to away")

    answer = await app.client.post(
        "/graphql",
        json={"query": 'mutation { ingest(input: {siteId: "shop", events: [{eventType: "v"}]}) { accepted } }'},
        headers={"x-api-key": app.admin_key},
    )  # fmt: skip

    await admin.execute("alter table away rename to event_ids")
    await admin.close()
    error = answer.json()["errors"][0]
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert error["extensions"] == {"code": "UNAVAILABLE", "part": "ledger"}
    assert "relation" not in answer.text


async def test_metrics_count_what_happened(app: App) -> None:
    await app.ingest("shop", {"eventType": "v"}, {"eventType": ""})
    await app.client.get("/collect?site=no-such-place&event=v")
    await app.client.get("/no/such/path")
    await app.followed()

    page = (await app.client.get("/metrics")).text

    lines = set(page.splitlines())
    assert 'footfall_ingest_events_total{outcome="accepted",way="graphql"} 1.0' in lines
    assert 'footfall_ingest_events_total{outcome="rejected",way="graphql"} 1.0' in lines
    assert 'footfall_ingest_rejected_events_total{code="INVALID_EVENT_TYPE"} 1.0' in lines
    assert 'footfall_graphql_operations_total{operation_type="mutation",outcome="succeeded"} 1.0' in lines  # fmt: skip
    assert 'footfall_http_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert "footfall_follow_watermark_position 1.0" in lines
    assert "footfall_follow_applied_rows_total 1.0" in lines
    assert "no-such-place" not in page
    assert "shop" not in page


async def test_redis_is_a_part_where_there_is_one_and_its_loss_keeps_nobody_from_work(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    async with open_app(database, tmp_path, redis_url=redis_server.url) as app:
        await app.followed()
        whole = (await app.client.get("/health")).json()
        await redis_server.kill()
        async with asyncio.timeout(60):
            while (lost := await app.client.get("/health")).json()["cache"] == "ok":
                await app.resources.persisted.find("0" * 64)

    assert (whole["status"], whole["cache"]) == ("ok", "ok")
    assert (lost.status_code, lost.json()["status"]) == (200, "degraded")
    assert "does without" in lost.json()["details"]["redis"]


@pytest.mark.parametrize(
    ("peer", "key", "tells"),
    [
        ("10.0.0.7", "", True),
        ("8.8.8.8", "", False),
        ("8.8.8.8", "{key}", True),
        ("8.8.8.8", "ff_admin_0", False),
    ],
)
async def test_strangers_hear_how_a_service_in_production_is_and_nothing_about_it(
    database: Database, tmp_path: Path, peer: str, key: str, tells: bool
) -> None:
    async with (
        open_app(database, tmp_path / "home", environment="production") as app,
        app.client_from(peer) as client,
    ):
        sent = {"x-api-key": key.format(key=app.admin_key)} if key else {}
        answer = await client.get("/health", headers=sent)

    found = answer.json()
    assert answer.status_code == 200
    assert (found["database"], found["scheduler"]) == ("ok", "ok")
    assert {"details", "leader", "data_through"} & set(found) == (
        {"details", "leader", "data_through"} if tells else set()
    )


async def test_however_many_ask_at_once_the_databases_are_asked_once(
    app: App, database: Database
) -> None:
    count = "select sum(xact_commit + xact_rollback) from pg_stat_database where datname = $1"
    admin = await database.server_connection()
    at_rest = await app.client.get("/health")

    async def transactions() -> int:
        await asyncio.sleep(1.1)  # what was done is told to the server's statistics once a second
        return int(await admin.fetchval(count, database.name))

    before = await transactions()
    answers = await asyncio.gather(*(app.client.get("/health") for _ in range(200)))
    after = await transactions()
    await admin.close()

    assert {one.status_code for one in (at_rest, *answers)} == {200}
    # Others work there, too: the follower, the lookout, jobs.
    assert after - before < 200


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_a_key_that_is_no_good_counts_wherever_it_is_tried(
    database: Database, tmp_path: Path, path: str
) -> None:
    production = {
        "environment": "production",
        "rate_limit_requests": 3,
        "rate_limit_window_seconds": lasting_window(),
    }
    async with (
        open_app(database, tmp_path / "home", **production) as app,
        app.client_from("8.8.8.8") as client,
    ):
        wrong = [await client.get(path, headers={"x-api-key": "ff_admin_0"}) for _ in range(5)]
        none = await client.get(path)
        failures = app.resources.metrics.login.failures._value.get()

    refused = 200 if path == "/health" else 403
    limited = 200 if path == "/health" else 429
    assert [one.status_code for one in wrong] == [refused] * 3 + [limited] * 2
    assert none.status_code == refused
    assert failures == 5
    assert path == "/health" or int(wrong[4].headers["retry-after"]) >= 1
