"""API keys over GraphQL: who sees which of them, when they end, and when they were last used."""

from datetime import UTC, datetime, timedelta

import pytest

from data.postgres.keys import Scope, hash_secret, secret_matches, split_key
from tests.fixtures.app import App

LIST = "query ($siteId: ID) { apiKeys(siteId: $siteId) { id siteId } }"
WHOLE = """{ apiKeys {
    id name siteId scopes documents createdAt expiresAt revokedAt lastUsedAt
} }"""
CREATE = "mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { id key } }"


async def sites_of(app: App, site_id: str | None = None, key: str | None = None) -> list[str]:
    found = await app.data(LIST, {"siteId": site_id}, key)
    return sorted(one["siteId"] or "all" for one in found["apiKeys"])


async def test_admins_see_the_keys_that_are_theirs(app: App) -> None:
    shop, _ = await app.key("shop", Scope.ADMIN), await app.key("blog")
    await app.key(None, Scope.READ)

    assert await sites_of(app) == ["all", "blog", "shop"]
    assert await sites_of(app, "blog") == ["blog"]
    assert await sites_of(app, None, shop) == ["shop"]
    assert await sites_of(app, "shop", shop) == ["shop"]
    assert (await app.refusal(LIST, {"siteId": "blog"}, shop))["code"] == "FORBIDDEN"
    assert (await app.refusal(LIST, {"siteId": "none"}))["code"] == "NOT_FOUND"


async def test_keys_that_are_no_admins_see_none(app: App) -> None:
    key = await app.key("shop", Scope.READ, Scope.INGEST)

    assert (await app.refusal(LIST, key=key))["code"] == "FORBIDDEN"


async def test_a_key_is_shown_with_all_but_itself(app: App) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    wanted = {
        "name": "board",
        "siteId": "shop",
        "scopes": ["READ"],
        "documents": "TRUSTED",
        "expiresAt": end.isoformat(),
    }
    made = (await app.data(CREATE, {"input": wanted}))["createApiKey"]
    await app.post("{ viewer { name } }", key=made["key"])
    assert await app.resources.key_uses.flush() == 1
    app.resources.directory.forget()

    answer = await app.client.post(
        "/graphql", json={"query": WHOLE}, headers={"x-api-key": app.admin_key}
    )

    (key,) = answer.json()["data"]["apiKeys"]
    assert {name: key[name] for name in ("id", "name", "siteId", "scopes", "documents")} == {
        "id": made["id"],
        **{name: wanted[name] for name in ("name", "siteId", "scopes", "documents")},
    }
    assert datetime.fromisoformat(key["expiresAt"]) == end
    assert key["revokedAt"] is None
    assert datetime.fromisoformat(key["lastUsedAt"]) >= datetime.fromisoformat(key["createdAt"])
    assert made["key"].split("_")[2] not in answer.text


async def test_only_a_good_key_counts_as_used(app: App) -> None:
    key = await app.key("shop")
    parts = split_key(key)
    assert parts is not None
    await app.post("{ viewer { name } }", key=f"ff_{parts[0]}_{'0' * 64}")
    await app.post("{ viewer { name } }")  # the service-wide key is in no table

    assert await app.resources.key_uses.flush() == 0


@pytest.mark.parametrize("secret", ["", "0", "é", "0" * 64])
async def test_an_unknown_id_and_a_wrong_secret_get_the_same_answer(app: App, secret: str) -> None:
    parts = split_key(await app.key("shop"))
    assert parts is not None
    answers = []
    for key_id in (parts[0], "nobody", "admin"):
        headers = [(b"x-api-key", f"ff_{key_id}_{secret}".encode())]
        answers.append(
            await app.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
        )

    assert [answer.status_code for answer in answers] == [401] * 3
    assert len({answer.text for answer in answers}) == 1


def test_secrets_are_compared_by_their_hashes() -> None:
    assert secret_matches("a" * 64, hash_secret("a" * 64))
    assert not secret_matches("a" * 63 + "b", hash_secret("a" * 64))
