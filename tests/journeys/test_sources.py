"""External data beside usage data: declared by a file, fetched by itself, read by a site's key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.fixtures.service import Service, ended_command, footfall, running
from tests.fixtures.source_answers import Gated, Items, Paged, csv, ndjson
from tests.fixtures.source_server import SourceServer

FILE = """
[[sources]]
key = "catalogue"
url = "{origin}/catalogue"
site_id = "shop"
refresh_seconds = 86400
records_at = "/items"
headers = [{{ name = "Authorization", value = "Bearer {{}}", secret = "catalogue-token" }}]
paging = {{ kind = "CURSOR", next_at = "/next", parameter = "cursor" }}

[[sources]]
key = "incidents"
url = "{origin}/incidents"
cron = "0 0 1 1 *"

[[sources]]
key = "spend"
url = "{origin}/spend"
refresh_seconds = 86400
id_field = "campaign"

[[sources]]
key = "slow"
url = "{origin}/slow"
refresh_seconds = 86400
timeout_seconds = 60
"""
SOURCES = "{ sources { key records lastSuccessAt refresh { startedAt } } }"
RECORDS = """
query ($key: String!) { records(sourceKey: $key, first: 1000) { nodes { externalId data } } }
"""
REFRESH = """
mutation ($keys: [String!]!) {
  refreshSources(keys: $keys, wait: true) { running audits { recordsSeen recordsChanged } }
}
"""
SUMMARY = "{ sourceSummary { records sources { records source { key } } } }"


async def until_fetched(service: Service, *keys: str) -> dict[str, Any]:
    """The sources, once each of these has brought its records."""
    async with asyncio.timeout(60):
        while True:
            found = {one["key"]: one for one in (await service.data(SOURCES))["sources"]}
            if all(found[key]["lastSuccessAt"] for key in keys):
                return found
            await asyncio.sleep(0.1)


async def test_sources_of_a_file_are_fetched_by_themselves_and_read_by_the_keys_of_a_site(
    tmp_path: Path, source_server: SourceServer
) -> None:
    home, file = tmp_path / "home", tmp_path / "sources.toml"
    catalogue = Paged([{"id": n, "price": n} for n in range(250)], 100, "cursor")
    source_server.at("/catalogue", catalogue)
    source_server.at("/incidents", ndjson([{"id": "i1", "open": True}]))
    source_server.at("/spend", csv(["campaign,cost", "spring,12.50", "summer,7"]))
    slow = source_server.at("/slow", Gated(Items([{"id": 1}])))
    file.write_text(FILE.format(origin=source_server.url("")))
    settings = {"SOURCES_FILE": str(file), "OUTBOUND_ALLOW_PRIVATE": "true"}

    too_early = await ended_command(home, "serve", "--port", "0", **settings)
    await footfall(home, "sites", "create", "shop")
    no_secret = await ended_command(home, "serve", "--port", "0", **settings)
    await ended_command(home, "secrets", "set", "catalogue-token", stdin="hush\n")
    async with running(home, **settings) as service:
        key = (await footfall(home, "keys", "create", "--site", "shop", "--scopes", "read")).strip()
        found = await until_fetched(service, "catalogue", "incidents", "spend")
        async with asyncio.timeout(60):
            await slow.arrived.wait()
        spend = (await service.data(RECORDS, {"key": "spend"}))["records"]["nodes"]
        mine = (await service.data(RECORDS, {"key": "catalogue"}, key))["records"]["nodes"]
        summary = (await service.data(SUMMARY, key=key))["sourceSummary"]
        hanging = (await until_fetched(service, "catalogue"))["slow"]

        catalogue.records = [{"id": n, "price": n + (n == 7)} for n in range(1, 250)]
        refreshed = (await service.data(REFRESH, {"keys": ["catalogue"]}))["refreshSources"]
        slow.gate.set()
        await until_fetched(service, "slow")

    assert f"footfall: SOURCES_FILE {file}: source 'catalogue': site_id: " in too_early
    assert "source 'catalogue': headers: there is no secret 'catalogue-token'" in no_secret
    assert [found[name]["records"] for name in ("catalogue", "incidents", "spend")] == [250, 1, 2]
    assert {node["externalId"]: node["data"] for node in spend} == {
        "spring": {"campaign": "spring", "cost": "12.50"},
        "summer": {"campaign": "summer", "cost": "7"},
    }
    assert {node["externalId"] for node in mine} == set(map(str, range(250)))
    assert summary == {
        "records": 250,
        "sources": [{"records": 250, "source": {"key": "catalogue"}}],
    }
    assert hanging["refresh"] is not None
    assert refreshed == {"running": [], "audits": [{"recordsSeen": 249, "recordsChanged": 1}]}
    asked = source_server.asked_for("/catalogue")
    assert {one.headers["authorization"] for one in asked} == {"Bearer hush"}
