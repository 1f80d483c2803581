"""Persisted operations over HTTP, between processes, with a Redis that comes and goes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from data.postgres.documents import TrustedDocument, add_documents, remove_documents
from data.postgres.engine import transaction
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer

VIEWER = "query Who { viewer { name documents } }"
SOON = 60.0


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def persisted(text: str) -> dict[str, object]:
    """The extensions of a request that names a text."""
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash_of(text)}}}


async def post(app: App, body: Mapping[str, object], key: str | None = None) -> Any:
    response = await app.client.post(
        "/graphql", json=body, headers={"x-api-key": key or app.admin_key}
    )
    return response.json()


async def code(app: App, body: Mapping[str, object], key: str | None = None) -> str:
    """The code of the only error."""
    [error] = (await post(app, body, key))["errors"]
    return str(error["extensions"]["code"])


async def is_answered(app: App, body: Mapping[str, object], key: str | None = None) -> bool:
    answer = await post(app, body, key)
    return "errors" not in answer and "viewer" in answer["data"]


async def key_for(app: App, mode: str) -> str:
    made = await app.data(
        "mutation Make($input: ApiKeyInput!) { createApiKey(input: $input) { key } }",
        {"input": {"name": mode, "scopes": ["READ"], "documents": mode}},
    )
    return str(made["createApiKey"]["key"])


async def until_available(*apps: App) -> None:
    async with asyncio.timeout(SOON):
        for app in apps:
            assert app.resources.redis is not None
            await app.resources.redis.until_available()


@pytest_asyncio.fixture
async def fleet(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[tuple[App, App]]:
    """Two processes, as it were, on one ledger and one Redis."""
    async with (
        open_app(database, tmp_path / "one", redis_url=redis_server.url) as one,
        open_app(database, tmp_path / "other", redis_url=redis_server.url) as other,
    ):
        await until_available(one, other)
        yield one, other


async def test_a_text_sent_to_one_process_is_known_to_the_other(fleet: tuple[App, App]) -> None:
    one, other = fleet
    assert await code(other, persisted(VIEWER)) == "PERSISTED_QUERY_NOT_FOUND"

    assert await is_answered(one, {"query": VIEWER, **persisted(VIEWER)})

    assert await is_answered(other, persisted(VIEWER))
    assert await is_answered(other, {"documentId": f"sha256:{hash_of(VIEWER)}"})


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer", "GRAPHQL_PARSE_FAILED"),
        ("{ viewer " * 40 + "{ name }" + "}" * 40, "QUERY_TOO_EXPENSIVE"),
    ],
)
async def test_a_text_that_was_refused_is_not_kept(app: App, text: str, refused: str) -> None:
    assert await code(app, {"query": text, **persisted(text)}) == refused

    assert await code(app, persisted(text)) == "PERSISTED_QUERY_NOT_FOUND"


async def test_a_persisted_query_can_be_asked_for_by_get(app: App) -> None:
    await post(app, {"query": VIEWER, **persisted(VIEWER)})

    answer: httpx.Response = await app.client.get(
        "/graphql",
        params={
            "operationName": "Who",
            "extensions": f'{{"persistedQuery":{{"version":1,"sha256Hash":"{hash_of(VIEWER)}"}}}}',
        },
        headers={"x-api-key": app.admin_key, "apollo-require-preflight": "true"},
    )

    assert answer.json()["data"]["viewer"]["documents"] == "APQ"


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_requests_go_on_while_redis_does_not(
    how: str, fleet: tuple[App, App], redis_server: RedisServer
) -> None:
    one, other = fleet
    await post(one, {"query": VIEWER, **persisted(VIEWER)})
    await post(other, persisted(VIEWER))

    if how == "killed":
        await redis_server.kill()
    else:
        redis_server.freeze()
    async with asyncio.timeout(SOON):
        for number in range(50):
            text = f"query Who{number} {{ viewer {{ name }} }}"
            assert await is_answered(one, {"query": text, **persisted(text)})
            assert await is_answered(one, persisted(text))
            assert await is_answered(one, persisted(VIEWER))
            assert await is_answered(other, persisted(VIEWER))
    if how == "killed":
        await redis_server.start()
    else:
        redis_server.thaw()

    await until_available(one, other)
    text = "query Afterwards { viewer { name } }"
    assert await is_answered(one, {"query": text, **persisted(text)})
    assert await is_answered(other, persisted(text))


async def test_commits_are_told_to_the_other_processes(
    fleet: tuple[App, App], redis_server: RedisServer
) -> None:
    one, other = fleet
    await one.site("shop")
    channel = f"footfall:{one.resources.ledger.ledger_id}:commits"
    async with redis_server.client() as client:
        pubsub = client.pubsub()
        await pubsub.subscribe(channel)
        subscribed = await pubsub.get_message(timeout=SOON)
        async with asyncio.timeout(SOON):
            # Both processes listen, and this test.
            while (await client.pubsub_numsub(channel))[0][1] < 3:
                await asyncio.sleep(0.02)

        await one.ingest("shop", {"eventId": str(uuid4()), "eventType": "view", "userId": "ann"})
        message = await pubsub.get_message(timeout=SOON)
        [(_, listeners)] = await client.pubsub_numsub(channel)
        await pubsub.aclose()  # type: ignore[no-untyped-call]

    assert subscribed["type"] == "subscribe"
    assert message["data"].endswith(b" 1")
    assert listeners == 3
    await other.followed()


async def test_a_key_for_trusted_documents_runs_those_and_no_others(app: App) -> None:
    key = await key_for(app, "TRUSTED")
    document = TrustedDocument("who-1", hash_of(VIEWER), "Who", VIEWER, None, datetime.now(UTC))
    await post(app, {"query": VIEWER, **persisted(VIEWER)})
    asked = ({"documentId": "who-1"}, persisted(VIEWER), {"query": VIEWER})

    codes = [await code(app, body, key) for body in asked]
    async with transaction(app.resources.ledger.writer) as connection:
        await add_documents(connection, [document])
    app.resources.directory.forget()
    answered = [await is_answered(app, body, key) for body in asked]
    async with transaction(app.resources.ledger.writer) as connection:
        await remove_documents(connection, ["who-1"], None)
    app.resources.directory.forget()

    assert codes == ["PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_FOUND", "FORBIDDEN"]
    assert answered == [True, True, True]
    assert [await code(app, body, key) for body in asked] == codes
    assert await code(app, {"query": "{ __schema { types { name } } }"}, key) == "FORBIDDEN"


async def test_a_trusted_document_that_the_schema_no_longer_takes_says_so(app: App) -> None:
    text = "{ viewer { shoeSize } }"
    document = TrustedDocument("old", hash_of(text), "", text, None, datetime.now(UTC))
    async with transaction(app.resources.ledger.writer) as connection:
        await add_documents(connection, [document])
    app.resources.directory.forget()

    refused = await code(app, {"documentId": "old"}, await key_for(app, "TRUSTED"))

    assert refused == "GRAPHQL_VALIDATION_FAILED"


async def test_a_key_without_persisted_operations_sends_whole_texts(app: App) -> None:
    key = await key_for(app, "OFF")

    assert await is_answered(app, {"query": VIEWER, **persisted("another")}, key)
    assert await code(app, persisted(VIEWER), key) == "PERSISTED_QUERY_NOT_SUPPORTED"
    assert await code(app, {"documentId": "x"}, key) == "PERSISTED_QUERY_NOT_SUPPORTED"
