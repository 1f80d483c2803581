"""Saving sources: what is taken, what is refused, who may do it and who sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.local_secrets import NamedSecrets
from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.source_answers import Items
from tests.fixtures.source_server import SourceServer
from tests.fixtures.sourced import RECORDS, REFRESH, SAVE, page, refresh, save


@pytest.fixture
def app(sourced_app: App) -> App:
    """The application, whose sources may be on this machine."""
    return sourced_app


async def test_a_source_is_saved_with_its_defaults_and_changed_as_a_whole(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/prices", Items([{"id": 1}]))
    made = await save(app, "prices", source_server.url("/prices"))
    changed = await save(app, "prices", source_server.url("/prices"), idField="sku", enabled=False)

    assert made | {"nextAttemptAt": None, "refreshSeconds": 600} == {
        "key": "prices",
        "url": source_server.url("/prices"),
        "siteId": None,
        "enabled": True,
        "refreshSeconds": 600,
        "cron": None,
        "timezone": "UTC",
        "method": "GET",
        "headers": [],
        "format": "AUTO",
        "recordsAt": None,
        "recordsQuery": None,
        "idField": "id",
        "paging": None,
        "limits": {
            "minRecords": 0,
            "maxRecords": 100_000,
            "maxBytes": 33_554_432,
            "timeoutSeconds": 10,
        },
        "breakerFailures": 5,
        "breakerSeconds": 60,
        "isDeclared": False,
        "version": 1,
        "breaker": "CLOSED",
        "failures": 0,
        "records": 0,
        "lastSuccessAt": None,
        "nextAttemptAt": None,
        "refresh": None,
    }
    assert made["nextAttemptAt"] is not None
    assert (changed["version"], changed["idField"], changed["enabled"]) == (2, "sku", False)
    assert changed["nextAttemptAt"] is None


@pytest.mark.parametrize(
    ("keys", "word"), [(["p", "nowhere"], "'nowhere'"), (["off"], "switched off")]
)
async def test_what_cannot_be_refreshed_is_named(
    app: App, source_server: SourceServer, keys: list[str], word: str
) -> None:
    await save(app, "p", source_server.url("/p"))
    await save(app, "off", source_server.url("/p"), enabled=False)

    refusal = await app.refusal(REFRESH, {"keys": keys})

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "keys")
    assert word in refusal["message"]


async def test_a_deleted_source_takes_its_records_along(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    await save(app, "p", source_server.url("/p"))
    await refresh(app, "p")
    delete = "mutation ($key: String!) { deleteSource(key: $key) }"

    assert await app.data(delete, {"key": "p"}) == {"deleteSource": True}

    assert (await app.data("{ sources { key } audits { nodes { id } } }")) == {
        "sources": [],
        "audits": {"nodes": []},
    }
    assert (await page(app, gone=True))["nodes"] == []
    assert (await app.refusal(delete, {"key": "p"}))["code"] == "NOT_FOUND"
    assert (await app.refusal(RECORDS, {"source": "p"}))["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "argument"),
    [
        ({"key": ""}, "key"),
        ({"key": "Prices!"}, "key"),
        ({"key": "a\0b"}, "key"),
        ({"url": "ftp://example.com/x"}, "url"),
        ({"url": "not a url"}, "url"),
        ({"url": "http://me:hush@127.0.0.1/x"}, "url"),
        ({"url": "http://no-such-host.invalid/x"}, "url"),
        ({"siteId": "nowhere"}, "siteId"),
        ({"refreshSeconds": 0}, "refreshSeconds"),
        ({"refreshSeconds": -5}, "refreshSeconds"),
        ({"cron": "every day"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"recordsAt": "items"}, "recordsAt"),
        ({"recordsQuery": "[?"}, "recordsQuery"),
        ({"idField": ""}, "idField"),
        ({"minRecords": -1}, "minRecords"),
        ({"maxRecords": -1}, "maxRecords"),
        ({"maxBytes": 0}, "maxBytes"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"breakerFailures": 0}, "breakerFailures"),
        ({"breakerSeconds": 0}, "breakerSeconds"),
        ({"paging": {"kind": "NEXT_URL"}}, "paging.nextAt"),
        ({"headers": [{"name": "Authorization", "secret": "nowhere"}]}, "headers"),
        ({"headers": [{"name": "Authorization", "value": "Bearer abc"}]}, "headers"),
    ],
    ids=str,
)
async def test_what_is_known_to_be_wrong_is_refused_when_it_is_saved(
    app: App, source_server: SourceServer, fields: dict[str, object], argument: str
) -> None:
    given = {"key": "p", "url": source_server.url("/p"), **fields}

    refusal = await app.refusal(SAVE, {"input": given})

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", argument)
    assert "hush" not in refusal["message"]
    assert "abc" not in refusal["message"]
    assert await app.data("{ sources { key } }") == {"sources": []}


async def test_private_addresses_are_refused_unless_they_are_allowed(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    async with open_app(database, tmp_path / "home") as app:
        for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "2130706433"):
            given = {"key": "p", "url": f"http://{host}/x"}
            refusal = await app.refusal(SAVE, {"input": given})
            assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "url"), host


async def test_a_secret_goes_to_the_source_and_nowhere_else(
    app: App, source_server: SourceServer, tmp_path: Path
) -> None:
    NamedSecrets(tmp_path / "home").set("token", "hush-hush")
    source_server.at("/p", Items([{"id": 1}]))
    headers = [
        {"name": "Authorization", "value": "Bearer {}", "secret": "token"},
        {"name": "X-Client", "value": "footfall-of-ours"},
    ]

    saved = await save(app, "p", source_server.url("/p"), headers=headers)
    await refresh(app, "p")
    shown = json.dumps(
        await app.data("{ adminLog { nodes { details } } sources { headers { name secret } } }")
    )

    assert saved["headers"] == [
        {"name": "Authorization", "secret": "token"},
        {"name": "X-Client", "secret": None},
    ]
    assert source_server.asked[0].headers["authorization"] == "Bearer hush-hush"
    assert source_server.asked[0].headers["x-client"] == "footfall-of-ours"
    assert "hush-hush" not in shown
    assert "footfall-of-ours" not in shown


async def test_a_key_of_one_site_sees_the_sources_of_its_site_alone(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    for key, site in (("of-shop", "shop"), ("of-blog", "blog"), ("of-all", None)):
        await save(app, key, source_server.url("/p"), siteId=site)
    await refresh(app, "of-shop", "of-blog", "of-all")
    key = await app.key("shop", Scope.READ)
    every = (await page(app))["nodes"]
    others = [node["id"] for node in every if node["source"]["key"] != "of-shop"]

    seen = await app.data(
        "{ sources { key } records { nodes { source { key } } } "
        "audits { nodes { source { key } } } sourceSummary { records sources { source { key } } } }",
        key=key,
    )

    mine = {"source": {"key": "of-shop"}}
    assert len(others) == 2
    assert seen["sources"] == [{"key": "of-shop"}]
    assert seen["records"]["nodes"] == [mine]
    assert seen["audits"]["nodes"] == [mine]
    assert seen["sourceSummary"] == {"records": 1, "sources": [mine]}
    for record_id in others:
        assert await app.data(f'{{ record(id: "{record_id}") {{ id }} }}', key=key) == {
            "record": None
        }
    for name in ("of-blog", "of-all", "nowhere"):
        refusal = await app.refusal(RECORDS, {"source": name}, key)
        assert (refusal["code"], refusal["argument"]) == ("NOT_FOUND", "sourceKey")
        assert refusal["message"] == f"there is no source {name!r}"


async def test_reading_takes_the_scope_and_changing_a_key_for_all_sites(
    app: App, source_server: SourceServer
) -> None:
    writer, admin = await app.key("shop", Scope.INGEST), await app.key("shop", Scope.ADMIN)
    everywhere = await app.key(None, Scope.READ)

    for query in (
        "{ sources { key } }",
        "{ records { nodes { id } } }",
        "{ sourceSummary { records } }",
    ):
        assert (await app.refusal(query, key=writer))["code"] == "FORBIDDEN"
    given = {"input": {"key": "p", "url": source_server.url("/p")}}
    for key in (admin, everywhere):
        assert (await app.refusal(SAVE, given, key))["code"] == "FORBIDDEN"
        assert (await app.refusal(REFRESH, {"keys": []}, key))["code"] == "FORBIDDEN"
        delete = 'mutation { deleteSource(key: "p") }'
        assert (await app.refusal(delete, key=key))["code"] == "FORBIDDEN"
