"""Caching of queries by GET, as a client and an HTTP cache see it."""

import asyncio
import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

YEAR = 'range: {from: "2025-03-01", to: "2026-02-28"}'
DAU = f'{{ dau(siteId: "shop", {YEAR}) {{ points {{ date users }} total meta {{ computedAt }} }} }}'
SITES = "{ sites { id } }"
VARY = "Accept, Accept-Encoding, Authorization, X-API-Key"


async def get(app: App, query: str, key: str | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await app.client.get(
        "/graphql",
        params={"query": query},
        headers={"x-api-key": key or app.admin_key, "accept-encoding": "identity", **named},
    )


def executed(app: App) -> float:
    """How many queries were executed until now."""
    registry, name = app.resources.metrics.registry, "footfall_graphql_operations_total"
    return sum(
        registry.get_sample_value(name, {"operation_type": "query", "outcome": outcome}) or 0
        for outcome in ("succeeded", "partial", "failed")
    )


async def test_a_repeated_question_is_answered_from_the_cache(app: App) -> None:
    first = await get(app, DAU)
    before = executed(app)
    second = await get(app, DAU)

    assert executed(app) == before > 0
    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["age"].isdigit()
    assert "age" not in first.headers
    for answer in (first, second):
        assert answer.headers["cache-control"] == "private, max-age=5"
        assert answer.headers["vary"] == VARY
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["x-correlation-id"] != second.headers["x-correlation-id"]


async def test_what_may_be_kept_says_nothing_of_the_budget_at_the_moment(app: App) -> None:
    cost = (await get(app, SITES)).json()["extensions"]["cost"]
    told = (await app.post(SITES))["extensions"]["cost"]

    assert "throttleStatus" not in cost
    assert cost["requestedQueryCost"] == told["requestedQueryCost"]
    assert "throttleStatus" in told


async def test_the_tag_is_the_same_for_the_same_answer(app: App) -> None:
    first = await get(app, SITES)
    again = await get(app, SITES, cache_control="no-cache")
    await app.site("third")
    other = await get(app, SITES, cache_control="no-cache")

    assert first.headers["etag"] == again.headers["etag"] != other.headers["etag"]
    assert not first.headers["etag"].startswith("W/")


async def test_an_answer_that_the_client_has_is_not_sent_again(app: App) -> None:
    first = await get(app, DAU)
    tag = first.headers["etag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*", f'W/"x",{tag} , "y"'):
        answer = await get(app, DAU, if_none_match=known)
        assert (answer.status_code, answer.content) == (304, b"")
        for name in ("etag", "cache-control", "vary"):
            assert answer.headers[name] == first.headers[name]
        assert "content-type" not in answer.headers
    for unknown in ('"other"', "", tag[1:-1], tag[:-1] + '-gzip"'):
        answer = await get(app, DAU, if_none_match=unknown)
        assert (answer.status_code, answer.content) == (200, first.content)


async def test_a_fresh_answer_is_compared_too(app: App) -> None:
    tag = (await get(app, SITES)).headers["etag"]

    answer = await get(app, SITES, cache_control="no-cache", if_none_match=tag)

    assert answer.status_code == 304


async def test_a_compressed_answer_has_a_tag_of_its_own(app: App) -> None:
    plain = await get(app, DAU)
    request = app.client.build_request(
        "GET",
        "/graphql",
        params={"query": DAU},
        headers={"x-api-key": app.admin_key, "accept-encoding": "gzip"},
    )
    zipped = await app.client.send(request, stream=True)
    raw = b"".join([part async for part in zipped.aiter_raw()])

    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) == len(raw) < len(plain.content) / 3
    assert gzip.decompress(raw) == plain.content
    tag, zipped_tag = plain.headers["etag"], zipped.headers["etag"]
    assert zipped_tag == tag[:-1] + '-gzip"'
    for encoding, known, status in (
        ("gzip", zipped_tag, 304),
        ("gzip", tag, 200),
        ("identity", tag, 304),
        ("identity", zipped_tag, 200),
    ):
        answer = await get(app, DAU, accept_encoding=encoding, if_none_match=known)
        assert answer.status_code == status
        assert answer.headers["vary"] == VARY


async def test_short_answers_are_not_compressed_and_long_ones_by_post_are(app: App) -> None:
    headers = {"x-api-key": app.admin_key, "accept-encoding": "gzip"}
    short = await app.client.post("/graphql", json={"query": SITES}, headers=headers)
    long = await app.client.post("/graphql", json={"query": DAU}, headers=headers)
    plain = await app.client.post(
        "/graphql", json={"query": DAU}, headers={**headers, "accept-encoding": "gzip;q=0"}
    )

    assert "content-encoding" not in short.headers
    assert long.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert long.json()["data"]["dau"]["points"] == plain.json()["data"]["dau"]["points"]
    assert len(long.json()["data"]["dau"]["points"]) == 365


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { name } }",
        "{ sites { id } viewer { name } }",
        "{ __typename }",
        "{ __schema { description } }",
        '{ sites { id } site(id: "no-such-site") { id } }',
        "{ nope }",
        "{",
        'mutation { revokeApiKey(id: "x") }',
    ],
)
async def test_what_may_not_be_kept_says_so(app: App, query: str) -> None:
    for accept in ("application/json", "application/graphql-response+json"):
        first = await get(app, query, accept=accept)
        second = await get(app, query, accept=accept, if_none_match="*")

        for answer in (first, second):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["vary"] == VARY
            assert {"etag", "age"}.isdisjoint(answer.headers)
        assert first.json() == {**second.json(), **_cost(first)}


def _cost(answer: httpx.Response) -> dict[str, Any]:
    """The part of a body that is of its moment."""
    body = answer.json()
    return {"extensions": body["extensions"]} if "extensions" in body else {}


async def test_nothing_by_post_is_kept(app: App) -> None:
    headers = {"x-api-key": app.admin_key}
    before = executed(app)
    answers = [
        await app.client.post("/graphql", json={"query": SITES}, headers=headers) for _ in range(2)
    ]

    assert executed(app) == before + 2
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * 2
    assert all("etag" not in answer.headers for answer in answers)


async def test_asking_what_a_query_would_cost_is_not_kept(app: App) -> None:
    params = {"query": SITES, "extensions": json.dumps({"cost": {"dryRun": True}})}

    answer = await app.client.get("/graphql", params=params, headers={"x-api-key": app.admin_key})

    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["data"] is None
    assert answer.json()["extensions"]["cost"]["actualQueryCost"] == 0


async def test_nobody_gets_what_was_kept_for_another_key(app: App) -> None:
    shop = await app.key("shop", Scope.READ)
    blog = await app.key("blog", Scope.READ)

    answers = [await get(app, SITES, key) for key in (app.admin_key, shop, blog, shop)]

    told = [answer.json()["data"]["sites"] for answer in answers]
    assert told == [[{"id": "blog"}, {"id": "shop"}], [{"id": "shop"}], [{"id": "blog"}], told[1]]
    assert ["age" in answer.headers for answer in answers] == [False, False, False, True]


async def test_each_media_type_has_its_own(app: App) -> None:
    newer = {"accept": "application/graphql-response+json"}
    await get(app, SITES)

    first, second = await get(app, SITES, **newer), await get(app, SITES, **newer)

    assert "age" not in first.headers
    assert "age" in second.headers
    assert second.headers["content-type"] == "application/graphql-response+json; charset=utf-8"


async def test_a_revoked_key_gets_nothing_from_the_cache(app: App) -> None:
    key = await app.key("shop", Scope.READ)
    first = await get(app, SITES, key)
    revoked = await app.data(
        "mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": key.split("_")[1]}
    )

    second = await get(app, SITES, key, if_none_match=first.headers["etag"])

    assert revoked == {"revokeApiKey": True}
    assert (first.status_code, second.status_code) == (200, 401)
    assert second.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("wish", ["no-cache", "max-age=0", "no-store"])
async def test_who_wants_a_new_answer_gets_one(app: App, wish: str) -> None:
    old = await get(app, SITES)
    await app.site("third")

    stale = await get(app, SITES)
    new = await get(app, SITES, cache_control=wish)
    after = await get(app, SITES)

    assert stale.content == old.content
    assert new.content != old.content
    assert "age" not in new.headers
    # What a client does not want to be stored is not; the older answer serves on.
    assert after.content == (old.content if wish == "no-store" else new.content)


async def test_who_asks_the_same_at_once_is_answered_by_one_execution(app: App) -> None:
    before = executed(app)

    answers = await asyncio.gather(*(get(app, DAU) for _ in range(20)))

    assert executed(app) == before + 1
    assert {answer.content for answer in answers} == {answers[0].content}
    assert {answer.status_code for answer in answers} == {200}


async def test_errors_are_found_by_everybody_alone(app: App) -> None:
    before = executed(app)

    answers = await asyncio.gather(*(get(app, '{ site(id: "no") { id } }') for _ in range(5)))

    assert executed(app) == before + 5
    assert all("errors" in answer.json() for answer in answers)


async def test_in_production_a_kept_answer_too_is_for_those_alone_who_may_ask(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        asked = await get(app, SITES, graphql_require_preflight="1")
        forged = await get(app, SITES)
        again = await get(app, SITES, graphql_require_preflight="1")

        assert (asked.status_code, forged.status_code, again.status_code) == (200, 400, 200)
        assert "age" in again.headers
        assert "GraphQL-Require-Preflight" in forged.json()["errors"][0]["message"]


async def test_in_production_what_was_asked_by_name_is_repeated_without_more_ado(
    database: Database, tmp_path: Path
) -> None:
    sha = {"version": 1, "sha256Hash": sha256(SITES.encode()).hexdigest()}
    extensions = {"persistedQuery": sha}
    async with open_app(database, tmp_path / "home", environment="production") as app:
        headers = {"x-api-key": app.admin_key}
        body = {"query": SITES, "extensions": extensions}
        stored = await app.client.post("/graphql", json=body, headers=headers)
        first, second = [
            await app.client.get(
                "/graphql", params={"extensions": json.dumps(extensions)}, headers=headers
            )
            for _ in range(2)
        ]

    assert [answer.status_code for answer in (stored, first, second)] == [200, 200, 200]
    assert ("age" in first.headers, "age" in second.headers) == (False, True)
    assert first.content == second.content
    assert first.json()["data"] == stored.json()["data"]
