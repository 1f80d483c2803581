"""The documents of docs/examples: each is run as it stands, and shows something."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    FieldNode,
    OperationDefinitionNode,
    OperationType,
    parse,
    validate,
)
from graphql.execution.values import get_variable_values

from data.local_secrets import NamedSecrets
from schema.build import graphql_schema
from tests.fixtures.app import App, open_app
from tests.fixtures.exported import until
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import BUCKET, KEY_ID, SECRET, S3Server
from tests.fixtures.source_answers import as_json
from tests.fixtures.source_server import SourceServer

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples"
DOCUMENTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.graphql"))}
SCHEMA = graphql_schema()

# Bound to no site, as `system` takes it; all others are run with a key of the demo site.
FOR_ADMINS = {"system"}
# Run by tests of their own: they need something that was made before.
IN_ORDER = {"create-api-key", "ingest", "receipts", "revoke-api-key"}
OF_SOURCES = {
    *("audits", "delete-source", "record", "records", "refresh-sources", "save-source"),
    *("source-summary", "sources"),
}
OF_EXPORTS = {
    *("delete-export-destination", "export-destinations", "export-runs", "export-setup"),
    *("retry-export", "run-export", "save-export-destination", "set-export-paused"),
    "verify-export",
}
# What they show is seen where there is a queue: tests/server/test_queue_mode.py.
OF_THE_QUEUE = {"dead-letters", "delete-dead-letters", "replay-dead-letters"}


def operation(name: str) -> OperationDefinitionNode:
    """The only operation of a document."""
    found = [
        node
        for node in parse(DOCUMENTS[name]).definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    assert len(found) == 1, f"{name} has {len(found)} operations"
    return found[0]


def variables(name: str) -> dict[str, Any]:
    """The variables beside a document."""
    path = FOLDER / f"{name}.variables.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


KINDS = {name: operation(name).operation for name in DOCUMENTS}
LIVE = [name for name, kind in KINDS.items() if kind is OperationType.SUBSCRIPTION]
APART = {*LIVE, *IN_ORDER, *OF_SOURCES, *OF_EXPORTS, *OF_THE_QUEUE}
RUN = [name for name in DOCUMENTS if name not in APART]


def visits() -> Iterator[Mapping[str, object]]:
    """Three months of a small site, such as the demo site: all that the examples ask for."""
    pages = ("/", "/products/oak-desk", "/cart")
    for number, user in enumerate(("u7398790003", "ada", "bob", "cyd")):
        for month, day in ((1, 5), (1, 20), (2, 3), (2, 25), (3, 2), (3, 16), (3, 29), (3, 30)):
            moment = f"2026-{month:02}-{day:02}T{8 + number:02}:00:00Z"
            common = {"userId": user, "occurredAt": moment, "properties": {"device": "mobile"}}
            for page in pages:
                yield {**common, "eventType": "pageview", "url": f"https://demo.example{page}"}
            yield {**common, "eventType": "signup"}
            yield {**common, "eventType": "purchase"}


async def with_traffic(app: App) -> str:
    """A key of the demo site, which has its traffic by now."""
    await app.site("demo", timezone="Europe/Berlin")
    await app.ingest("demo", *visits())
    await app.followed()
    return await app.key("demo")


def numbers(value: object) -> Iterator[float]:
    """All numbers in an answer."""
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def is_telling(field: Mapping[str, Any]) -> bool:
    """Whether a field of Query shows more than zeros, or a page with something on it."""
    if "meta" not in field and ("nodes" in field or "edges" in field):
        return bool(field.get("nodes") or field.get("edges"))
    return any(number > 0 for number in numbers(field))


async def test_each_example_runs_and_every_report_in_it_shows_something(app: App) -> None:
    key = await with_traffic(app)
    for name in RUN:
        as_who = app.admin_key if name in FOR_ADMINS else key
        body = await app.post(DOCUMENTS[name], variables(name), as_who)

        assert "errors" not in body, (name, body)
        for field, answer in body["data"].items():
            assert answer, (name, field)
            if name not in ("api-keys", "save-site", "site", "sites"):
                assert is_telling(answer), (name, field, answer)


async def test_the_events_of_the_example_are_taken_once_and_have_receipts(app: App) -> None:
    key = await with_traffic(app)

    async def send() -> tuple[int, int, int]:
        data = await app.data(DOCUMENTS["ingest"], variables("ingest"), key)
        told = data["ingest"]
        return told["accepted"], told["duplicates"], told["rejected"]

    assert [await send(), await send()] == [(2, 0, 1), (0, 2, 1)]
    data = await app.data(DOCUMENTS["receipts"], variables("receipts"), key)
    first, second, unknown = data["receipts"]
    assert (first["status"], second["status"], unknown) == ("ACCEPTED", "ACCEPTED", None)


async def test_the_key_of_one_example_is_ended_by_another(app: App) -> None:
    key = await with_traffic(app)
    data = await app.data(DOCUMENTS["create-api-key"], variables("create-api-key"), key)
    made = data["createApiKey"]
    app.resources.directory.forget()
    assert "errors" not in await app.post(DOCUMENTS["ingest"], variables("ingest"), made["key"])

    assert variables("revoke-api-key").keys() == {"id"}
    data = await app.data(DOCUMENTS["revoke-api-key"], {"id": made["id"]}, key)

    assert data == {"revokeApiKey": True}


async def test_the_source_of_an_example_is_saved_fetched_read_and_deleted(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    NamedSecrets(tmp_path).set("prices-token", "hush")
    products = [{"sku": f"oak-{number}", "price": number} for number in range(30)]
    source_server.at("/v1/products", as_json({"items": products, "next": None}))
    given = variables("save-source")
    assert given["input"]["url"] == "https://prices.example.com/v1/products"
    given["input"]["url"] = source_server.url("/v1/products")

    async with open_app(database, tmp_path, outbound_allow_private=True) as app:
        await app.site("demo")
        key = await app.key("demo")
        await app.data(DOCUMENTS["save-source"], given)
        done = await app.data(DOCUMENTS["refresh-sources"], variables("refresh-sources"))
        told = {
            name: await app.data(DOCUMENTS[name], variables(name), key)
            for name in ("sources", "source-summary", "records", "audits")
        }
        record = told["records"]["records"]["nodes"][0]
        assert variables("record").keys() == {"id"}
        one = await app.data(DOCUMENTS["record"], {"id": record["id"]}, key)
        deleted = await app.data(DOCUMENTS["delete-source"], variables("delete-source"))

    assert source_server.asked[0].headers["authorization"] == "Bearer hush"
    assert done["refreshSources"]["audits"][-1]["recordsSeen"] == 30
    for answer in told.values():
        assert all(map(is_telling, ({"of": field} for field in answer.values()))), answer
    assert one["record"]["history"][0] == {
        "at": record["changedAt"],
        "kind": "ADDED",
        "data": record["data"],
    }
    assert deleted == {"deleteSource": True}


async def test_the_export_of_an_example_is_saved_run_proved_and_ended(
    exported_app: App, s3_server: S3Server
) -> None:
    app = exported_app
    key = await with_traffic(app)
    given = variables("save-export-destination")["input"]
    assert given["endpointUrl"] == "https://s3.example.com"
    given |= {"endpointUrl": s3_server.endpoint, "webhookUrl": "http://127.0.0.1:9/"}
    given |= {"accessKeyId": KEY_ID, "secretAccessKey": SECRET}
    assert given["bucket"] == BUCKET

    async def ask(name: str, **values: object) -> Any:
        asked = {**variables(name), **values}
        assert asked.keys() == variables(name).keys(), name
        data = await app.data(DOCUMENTS[name], asked, key)
        [answer] = data.values()
        return answer

    assert (await ask("export-setup"))["externalId"]
    made = await ask("save-export-destination", input=given)
    begun = await ask("run-export", destinationId=made["id"])
    done = await until(app, begun["id"], "SUCCEEDED")
    told = (await ask("export-runs"))["nodes"]
    listed = await ask("export-destinations")
    proved = await ask("verify-export", runId=begun["id"])
    refused = await app.refusal(DOCUMENTS["retry-export"], {"runId": begun["id"]}, key)
    on = await ask("set-export-paused", id=made["id"])
    ended = await ask("delete-export-destination", id=made["id"])

    assert made["hookToken"]
    assert made["webhookSecret"]
    assert (done["events"], told[0]["files"][0]["rows"]) == (160, 160)
    assert listed[0]["lastRun"]["id"] == begun["id"]
    assert proved == {"matches": True, "problems": []}
    assert "nothing to try again" in refused["message"]
    assert (on["paused"], ended) == (False, True)


async def test_without_a_queue_there_are_no_dead_letters(app: App) -> None:
    for name in OF_THE_QUEUE:
        [answer] = (await app.data(DOCUMENTS[name], variables(name))).values()
        assert answer in (0, {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}})


@pytest.mark.parametrize("name", LIVE)
def test_a_subscription_is_valid_with_its_variables(name: str) -> None:
    node = operation(name)

    assert validate(SCHEMA, parse(DOCUMENTS[name])) == []
    assert not isinstance(
        get_variable_values(SCHEMA, node.variable_definitions or (), variables(name)), list
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_example_begins_with_a_title_and_a_few_words(name: str) -> None:
    lines = DOCUMENTS[name].splitlines()

    assert re.fullmatch(r"# [A-Z].*[^.:]", lines[0]), "a title, and no full stop"
    assert lines[1] == "#"
    assert lines[2].startswith("# ")
    assert max(len(line) for line in lines) <= 100
    assert DOCUMENTS[name].endswith("}\n")
    named = operation(name).name
    assert named is not None
    assert named.value[0].isupper()


def test_the_operations_have_names_of_their_own() -> None:
    names = [node.value for name in DOCUMENTS if (node := operation(name).name)]

    assert len(set(names)) == len(DOCUMENTS)


def test_variables_stand_beside_documents_that_have_them_and_no_others() -> None:
    beside = {path.name.partition(".")[0] for path in FOLDER.glob("*.variables.json")}

    assert beside == {name for name in DOCUMENTS if operation(name).variable_definitions}


def test_whatever_can_be_asked_has_an_example() -> None:
    asked: dict[OperationType, set[str]] = {kind: set() for kind in OperationType}
    for name, kind in KINDS.items():
        fields = operation(name).selection_set.selections
        asked[kind] |= {node.name.value for node in fields if isinstance(node, FieldNode)}

    for kind in OperationType:
        root = SCHEMA.get_root_type(kind)
        assert root is not None
        assert asked[kind] == set(root.fields), kind
