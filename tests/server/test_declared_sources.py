"""SOURCES_FILE: what it says holds, from one start to the next."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data.postgres.sources import all_sources
from data.sources.declared import DeclarationInvalid
from server.resources import open_resources
from server.settings import Settings
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.source_answers import Items
from tests.fixtures.source_server import SourceServer
from tests.fixtures.sourced import SAVE, page, refresh

SOURCES = "{ sources { key isDeclared enabled refreshSeconds version records } }"
DELETE = 'mutation { deleteSource(key: "prices") }'


def declare(path: Path, *tables: str) -> str:
    """Write a file with these tables; its path."""
    file = path / "sources.toml"
    file.write_text("".join(f"[[sources]]\n{table}\n" for table in tables))
    return str(file)


def table(key: str, url: str, *more: str) -> str:
    return "\n".join((f'key = "{key}"', f'url = "{url}"', "refresh_seconds = 86400", *more))


async def sources(app: App) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in (await app.data(SOURCES))["sources"]}


async def test_a_declared_source_is_fetched_and_can_be_changed_in_the_file_alone(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    url = source_server.url("/p")
    settings: dict[str, Any] = {
        "outbound_allow_private": True,
        "sources_file": declare(tmp_path, table("prices", url)),
    }
    async with open_app(database, tmp_path / "home", **settings) as app:
        await refresh(app, "prices")
        first = await sources(app)
        given = {"input": {"key": "prices", "url": url}}
        refusals = [await app.refusal(SAVE, given), await app.refusal(DELETE)]
    async with open_app(database, tmp_path / "home", **settings) as app:
        again = await sources(app)
        log = (await app.data("{ adminLog { nodes { action target actor { keyId } } } }"))[
            "adminLog"
        ]

    assert first["prices"] | {"version": 1} == {
        "key": "prices",
        "isDeclared": True,
        "enabled": True,
        "refreshSeconds": 86_400,
        "version": 1,
        "records": 1,
    }
    assert again == first
    for refusal in refusals:
        assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "key")
        assert "SOURCES_FILE" in refusal["message"]
    saved = [node for node in log["nodes"] if node["action"] == "source.saved"]
    assert saved == [{"action": "source.saved", "target": "prices", "actor": {"keyId": "service"}}]


async def test_a_source_that_leaves_the_file_is_switched_off_and_the_apis_from_then_on(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    url = source_server.url("/p")
    settings: dict[str, Any] = {"outbound_allow_private": True}
    both = declare(tmp_path, table("prices", url), table("other", url))
    async with open_app(database, tmp_path / "home", sources_file=both, **settings) as app:
        await refresh(app, "prices")
    one = declare(tmp_path, table("other", url, 'id_field = "id"'))
    async with open_app(database, tmp_path / "home", sources_file=one, **settings) as app:
        left = await sources(app)
        records = await page(app, source="prices")
        given = {"input": {"key": "prices", "url": url, "refreshSeconds": 77}}
        await app.data(SAVE, given)
        changed = await sources(app)
        await app.data(DELETE)
    async with open_app(database, tmp_path / "home", **settings) as app:
        without_file = await sources(app)

    assert (left["prices"]["isDeclared"], left["prices"]["enabled"]) == (False, False)
    assert (left["other"]["isDeclared"], left["other"]["version"]) == (True, 1)
    assert len(records["nodes"]) == 1
    assert (changed["prices"]["enabled"], changed["prices"]["refreshSeconds"]) == (True, 77)
    assert (without_file["other"]["isDeclared"], without_file["other"]["enabled"]) == (False, False)
    assert set(without_file) == {"other"}


async def test_a_source_of_the_api_becomes_that_of_the_file(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    url = source_server.url("/p")
    settings: dict[str, Any] = {"outbound_allow_private": True}
    async with open_app(database, tmp_path / "home", **settings) as app:
        await app.data(SAVE, {"input": {"key": "prices", "url": url, "refreshSeconds": 9}})
    file = declare(tmp_path, table("prices", url))
    async with open_app(database, tmp_path / "home", sources_file=file, **settings) as app:
        found = await sources(app)

    assert (found["prices"]["isDeclared"], found["prices"]["refreshSeconds"]) == (True, 86_400)


async def test_a_command_that_does_the_work_of_a_service_leaves_declared_sources_alone(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    file = declare(tmp_path, table("prices", source_server.url("/p")))
    async with open_app(database, tmp_path / "home", sources_file=file) as app:
        before = await sources(app)

    # As `footfall export` does where no service runs, in a shell without SOURCES_FILE.
    url = database.url("postgres")
    settings = Settings(_env_file=None, footfall_home=tmp_path / "home", database_url=url)
    async with open_resources(settings) as (resources, _):
        [after] = await all_sources(resources.ledger.writer, datetime.now(UTC))

    assert before["prices"]["isDeclared"]
    assert (after.is_declared, after.source.enabled) == (True, True)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ('site_id = "nowhere"', "site_id: there is no site 'nowhere'"),
        ('headers = [{ name = "Cookie", secret = "nowhere" }]', "headers: there is no secret"),
        ("min_records = -1", "min_records: "),
    ],
)
async def test_a_file_that_cannot_be_used_stops_the_start_and_changes_nothing(
    database: Database, tmp_path: Path, more: str, field: str
) -> None:
    good = table("good", "https://good.example/")
    file = declare(tmp_path, good, table("bad", "https://bad.example/", more))

    with pytest.raises(DeclarationInvalid) as refused:
        async with open_app(database, tmp_path / "home", sources_file=file):
            pass

    assert f"{file}: source 'bad': {field}" in str(refused.value)
    async with open_app(database, tmp_path / "home") as app:
        assert await sources(app) == {}


async def test_processes_that_start_at_the_same_time_declare_once(
    database: Database, tmp_path: Path
) -> None:
    file = declare(tmp_path, *(table(f"s{n}", "https://s.example/") for n in range(10)))

    async def start(name: str) -> dict[str, dict[str, Any]]:
        async with open_app(database, tmp_path / name, sources_file=file) as app:
            return await sources(app)

    found = await asyncio.gather(*map(start, "abc"))

    assert [[one["version"] for one in each.values()] for each in found] == [[1] * 10] * 3
