"""Processes that refresh sources and are killed, or frozen, or go for the same source at once."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.fixtures.ledger import Database
from tests.fixtures.service import Service, launch
from tests.fixtures.source_answers import JSON, Failing, Items
from tests.fixtures.source_server import Asked, SourceServer, send

SECONDS = 60
SAVE = "mutation ($input: SourceInput!) { saveSource(input: $input) { key } }"
REFRESH = """
mutation ($wait: Boolean!) {
  refreshSources(keys: ["prices"], wait: $wait) { audits { outcome } }
}
"""
LOOK = """
{
  sources { breaker records refresh { startedAt } }
  records(sourceKey: "prices", first: 1000, includeVanished: true) {
    edges { node { externalId data vanishedAt } }
  }
  audits(sourceKey: "prices", first: 100) { edges { node { outcome recordsSeen error } } }
}
"""


class Pages:
    """Two pages of one generation of records; the second of the first generation never comes.

    Not until it is let go, at least. `most` is how many requests there were at once.
    """

    def __init__(self) -> None:
        self.is_midway = asyncio.Event()
        self.let_go = asyncio.Event()
        self.generation = 0
        self.under_way = self.most = 0

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """The page that is asked for."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self._answer(asked, writer)
        finally:
            self.under_way -= 1

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        cursor = asked.query.get("cursor")
        if cursor is None:
            self.generation += 1
        generation, page = (int(one) for one in (cursor or f"{self.generation}.0").split("."))
        if page and generation == 1:
            self.is_midway.set()
            await self.let_go.wait()
        ids = range(100 * page, 100 * page + 100)
        body = {
            "items": [{"id": f"{generation}-{one}", "of": generation} for one in ids],
            "next": None if page else f"{generation}.1",
        }
        await send(writer, 200, {"content-type": JSON}, json.dumps(body).encode())


@pytest_asyncio.fixture
async def services(database: Database, tmp_path: Path) -> Any:
    """Two services over one ledger, of which the first leads."""
    async with AsyncExitStack() as stack:
        started: list[Service] = []
        for name in ("first", "second"):
            service = await launch(
                tmp_path / name,
                None,
                DATABASE_URL=database.url("postgres"),
                OUTBOUND_ALLOW_PRIVATE="true",
            )
            stack.push_async_callback(service.client.aclose)
            stack.push_async_callback(service.stop, signal.SIGKILL)
            started.append(service)
        yield started


async def save(service: Service, server: SourceServer, **fields: object) -> None:
    source = {"key": "prices", "url": server.url("/prices"), "refreshSeconds": 3_600, **fields}
    await service.data(SAVE, {"input": source})


async def save_paged(service: Service, server: SourceServer) -> None:
    paging = {"kind": "CURSOR", "nextAt": "/next", "parameter": "cursor"}
    await save(service, server, recordsAt="/items", paging=paging, timeoutSeconds=60)


async def refreshed(service: Service) -> dict[str, Any]:
    """What a service says of the source once its newest refresh succeeded."""
    async with asyncio.timeout(SECONDS):
        while True:
            found: dict[str, Any] = await service.data(LOOK)
            audits = found["audits"]["edges"]
            if audits and audits[0]["node"]["outcome"] == "SUCCESS":
                # Once more: what one request tells need not be of one moment.
                again: dict[str, Any] = await service.data(LOOK)
                return again
            await asyncio.sleep(0.1)


def ids(found: dict[str, Any]) -> list[str]:
    return sorted(edge["node"]["externalId"] for edge in found["records"]["edges"])


async def test_a_process_killed_in_the_middle_of_a_fetch_leaves_no_half_set(
    services: list[Service], source_server: SourceServer
) -> None:
    first, second = services
    pages = source_server.at("/prices", Pages())
    await save_paged(first, source_server)
    async with asyncio.timeout(SECONDS):
        await pages.is_midway.wait()
    found = await second.data(LOOK)
    assert (ids(found), found["sources"][0]["refresh"] is None) == ([], False)

    await first.stop(signal.SIGKILL)
    assert ids(await second.data(LOOK)) == []
    found = await refreshed(second)

    assert ids(found) == sorted(f"2-{one}" for one in range(200))
    outcomes = [edge["node"] for edge in found["audits"]["edges"]]
    assert [(one["outcome"], one["recordsSeen"]) for one in outcomes] == [
        ("SUCCESS", 200),
        ("FAILURE", 0),
    ]
    assert "ended" in outcomes[1]["error"]
    assert (found["sources"][0]["records"], found["sources"][0]["breaker"]) == (200, "CLOSED")


async def test_a_process_that_was_frozen_changes_nothing_when_it_wakes_up(
    services: list[Service], source_server: SourceServer
) -> None:
    first, second = services
    pages = source_server.at("/prices", Pages())
    await save_paged(first, source_server)
    async with asyncio.timeout(SECONDS):
        await pages.is_midway.wait()

    first.process.send_signal(signal.SIGSTOP)
    before = await refreshed(second)
    pages.let_go.set()
    first.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(SECONDS):
        while pages.under_way:
            await asyncio.sleep(0.05)
    # It is there again, takes what comes, and what it had in hand is gone.
    await first.wait_until_ready()
    await asyncio.sleep(2)
    after = await first.data(LOOK)

    assert ids(before) == ids(after) == sorted(f"2-{one}" for one in range(200))
    assert after["audits"] == before["audits"]
    (answer,) = (await first.data(REFRESH, {"wait": True}))["refreshSources"]["audits"]
    assert answer["outcome"] == "SUCCESS"


async def test_two_processes_never_refresh_a_source_at_once(
    services: list[Service], source_server: SourceServer
) -> None:
    pages = source_server.at("/prices", Pages())
    pages.let_go.set()
    await save_paged(services[0], source_server)
    await refreshed(services[1])

    answers = await asyncio.gather(
        *(services[n % 2].data(REFRESH, {"wait": n % 3 == 0}) for n in range(24))
    )

    waited = [one["refreshSources"]["audits"] for one in answers[::3]]
    assert all([audit["outcome"] for audit in audits] == ["SUCCESS"] for audits in waited)
    assert pages.most == 1
    found = await refreshed(services[0])
    assert len({edge["node"]["outcome"] for edge in found["audits"]["edges"]}) == 1
    present = [edge["node"] for edge in found["records"]["edges"] if not edge["node"]["vanishedAt"]]
    assert len({one["data"]["of"] for one in present}) == 1


async def test_a_breaker_is_one_for_all_processes(
    services: list[Service], source_server: SourceServer, database: Database
) -> None:
    first, second = services
    source_server.at("/prices", Failing(404, 3, Items([{"id": 1}])))
    await save(first, source_server, breakerFailures=3, breakerSeconds=600)
    outcomes: list[str] = []

    async def refresh(service: Service) -> str:
        (audit,) = (await service.data(REFRESH, {"wait": True}))["refreshSources"]["audits"]
        outcomes.append(audit["outcome"])
        (source,) = (await service.data(LOOK))["sources"]
        return str(source["breaker"])

    async with asyncio.timeout(SECONDS):
        while await refresh(first) != "OPEN":
            pass
    asked = len(source_server.asked)
    assert asked == 3
    assert await refresh(second) == "OPEN"
    assert (outcomes[-1], len(source_server.asked)) == ("SKIPPED_BREAKER_OPEN", asked)
    # As if it had opened long ago.
    connection = await database.connect()
    await connection.execute("update source_states set opened_at = opened_at - interval '1 hour'")
    await connection.close()
    for service in services:
        assert (await service.data(LOOK))["sources"][0]["breaker"] == "HALF_OPEN"
    assert await refresh(second) == "CLOSED"
    assert (await first.data(LOOK))["sources"][0]["breaker"] == "CLOSED"
