"""The admin log over GraphQL: what leaves an entry, who reads it, and in which pages."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import update

from data.admin_log import AdminAction, LoggedEntry
from data.exports.destination import Destination, Place, TargetKind
from data.exports.manifest import encode_manifest, manifest_of
from data.exports.records import RunAsked, Trigger
from data.exports.tally import Tally
from data.postgres.admin_log import LogQuery, log_page, prove
from data.postgres.engine import transaction
from data.postgres.export_destinations import SecretChanges, save_destination
from data.postgres.export_planning import plan_run
from data.postgres.keys import Scope
from data.postgres.sources import save_source
from data.postgres.tables import export_targets
from data.s3.places import AccessKey
from data.sources.source import Source
from schema.build import graphql_schema
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer
from tests.fixtures.s3 import answering

PAGE = """
query ($siteId: ID, $action: String, $since: DateTime, $until: DateTime, $first: Int!, $after: String) {
  adminLog(
    siteId: $siteId, action: $action, since: $since, until: $until, first: $first, after: $after
  ) {
    edges { cursor }
    nodes {
      position at actor { keyId name } siteId action target details hash previousHash
    }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""


@dataclass(frozen=True)
class Call:
    """A mutation as an admin calls it, one that fails, and the action that the log then has.

    `{key}` stands for the id of a key of the site `shop`. There is a source `stocks`, of that site
    and switched off, and one `news` of none that is on. `{destination}` is an export of that site
    to `{endpoint}`, `{dead}` and `{done}` are runs of it.
    """

    action: AdminAction
    works: str
    fails: str
    target: str
    site_id: str | None = "shop"


# Every mutation but `ingest` is an admin's: it stands here, and leaves one entry.
CALLS = {
    "saveSite": Call(
        AdminAction.SITE_SAVED,
        'mutation { saveSite(input: {id: "shop", timezone: "Europe/Berlin"}) { id } }',
        'mutation { saveSite(input: {id: "shop", timezone: "Mars/Olympus"}) { id } }',
        "shop",
    ),
    "createApiKey": Call(
        AdminAction.KEY_CREATED,
        'mutation { createApiKey(input: {siteId: "shop", name: "n", scopes: [READ]}) { id key } }',
        'mutation { createApiKey(input: {siteId: "shop", name: "n", scopes: []}) { id } }',
        "",
    ),
    "revokeApiKey": Call(
        AdminAction.KEY_REVOKED,
        'mutation { revokeApiKey(id: "{key}") }',
        'mutation { revokeApiKey(id: "nosuchkey") }',
        "{key}",
    ),
    "invalidateCache": Call(
        AdminAction.CACHE_INVALIDATED,
        'mutation { invalidateCache(siteId: "shop") { dropped } }',
        'mutation { invalidateCache(siteId: "nowhere") { dropped } }',
        "shop",
    ),
    "replayDeadLetters": Call(
        AdminAction.DEAD_LETTERS_REPLAYED,
        "mutation { replayDeadLetters }",
        'mutation { replayDeadLetters(ids: ["x"]) }',
        "dead letters",
        None,
    ),
    "deleteDeadLetters": Call(
        AdminAction.DEAD_LETTERS_DELETED,
        'mutation { deleteDeadLetters(ids: ["1-0"]) }',
        'mutation { deleteDeadLetters(ids: ["x"]) }',
        "dead letters",
        None,
    ),
    "saveSource": Call(
        AdminAction.SOURCE_SAVED,
        'mutation { saveSource(input: {key: "x", url: "http://127.0.0.1:9/", siteId: "shop", '
        "enabled: false}) { key } }",
        'mutation { saveSource(input: {key: "x", url: "http://127.0.0.1:9/", recordsAt: "x"}) '
        "{ key } }",
        "x",
    ),
    "deleteSource": Call(
        AdminAction.SOURCE_DELETED,
        'mutation { deleteSource(key: "stocks") }',
        'mutation { deleteSource(key: "nosuchsource") }',
        "stocks",
    ),
    "refreshSources": Call(
        AdminAction.SOURCES_REFRESHED,
        'mutation { refreshSources(keys: ["news"]) { running } }',
        'mutation { refreshSources(keys: ["stocks"]) { running } }',
        "news",
        None,
    ),
    "saveExportDestination": Call(
        AdminAction.EXPORT_SAVED,
        'mutation { saveExportDestination(input: {id: "{destination}", name: "lake", '
        'bucket: "their-events", endpointUrl: "{endpoint}", schedule: "MANUAL"}) { id } }',
        'mutation { saveExportDestination(input: {id: "{destination}", name: "lake", '
        'bucket: "their-events", endpointUrl: "{endpoint}", schedule: "always"}) { id } }',
        "{destination}",
    ),
    "deleteExportDestination": Call(
        AdminAction.EXPORT_DELETED,
        'mutation { deleteExportDestination(id: "{destination}") }',
        'mutation { deleteExportDestination(id: "lake") }',
        "{destination}",
    ),
    "setExportPaused": Call(
        AdminAction.EXPORT_PAUSED,
        'mutation { setExportPaused(id: "{destination}", paused: true) { paused } }',
        'mutation { setExportPaused(id: "lake", paused: true) { paused } }',
        "{destination}",
    ),
    "runExport": Call(
        AdminAction.EXPORT_RUN,
        'mutation { runExport(destinationId: "{destination}") { id } }',
        'mutation { runExport(destinationId: "{destination}", since: "2999-01-01T00:00:00Z") '
        "{ id } }",
        "",
    ),
    "retryExport": Call(
        AdminAction.EXPORT_RETRIED,
        'mutation { retryExport(runId: "{dead}") { id } }',
        'mutation { retryExport(runId: "{done}") { id } }',
        "{dead}",
    ),
    "verifyExport": Call(
        AdminAction.EXPORT_VERIFIED,
        'mutation { verifyExport(runId: "{done}") { matches } }',
        'mutation { verifyExport(runId: "{dead}") { matches } }',
        "{done}",
    ),
}
# What follows from some of them, in the name of the service.
FOLLOWS = {AdminAction.EXPORT_PUBLISHED, AdminAction.EXPORT_DEAD}


@dataclass
class Names:
    """What stands in braces in a call, and what it stands for."""

    app: App
    known: dict[str, str]

    def filled(self, document: str) -> str:
        """The document with what is meant."""
        for name, value in self.known.items():
            document = document.replace(f"{{{name}}}", value)
        return document


@pytest_asyncio.fixture
async def queued(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[Names]:
    """The application with a queue, and so with dead letters; and with an export."""
    settings: dict[str, Any] = {"redis_url": redis_server.url, "outbound_allow_private": True}
    async with open_app(database, tmp_path, **settings) as opened, answering(200) as (endpoint, _):
        await opened.site("shop")
        await opened.site("blog")
        for source in (
            Source(key="stocks", url="http://127.0.0.1:9/", site_id="shop", enabled=False),
            Source(key="news", url="http://127.0.0.1:9/"),
        ):
            async with transaction(opened.resources.ledger.writer) as connection:
                await save_source(connection, source, datetime.now(UTC), is_declared=False)
        key_id = (await opened.key("shop", Scope.READ)).split("_")[1]
        yield Names(opened, {"key": key_id, "endpoint": endpoint, **await export(opened, endpoint)})


async def export(app: App, endpoint: str) -> dict[str, str]:
    """An export of the site `shop`, with a run that is dead and one that is done."""
    place = Place(bucket="their-events", endpoint=endpoint)
    destination = Destination(
        destination_id=uuid4(), site_id="shop", name="lake", client=place, schedule="MANUAL"
    )
    buckets, now = app.resources.exporter.buckets, datetime.now(UTC)
    sealed = await buckets.seal(
        destination.destination_id, TargetKind.CLIENT, AccessKey("id", "secret")
    )
    names = {"destination": str(destination.destination_id), "endpoint": endpoint}
    async with transaction(app.resources.ledger.writer) as connection:
        await save_destination(connection, destination, SecretChanges(client=sealed), now)
        for name, status in (("dead", "DEAD"), ("done", "SUCCEEDED")):
            asked = RunAsked(destination.destination_id, Trigger.REQUEST)
            run = (await plan_run(connection, asked, now)).run
            manifest = manifest_of(run.order(place, 1), (), Tally(), now)
            await connection.execute(
                update(export_targets)
                .where(export_targets.c.run_id == run.run_id)
                .values(
                    status=status,
                    next_attempt_at=None,
                    manifest=json.loads(encode_manifest(manifest)),
                )
            )
            names[name] = str(run.run_id)
    return names


async def entries(app: App) -> list[LoggedEntry]:
    """The whole log, newest first."""
    return await log_page(app.resources.ledger.writer, LogQuery(first=1_000))


async def page(app: App, key: str | None = None, **asked: object) -> dict[str, Any]:
    """A page of the log."""
    data = await app.data(PAGE, {"first": 50, **asked}, key)
    found: dict[str, Any] = data["adminLog"]
    return found


def positions(found: dict[str, Any]) -> list[int]:
    return [node["position"] for node in found["nodes"]]


def test_every_mutation_but_ingest_has_its_place_in_the_log() -> None:
    mutation = graphql_schema().mutation_type
    assert mutation is not None
    assert set(mutation.fields) == set(CALLS) | {"ingest"}


@pytest.mark.parametrize("name", CALLS)
async def test_a_mutation_writes_one_entry_and_one_that_fails_none(
    queued: Names, name: str
) -> None:
    app, call = queued.app, CALLS[name]
    before = len(await entries(app))

    failed = await app.post(queued.filled(call.fails))
    after_failure = await entries(app)
    worked = await app.data(queued.filled(call.works))
    newest, *rest = [one for one in await entries(app) if one.action not in FOLLOWS]

    assert failed["errors"]
    assert len(after_failure) == before
    assert len(rest) == before
    assert (newest.action, newest.site_id) == (call.action, call.site_id)
    assert (newest.actor.key_id, newest.actor.name) == ("admin", "service-wide admin key")
    target = queued.filled(call.target) or worked[name]["id"]
    assert newest.target == target
    assert (await prove(app.resources.ledger.writer)).broken is None


@pytest.mark.parametrize("name", CALLS)
async def test_who_may_not_do_it_leaves_no_entry(queued: Names, name: str) -> None:
    app = queued.app
    reader = await app.key("shop", Scope.READ)
    of_another_site = await app.key("blog", Scope.ADMIN)
    before = await entries(app)

    for key in (reader, of_another_site):
        assert (await app.refusal(queued.filled(CALLS[name].works), key=key))["code"] == "FORBIDDEN"

    assert await entries(app) == before


async def test_a_change_that_cannot_be_logged_is_not_made(app: App, database: Database) -> None:
    superuser = await database.connect()
    await superuser.execute("revoke insert on admin_log from footfall_writer")

    refusals = [
        await app.refusal(CALLS["saveSite"].works),
        await app.refusal(CALLS["createApiKey"].works),
    ]

    assert [one["code"] for one in refusals] == ["UNAVAILABLE"] * 2
    assert await superuser.fetchval("select timezone from sites where site_id = 'shop'") == "UTC"
    assert await superuser.fetchval("select count(*) from api_keys") == 0
    await superuser.close()


async def test_ingest_leaves_no_entry(app: App) -> None:
    before = await entries(app)

    await app.ingest("shop", {"eventType": "v"})

    assert await entries(app) == before


async def test_an_entry_says_what_was_before_and_what_is_now(app: App) -> None:
    await app.data('mutation { saveSite(input: {id: "new", name: "New"}) { id } }')
    await app.data('mutation { saveSite(input: {id: "new", weekStart: SUNDAY}) { id } }')

    second, first = (await page(app, siteId="new"))["nodes"]

    assert first["details"] == {
        "isNew": True,
        "name": "New",
        "timezone": "UTC",
        "weekStart": "MONDAY",
        "origins": [],
    }
    assert second["details"] == {
        "isNew": False,
        "changes": {"weekStart": {"from": "MONDAY", "to": "SUNDAY"}},
    }
    assert second["actor"] == {"keyId": "admin", "name": "service-wide admin key"}
    assert second["previousHash"] == first["hash"]


async def test_no_secret_is_in_the_log(app: App, database: Database) -> None:
    made = await app.data(CALLS["createApiKey"].works)
    key = made["createApiKey"]["key"]
    await app.data(
        "mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": made["createApiKey"]["id"]}
    )

    found = json.dumps(await page(app))
    connection: asyncpg.Connection = await database.connect()
    stored = str(await connection.fetch("select * from admin_log"))
    await connection.close()

    for secret in (key, key.split("_")[2], app.admin_key, app.admin_key.split("_")[2]):
        assert secret not in found
        assert secret not in stored
    assert made["createApiKey"]["id"] in found


async def test_an_admin_of_a_site_sees_what_concerns_it_and_others_see_nothing(app: App) -> None:
    admin = await app.key("shop", Scope.ADMIN)
    reader = await app.key("shop", Scope.READ)
    everywhere = await app.key(None, Scope.READ, Scope.INGEST)
    await app.key("blog", Scope.READ)

    own = await page(app, admin)
    by_name = await page(app, admin, siteId="shop")
    of_blog = await page(app, siteId="blog")

    assert {node["siteId"] for node in own["nodes"]} == {"shop"}
    assert own == by_name
    assert {node["siteId"] for node in of_blog["nodes"]} == {"blog"}
    assert len(positions(await page(app))) == len(await entries(app)) > len(positions(own))
    variables: dict[str, object] = {"first": 10}
    for key in (reader, everywhere):
        assert (await app.refusal(PAGE, variables, key))["code"] == "FORBIDDEN"
    foreign = await app.refusal(PAGE, {**variables, "siteId": "blog"}, admin)
    unknown = await app.refusal(PAGE, {**variables, "siteId": "nowhere"})
    assert (foreign["code"], unknown["code"]) == ("FORBIDDEN", "NOT_FOUND")


async def test_pages_hold_still_while_entries_come_in(app: App) -> None:
    for number in range(7):
        await app.site("shop", name=f"Shop {number}")
    total = len(await entries(app))
    seen: list[int] = []
    after = None
    while True:
        found = await page(app, first=2, after=after)
        seen += positions(found)
        assert found["pageInfo"]["hasPreviousPage"] is (after is not None)
        assert found["pageInfo"]["endCursor"] == found["edges"][-1]["cursor"]
        after = found["pageInfo"]["endCursor"]
        await app.site("blog", name=f"Blog {len(seen)}")
        if not found["pageInfo"]["hasNextPage"]:
            break

    assert seen == list(range(total, 0, -1))


async def test_entries_are_found_by_action_and_time(app: App) -> None:
    await app.key("shop", Scope.READ)
    [newest] = (await page(app, first=1))["nodes"]
    made = (await page(app, action="key.created"))["nodes"]

    assert [node["position"] for node in made] == [newest["position"]]
    assert positions(await page(app, since=newest["at"])) == [newest["position"]]
    assert newest["position"] not in positions(await page(app, until=newest["at"]))
    assert positions(await page(app, since=newest["at"], until=newest["at"])) == []


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "action": ({"action": "site.painted"}, "site.saved"),
    "after": ({"after": "bm90aGluZw"}, "not a cursor"),
    "first": ({"first": 1_001}, "1 to 1000"),
    "since": ({"since": "yesterday"}, "since"),
}


@pytest.mark.parametrize("argument", WRONG)
async def test_wrong_arguments_are_named(app: App, argument: str) -> None:
    wrong, says = WRONG[argument]

    refusal = await app.refusal(PAGE, {"first": 10, **wrong})

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", argument)
    assert says in refusal["message"]


async def test_cursors_of_events_and_of_the_log_are_not_mistaken_for_each_other(app: App) -> None:
    await app.ingest("shop", {"eventType": "v"})
    await app.followed()
    events = 'query ($after: String) { events(siteId: "shop", after: $after) { edges { cursor } } }'
    [edge] = (await app.data(events))["events"]["edges"]
    cursor = (await page(app, first=1))["edges"][0]["cursor"]

    assert (await app.refusal(PAGE, {"first": 1, "after": edge["cursor"]}))["argument"] == "after"
    assert (await app.refusal(events, {"after": cursor}))["argument"] == "after"


async def test_the_newest_hash_is_kept_beside_the_ledger_and_a_cut_is_seen(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path) as app:
        await app.site("shop")
        await app.resources.admin_log.look()
        whole = (await app.client.get("/health")).json()
    superuser = await database.connect()
    await superuser.execute("alter table admin_log disable trigger all")
    await superuser.execute("delete from admin_log")
    await superuser.close()
    async with open_app(database, tmp_path) as app:
        async with asyncio.timeout(60):
            while (cut := await app.client.get("/health")).json()["admin_log"] == "ok":
                await asyncio.sleep(0.02)
        metrics = (await app.client.get("/metrics")).text

    assert (whole["admin_log"], whole["details"]["admin_log"]) == ("ok", "at position 1, whole")
    assert (cut.status_code, cut.json()["status"]) == (200, "degraded")
    assert "broken at entry 1" in cut.json()["details"]["admin_log"]
    assert "footfall_admin_log_breaks_total 1.0" in metrics


async def test_a_damaged_end_makes_the_service_degraded_and_takes_no_event_from_it(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "admin_log.head").write_text("{")
    async with open_app(database, tmp_path) as app:
        await app.site("shop")
        await app.resources.admin_log.look()
        health = await app.client.get("/health")
        sent = await app.client.post("/collect", json={"site": "shop", "event": "v"})

    assert (health.status_code, health.json()["admin_log"]) == (200, "degraded")
    assert "its end is not kept safely here" in health.json()["details"]["admin_log"]
    assert sent.status_code == 200
