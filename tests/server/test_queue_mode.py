"""Queue mode as clients and operators see it: receipts, health, `system` and dead letters."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from data.drain import Worker
from data.postgres.admin_log import LogQuery, log_page
from data.postgres.append import append
from data.postgres.keys import Scope
from data.redis.dead_letters import oldest_letter_ids
from data.redis.queue_store import QueueUnusable
from server.settings import Environment, InvalidSettings, load_settings
from tests.data.redis.queueing import SOON
from tests.data.test_drain import PACE, bad
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer

LETTERS = """
query ($first: Int! = 20, $after: String) {
  deadLetters(first: $first, after: $after) {
    nodes { id siteId reason tries events queuedAt failedAt preview }
    edges { cursor }
    pageInfo { hasNextPage hasPreviousPage endCursor }
  }
}
"""
SYSTEM = """
{ system {
  status parts { name status detail }
  queue { length events pending oldestAgeSeconds workers deadLetters }
} }
"""


@asynccontextmanager
async def queueing(
    database: Database, home: Path, server: RedisServer, **settings: object
) -> AsyncIterator[App]:
    async with open_app(
        database, home, redis_url=server.url, ingest_mode="queue", **settings
    ) as app:
        await app.site("shop")
        yield app


@asynccontextmanager
async def drained_by_a_worker(app: App) -> AsyncIterator[None]:
    """A worker beside the application, until nothing waits any more."""
    resources = app.resources
    assert resources.queue
    worker = Worker(
        "beside",
        resources.queue,
        partial(append, resources.ledger.writer),
        lambda _: resources.follower.wake(),
        resources.metrics.worker,
        resources.metrics.queue,
        PACE,
    )
    task = asyncio.create_task(worker.run())
    try:
        yield
        async with asyncio.timeout(SOON):
            while (await resources.queue.state()).entries:
                await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await task


async def seen(app: App, **wanted: object) -> dict[str, object]:
    """The state of the queue, once it is as wanted."""
    async with asyncio.timeout(SOON):
        while True:
            system = (await app.data(SYSTEM))["system"]
            queue: dict[str, object] = system["queue"] or {}
            if wanted.items() <= queue.items():
                return queue
            await asyncio.sleep(0.05)


async def test_events_are_queued_and_committed_by_a_worker(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    async with queueing(database, tmp_path, durable_redis) as app:
        statuses = await app.ingest(
            "shop", *[{"eventType": "view", "userId": "a"}] * 3, {"eventType": ""}
        )
        single = (await app.client.post("/collect", json={"site": "shop", "event": "v"})).json()
        waiting = await seen(app, events=5)
        async with drained_by_a_worker(app):
            working = await seen(app, workers=1)
        await app.followed()
        counted = await app.data('{ events(siteId: "shop", first: 10) { nodes { eventType } } }')
        page = (await app.client.get("/metrics")).text

    assert statuses == ["QUEUED", "QUEUED", "QUEUED", "REJECTED"]
    assert (single["status"], single["receipt"]) == ("queued", "QUEUED")
    assert (waiting["length"], waiting["pending"], waiting["workers"]) == (2, 0, 0)
    assert working["deadLetters"] == 0
    assert len(counted["events"]["nodes"]) == 4
    assert 'footfall_queue_appended_events_total{outcome="queued"} 5.0' in page
    assert 'footfall_ingest_events_total{outcome="queued",way="graphql"} 3.0' in page


async def test_operators_are_told_of_a_queue_that_nobody_drains(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    async with queueing(database, tmp_path, durable_redis) as app:
        health = await app.client.get("/health")
        async with drained_by_a_worker(app):
            await seen(app, workers=1)
            drained = (await app.client.get("/health")).json()
        await durable_redis.kill()
        async with asyncio.timeout(SOON):
            while (lost := (await app.client.get("/health")).json())["queue"] != "down":
                await app.ingest("shop", {"eventType": "view"})
        system = (await app.data(SYSTEM))["system"]
        statuses = await app.ingest("shop", {"eventType": "view"})

    assert (health.status_code, health.json()["queue"]) == (200, "degraded")
    assert "no worker drains it: run `footfall worker`" in health.json()["details"]["queue"]
    assert drained["queue"] == "ok"
    assert "events go to the ledger" in lost["details"]["queue"]
    assert system["queue"] is None
    assert statuses == ["ACCEPTED"]


async def test_a_redis_that_keeps_no_file_is_refused_in_production_and_said_elsewhere(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    production = {"environment": Environment.PRODUCTION}
    with pytest.raises(QueueUnusable, match="set `appendonly yes`, or set INGEST_MODE=direct"):
        async with queueing(database, tmp_path, redis_server, **production):
            pass
    async with queueing(database, tmp_path, redis_server) as app:
        health = (await app.client.get("/health")).json()
        statuses = await app.ingest("shop", {"eventType": "view"})

    assert health["queue"] == "degraded"
    assert "appendonly yes" in health["details"]["queue"]
    assert statuses == ["QUEUED"]


async def test_dead_letters_are_read_in_pages_replayed_and_deleted(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    async with queueing(database, tmp_path, durable_redis) as app:
        assert app.resources.queue_store
        assert app.resources.queue
        for _ in range(3):
            await app.resources.queue_store.submit([bad()], [], 100)
        await app.resources.queue.append([(7, b"\xffnothing")])
        async with drained_by_a_worker(app):
            pass
        first = (await app.data(LETTERS, {"first": 3}))["deadLetters"]
        after = first["pageInfo"]["endCursor"]
        rest = (await app.data(LETTERS, {"after": after}))["deadLetters"]
        nodes = [*first["nodes"], *rest["nodes"]]
        ids = [one["id"] for one in nodes if one["siteId"] == "shop"]
        deleted = await app.data(
            "mutation ($ids: [ID!]!) { deleteDeadLetters(ids: $ids) }", {"ids": ids[:1]}
        )
        one = await app.data(
            "mutation ($ids: [ID!]) { replayDeadLetters(ids: $ids) }", {"ids": ids[:2]}
        )
        others = await app.data("mutation { replayDeadLetters }")
        queue = await seen(app, events=9)
        left = (await app.data(LETTERS))["deadLetters"]

    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "endCursor": first["edges"][-1]["cursor"],
    }
    assert (len(first["nodes"]), len(rest["nodes"])) == (3, 1)
    assert rest["pageInfo"]["hasNextPage"] is False
    by_site = {node["siteId"]: node for node in nodes}
    refused, unknown = by_site["shop"], by_site[None]
    assert (refused["tries"], refused["events"], unknown["events"]) == (1, 1, 7)
    assert refused["preview"][0]["userId"] == "half\x00way"
    assert unknown["preview"] == [{"bytes": 8, "hex": b"\xffnothing".hex()}]
    assert "cannot be decoded" in unknown["reason"]
    assert (deleted, one) == ({"deleteDeadLetters": 1}, {"replayDeadLetters": 1})
    assert others == {"replayDeadLetters": 2}
    assert (queue["length"], queue["deadLetters"], left["nodes"]) == (3, 0, [])


async def test_dead_letters_are_for_admins_of_the_whole_service(app: App) -> None:
    of_site = await app.key("shop", *Scope)
    reader = await app.key(None, Scope.READ)
    documents = [
        "{ deadLetters { nodes { id } } }",
        "mutation { replayDeadLetters }",
        'mutation { deleteDeadLetters(ids: ["1-1"]) }',
    ]
    for key in (of_site, reader):
        for document in documents:
            assert (await app.refusal(document, key=key))["code"] == "FORBIDDEN"


async def test_what_names_no_dead_letter_is_refused(app: App) -> None:
    delete = "mutation ($ids: [ID!]!) { deleteDeadLetters(ids: $ids) }"
    for ids in (["1-1", "*"], [""], ["+"], ["1-1"] * 1_001):
        refusal = await app.refusal(delete, {"ids": ids})
        assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "ids")
    for after in ("x", "MTox", "MjoxLTE"):
        refusal = await app.refusal(LETTERS, {"after": after})
        assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "after")
    for first in (0, 101):
        assert (await app.refusal(LETTERS, {"first": first}))["argument"] == "first"


async def test_dead_letters_of_a_redis_that_is_away_cannot_be_reached(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    async with queueing(database, tmp_path, durable_redis) as app:
        await durable_redis.kill()
        refusal = await app.refusal("mutation { replayDeadLetters }")

    assert (refusal["code"], refusal["part"]) == ("UNAVAILABLE", "queue")


async def test_what_redis_may_do_without_saying_so_stands_in_the_admin_log(
    database: Database, tmp_path: Path, durable_redis: RedisServer
) -> None:
    delete = "mutation ($ids: [ID!]!) { deleteDeadLetters(ids: $ids) }"
    async with queueing(database, tmp_path, durable_redis) as app:
        queue = app.resources.queue
        assert queue
        await queue.append([(7, b"\xffnothing")])
        async with drained_by_a_worker(app):
            pass
        ids, refusals = await oldest_letter_ids(queue, 1), []
        async with asyncio.timeout(SOON):
            # It reads what was sent to it when it goes on, unless it was known to be away already.
            while (await queue.state()).dead_letters:
                durable_redis.freeze()
                refusals.append(await app.refusal(delete, {"ids": ids}))
                durable_redis.thaw()
                await asyncio.sleep(0.1)
                await queue.redis.until_available()
        entries = await log_page(app.resources.ledger.writer, LogQuery(first=10))

    assert {(one["code"], one["part"]) for one in refusals} == {("UNAVAILABLE", "queue")}
    assert entries[0].action == "dead_letters.deleted"
    assert json.loads(entries[0].details) == {"ids": ids, "outcome": "unknown"}


def test_the_queue_needs_a_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_MODE", "queue")
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(InvalidSettings, match="INGEST_MODE cannot be used: the queue needs a Redi"):
        load_settings(_env_file=None)
