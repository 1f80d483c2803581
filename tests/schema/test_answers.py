"""Answers of the real service: every field of every type, and what is said in refusal."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphql import GraphQLObjectType, get_named_type, is_composite_type

from data.local_secrets import NamedSecrets
from data.postgres.keys import Scope
from schema.build import graphql_schema
from tests.fixtures.app import App
from tests.fixtures.exported import exported
from tests.fixtures.exported import save as save_export
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import S3Server
from tests.fixtures.source_answers import text
from tests.fixtures.source_server import SourceServer
from tests.fixtures.sourced import refresh, save

EVENT_ID = "0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11"
FULL_EVENT = {
    "eventId": EVENT_ID,
    "eventType": "view",
    "occurredAt": "2026-01-05T12:00:00.250001+01:00",
    "userId": "ada",
    "visitorId": "v1",
    "sessionId": "s1",
    "url": "https://example.com/a?b",
    "path": "/a",
    "referrer": "https://example.org/",
    "properties": {"plan": "pro", "seats": [1, None, {"x": 1.5}]},
}
JANUARY = 'range: {from: "2026-01-01", to: "2026-01-31"}'
# A question that finds something, for each field of the root.
QUESTIONS = {
    "dau": f'siteId: "shop", {JANUARY}',
    "activeUsers": f'siteId: "shop", {JANUARY}, interval: WEEK',
    "topEvents": f'siteId: "shop", {JANUARY}',
    "eventCounts": f'siteId: "shop", {JANUARY}, interval: HOUR',
    "retention": f'siteId: "shop", {JANUARY}, periods: 2',
    "events": 'siteId: "shop"',
    "userEvents": 'siteId: "shop", userId: "ada"',
    "receipts": f'siteId: "shop", eventIds: ["{EVENT_ID}"]',
    "site": 'id: "shop"',
    "sites": "",
    "viewer": "",
    "system": "",
    "deadLetters": "",
    "apiKeys": "",
    "adminLog": 'siteId: "shop"',
    "sources": "",
    "records": 'sourceKey: "full", includeVanished: true',
    "record": 'id: "1"',
    "audits": "",
    "sourceSummary": "",
}
OF_EXPORTS = {
    "exportDestinations": 'siteId: "shop"',
    "exportRuns": 'siteId: "shop"',
    "exportSetup": 'siteId: "shop"',
}
COMMANDS = {
    "ingest": 'input: {siteId: "shop", events: [{eventType: "view"}, {eventType: ""}]}',
    "saveSite": 'input: {id: "shop", origins: ["https://example.com"]}',
    "createApiKey": 'input: {name: "new", scopes: [READ]}',
    "replayDeadLetters": "",
    "deleteDeadLetters": 'ids: ["1-1"]',
    "invalidateCache": 'siteId: "shop"',
    "saveSource": 'input: {key: "new", url: "http://127.0.0.1:9/"}',
    "refreshSources": 'keys: ["full"], wait: true',
    "deleteSource": 'key: "full"',
}
# `{id}` is a destination, `{run}` a run of it that is done, `{dead}` one that is dead.
EXPORT_COMMANDS = {
    "saveExportDestination": 'input: {id: "{id}", name: "lake", bucket: "their-events", '
    'prefix: "exports", endpointUrl: "{endpoint}", webhookUrl: "http://127.0.0.1:9/", '
    "rotateHook: true, rotateWebhookSecret: true}",
    "verifyExport": 'runId: "{run}"',
    "runExport": 'destinationId: "{id}", since: "2026-01-01T00:00:00Z"',
    "retryExport": 'runId: "{dead}"',
    "setExportPaused": 'id: "{id}", paused: true',
    "deleteExportDestination": 'id: "{id}"',
}

# Where sources stand in answers.
SOURCES = (
    *(".sources", ".records.nodes.source", ".records.edges.node.source", ".record.source"),
    *(".audits.nodes.source", ".audits.edges.node.source", ".sourceSummary.sources.source"),
    *(".system.sources", ".do.saveSource", ".do.refreshSources.sources"),
    ".do.refreshSources.audits.source",
)
# There the source is told of its audits, or has none yet.
OF_ITS_AUDIT = (
    *(".audits.nodes.source", ".audits.edges.node.source", ".do.refreshSources.audits.source"),
    ".do.saveSource",
)
NOT_OF_THE_NEW = "siteId cron headers recordsAt paging lastSuccessAt lastFailureAt lastAudit"


def selection(field_type: object, above: frozenset[str] = frozenset()) -> str:
    """Everything that can be asked of a type, as far down as it goes without a circle."""
    named = get_named_type(field_type)  # type: ignore[call-overload]
    if not is_composite_type(named):
        return ""
    assert isinstance(named, GraphQLObjectType)
    above |= {named.name}
    inner = (
        f"{name} {selection(field.type, above)}"
        for name, field in named.fields.items()
        if get_named_type(field.type).name not in above
    )
    return "{ " + " ".join(inner) + " }"


def asks(root: str, questions: dict[str, str]) -> str:
    """An operation that asks all questions of a root with everything in their answers."""
    fields = graphql_schema().type_map[root].fields  # type: ignore[attr-defined]
    return " ".join(
        f"{name}{f'({arguments})' if arguments else ''} {selection(fields[name].type)}"
        for name, arguments in questions.items()
    )


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of an answer with its path, places in lists left out; empty lists as None."""
    if isinstance(value, dict) and not path.endswith("properties"):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value or [None]:
            yield from leaves(inner, path)
    else:
        yield path, value


def test_these_tests_ask_for_all_there_is() -> None:
    schema = graphql_schema()
    assert schema.query_type
    assert schema.mutation_type

    assert {*QUESTIONS, *OF_EXPORTS} == set(schema.query_type.fields)
    assert {*COMMANDS, *EXPORT_COMMANDS, "revokeApiKey"} == set(schema.mutation_type.fields)


async def fetch_a_source(app: App, server: SourceServer, home: Path) -> None:
    """The source `full`, of which there is everything: a failure, and a record that vanished."""
    NamedSecrets(home).set("token", "hush")
    items = [{"id": 1}, {"id": 2}]
    fields = {
        "siteId": "shop",
        "cron": "0 0 1 1 *",
        "recordsAt": "/items",
        "headers": [{"name": "X-Api-Key", "secret": "token"}],
        "paging": {"kind": "CURSOR", "nextAt": "/next", "parameter": "cursor"},
    }
    await save(app, "full", server.url("/full"), **fields)
    for status, records in ((404, 0), (200, 2), (200, 1)):
        body = json.dumps({"items": items[:records], "next": None})
        server.at("/full", text(body, status=status))
        await refresh(app, "full")


async def test_every_field_is_answered(
    sourced_app: App, source_server: SourceServer, tmp_path: Path
) -> None:
    app = sourced_app
    await fetch_a_source(app, source_server, tmp_path / "home")
    await app.site("shop", origins=["https://example.com"])
    assert await app.ingest("shop", FULL_EVENT) == ["ACCEPTED"]
    await app.followed()
    key = await app.key("shop", Scope.READ)

    others = {name: question for name, question in QUESTIONS.items() if name != "viewer"}
    answer = await app.data("{ " + asks("Query", others) + " }")
    viewer = await app.data("{ " + asks("Query", {"viewer": ""}) + " }", key=key)
    done = await app.data("mutation { " + asks("Mutation", COMMANDS) + " }")

    seen = [*leaves(answer), *leaves(viewer), *leaves(done, ".do")]
    told = {path for path, value in seen if value is not None}
    # Only what cannot be known of these may be null. (Details are what they are.)
    missing = {path for path, _ in seen if ".details." not in path} - told
    assert missing == {
        # There is no queue here.
        ".deadLetters.edges",
        ".deadLetters.nodes",
        ".deadLetters.pageInfo.endCursor",
        ".deadLetters.pageInfo.startCursor",
        ".receipts.code",
        ".receipts.index",
        ".receipts.message",
        ".system.queue",
        ".system.reconciliation",  # nothing differs
        ".apiKeys.expiresAt",
        ".apiKeys.lastUsedAt",
        ".apiKeys.revokedAt",
        ".viewer.expiresAt",
        ".viewer.limits.requests",  # there is no limit
        # A source takes one of two, and none is being fetched; the new one is not known for much.
        *(f"{path}.recordsQuery" for path in SOURCES),
        *(f"{path}.refresh" for path in SOURCES),
        ".record.vanishedAt",
        *(f".do.saveSource.{name}" for name in NOT_OF_THE_NEW.split()),
        ".do.refreshSources.running",
        # The last attempt went well, and nothing is left of what has vanished.
        *(f"{path}.lastAudit.error" for path in SOURCES if path not in OF_ITS_AUDIT),
        ".do.refreshSources.audits.error",
        ".records.nodes.history.data",
        ".records.edges.node.history.data",
    }


async def test_every_field_of_exports_is_answered(
    exported_app: App, s3_server: S3Server, database: Database
) -> None:
    app = exported_app
    (s3_server.folder / "second").mkdir()
    fields = {"thresholdEvents": 1_000_000, "schedule": "DAILY", "backupBucket": "second"}
    some = {"eventType": {"ne": "x"}}
    made = await save_export(
        app, s3_server, **fields, filter=some, webhookUrl="http://127.0.0.1:9/"
    )
    assert await app.ingest("shop", FULL_EVENT) == ["ACCEPTED"]
    await app.followed()
    done = await exported(app, made["id"])
    since = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
    dead = await exported(app, made["id"], **since)
    trouble = "error = 'gone', reason = 'NO_BUCKET', next_attempt_at = now() + interval '1 hour'"
    connection = await database.connect()
    await connection.execute(
        f"update export_targets set status = 'DEAD', {trouble} where run_id = $1", dead["id"]
    )

    answer = await app.data("{ " + asks("Query", OF_EXPORTS) + " }")
    await connection.execute(
        "update export_destinations set paused_at = now(), backup_paused_at = now()"
    )
    paused = await app.data("{ " + asks("Query", OF_EXPORTS) + " }")
    await connection.execute(
        "update export_destinations set paused_at = null, backup_paused_at = null"
    )
    await connection.close()
    commands = asks("Mutation", EXPORT_COMMANDS)
    known = {"id": made["id"], "run": done["id"], "dead": dead["id"]}
    for name, value in {**known, "endpoint": s3_server.endpoint}.items():
        commands = commands.replace(f"{{{name}}}", value)
    did = await app.data("mutation { " + commands + " }")

    seen = [*leaves(answer), *leaves(paused), *leaves(did)]
    told = {name for path, value in seen if value is not None for name in path.split(".")}
    # Nobody assumes a role here, and nothing differs.
    assert {path.rpartition(".")[2] for path, _ in seen} - told == {"problems", "roleArn"}
    shown_once = {path for path, value in seen if path.endswith(("Token", "Secret")) and value}
    assert shown_once == {
        ".saveExportDestination.hookToken",
        ".saveExportDestination.webhookSecret",
    }


async def test_an_event_is_read_back_as_it_was_sent(app: App) -> None:
    await app.ingest("shop", FULL_EVENT)
    await app.followed()

    answer = await app.data("{ " + asks("Query", {"events": QUESTIONS["events"]}) + " }")

    [event] = answer["events"]["nodes"]
    assert answer["events"]["edges"][0]["node"] == event
    received_at = event.pop("receivedAt")
    expected = {**FULL_EVENT, "occurredAt": "2026-01-05T11:00:00.250001Z", "siteId": "shop"}
    assert event == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", received_at)
    assert abs(datetime.fromisoformat(received_at) - datetime.now(UTC)).total_seconds() < 60


async def test_a_report_shows_days_users_and_what_it_rests_on(app: App) -> None:
    await app.ingest("shop", FULL_EVENT)
    await app.followed()

    report = await app.data(
        '{ dau(siteId: "shop", range: {from: "2026-01-04", to: "2026-01-05"}, '
        'timezone: "Asia/Kathmandu") { interval total points { date users complete } '
        "meta { cache source exact timezone } } }"
    )

    assert report["dau"] == {
        "interval": "DAY",
        "total": 1,
        "points": [
            {"date": "2026-01-04", "users": 0, "complete": True},
            {"date": "2026-01-05", "users": 1, "complete": True},
        ],
        "meta": {
            "cache": "MISS",
            "source": "COLUMNAR",
            "exact": True,
            "timezone": "Asia/Kathmandu",
        },
    }


async def test_pages_follow_each_other_without_gap_or_repetition(app: App) -> None:
    for _ in range(2):
        await app.ingest("shop", *({**FULL_EVENT, "eventId": None} for _ in range(3)))
    await app.followed()
    query = """
    query ($after: String) {
      userEvents(siteId: "shop", userId: "ada", first: 4, after: $after) {
        nodes { eventId }
        edges { cursor node { eventId } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      }
    }
    """

    first = (await app.data(query))["userEvents"]
    rest = (await app.data(query, {"after": first["pageInfo"]["endCursor"]}))["userEvents"]
    behind = (await app.data(query, {"after": rest["pageInfo"]["endCursor"]}))["userEvents"]

    for page, count, has_next, has_previous in (
        (first, 4, True, False),
        (rest, 2, False, True),
        (behind, 0, False, True),
    ):
        cursors = [edge["cursor"] for edge in page["edges"]]
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert len(cursors) == count
        assert page["pageInfo"] == {
            "hasNextPage": has_next,
            "hasPreviousPage": has_previous,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        }
    seen = [node["eventId"] for node in first["nodes"] + rest["nodes"]]
    assert len(set(seen)) == 6


async def test_a_bad_event_is_rejected_by_itself_with_the_reason(app: App) -> None:
    bad: dict[str, dict[str, object]] = {
        "INVALID_EVENT_ID": {"eventId": "order-1"},
        "INVALID_EVENT_TYPE": {"eventType": " "},
        "INVALID_TIMESTAMP": {"occurredAt": "yesterday"},
        "INVALID_URL": {"url": "not an address"},
        "INVALID_TEXT": {"userId": "a\0b"},
        "PROPERTIES_NOT_AN_OBJECT": {"properties": [1]},
        "EVENT_TOO_LARGE": {"properties": {"a": "x" * 33_000}},
    }
    events = [{"eventType": "view", **fields} for fields in bad.values()]
    query = """
    mutation ($input: IngestInput!) {
      ingest(input: $input) {
        received accepted duplicates queued rejected
        receipts { index }
        taken: receipts(only: [ACCEPTED, DUPLICATE]) { index status eventId code message }
        refused: receipts(only: [REJECTED]) { index status eventId code message }
        none: receipts(only: []) { index }
        all: receipts(only: null) { index }
      }
    }
    """

    taken = {"eventType": "view", "eventId": EVENT_ID}
    batch = {"siteId": "shop", "events": [*events, taken, taken]}
    payload = (await app.data(query, {"input": batch}))["ingest"]

    counts = {"received": 9, "accepted": 1, "duplicates": 1, "queued": 0, "rejected": 7}
    assert {name: payload[name] for name in counts} == counts
    assert payload["receipts"] == payload["all"] == [{"index": index} for index in range(9)]
    assert payload["none"] == []
    assert payload["taken"] == [
        {"index": 7, "status": "ACCEPTED", "eventId": EVENT_ID, "code": None, "message": None},
        {"index": 8, "status": "DUPLICATE", "eventId": EVENT_ID, "code": None, "message": None},
    ]
    assert {one["index"]: one["code"] for one in payload["refused"]} == dict(enumerate(bad))
    assert all(one["message"] for one in payload["refused"])
    assert payload["refused"][0]["eventId"] is None


async def test_receipts_of_known_and_unknown_ids_come_in_the_order_asked(app: App) -> None:
    await app.ingest("shop", FULL_EVENT)
    unknown = "00000000-0000-4000-8000-000000000000"
    ask = "query ($ids: [UUID!]!) { receipts(siteId: %s, eventIds: $ids) { eventId status } }"

    here = await app.data(ask % '"shop"', {"ids": [unknown, EVENT_ID.upper(), EVENT_ID]})
    elsewhere = await app.data(ask % '"blog"', {"ids": [EVENT_ID]})

    known = {"eventId": EVENT_ID, "status": "ACCEPTED"}
    assert here["receipts"] == [None, known, known]
    assert elsewhere["receipts"] == [None]


async def test_whoever_asks_learns_who_they_are(app: App) -> None:
    query = "{ viewer { keyId name scopes expiresAt site { id } } }"
    made = await app.data(
        'mutation { createApiKey(input: {siteId: "shop", name: "pixel", scopes: [INGEST], '
        'expiresAt: "2999-01-01T00:00:00+01:00"}) { id key } }'
    )
    created = made["createApiKey"]

    admin = (await app.data(query))["viewer"]
    viewer = (await app.data(query, key=created["key"]))["viewer"]

    assert admin["site"] is None
    assert admin["scopes"] == ["INGEST", "READ", "ADMIN"]
    assert viewer == {
        "keyId": created["id"],
        "name": "pixel",
        "scopes": ["INGEST"],
        "expiresAt": "2998-12-31T23:00:00Z",
        "site": {"id": "shop"},
    }

    revoke = "mutation ($id: ID!) { revokeApiKey(id: $id) }"
    assert (await app.data(revoke, {"id": created["id"]})) == {"revokeApiKey": True}
    assert (await app.refusal(query, key=created["key"]))["code"] == "UNAUTHENTICATED"
    assert (await app.refusal(revoke, {"id": created["id"]}))["code"] == "NOT_FOUND"


async def test_a_site_is_saved_with_its_calendar(app: App) -> None:
    saved = await app.data(
        'mutation { saveSite(input: {id: "new", name: "New", timezone: "Asia/Kathmandu", '
        'weekStart: SUNDAY, origins: ["https://example.com/"]}) '
        "{ id name timezone weekStart origins } }"
    )

    assert saved["saveSite"] == {
        "id": "new",
        "name": "New",
        "timezone": "Asia/Kathmandu",
        "weekStart": "SUNDAY",
        "origins": ["https://example.com"],
    }
    assert (await app.data("{ sites { id } }"))["sites"] == [
        {"id": "blog"},
        {"id": "new"},
        {"id": "shop"},
    ]


async def test_the_service_is_as_well_as_its_worst_part(app: App) -> None:
    await app.followed()

    system = (await app.data("{ system { status parts { name status } pendingEvents } }"))["system"]

    assert system["status"] == "OK"
    assert {part["status"] for part in system["parts"]} == {"OK"}
    assert {"ledger", "replica", "columnar"} <= {part["name"] for part in system["parts"]}
    assert system["pendingEvents"] == 0


REFUSED = {
    'site(id: "nowhere") { id }': ("NOT_FOUND", "siteId"),
    f'dau(siteId: "", {JANUARY}) {{ total }}': ("NOT_FOUND", "siteId"),
    f"dau({JANUARY}) {{ total }}": ("BAD_USER_INPUT", "siteId"),
    'dau(siteId: "shop", range: {from: "2026-02-01", to: "2026-01-31"}) { total }': (
        "BAD_USER_INPUT",
        "range",
    ),
    f'dau(siteId: "shop", {JANUARY}, timezone: "Mars") {{ total }}': ("BAD_USER_INPUT", "timezone"),
    f'topEvents(siteId: "shop", {JANUARY}, limit: 0) {{ total }}': ("BAD_USER_INPUT", "limit"),
    f'activeUsers(siteId: "shop", {JANUARY}, rolling: 0) {{ total }}': (
        "BAD_USER_INPUT",
        "rolling",
    ),
    f'dau(siteId: "shop", {JANUARY}, filter: {{path: {{matches: "("}}}}) {{ total }}': (
        "BAD_USER_INPUT",
        "filter",
    ),
    f'retention(siteId: "shop", {JANUARY}, interval: HOUR) {{ interval }}': (
        "BAD_USER_INPUT",
        "interval",
    ),
    'events(siteId: "shop", first: 0) { nodes { path } }': ("BAD_USER_INPUT", "first"),
    'events(siteId: "shop", after: "x") { nodes { path } }': ("BAD_USER_INPUT", "after"),
    'receipts(siteId: "shop", eventIds: ["x"]) { status }': ("BAD_USER_INPUT", "eventIds"),
}


async def test_a_refusal_has_a_code_and_names_the_argument(app: App) -> None:
    refused = {question: await app.refusal(f"{{ {question} }}") for question in REFUSED}

    assert {
        question: (one["code"], one["argument"]) for question, one in refused.items()
    } == REFUSED


async def test_a_filter_that_is_nested_too_deep_is_refused_in_words(app: App) -> None:
    deep: dict[str, Any] = {}
    for _ in range(150):
        deep = {"not": deep}
    query = f'query ($f: EventFilter) {{ dau(siteId: "shop", {JANUARY}, filter: $f) {{ total }} }}'

    refused = await app.refusal(query, {"f": deep})

    assert (refused["code"], refused["argument"]) == ("BAD_USER_INPUT", "filter")
    assert "nested" in refused["message"]
