"""Results of several real processes over one ledger and one Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.app import App, open_app
from tests.fixtures.fleet import Fleet, running_fleet
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer

PROCESSES = 4
RETENTION = """
{
  retention(siteId: "shop", range: {from: "2026-01-01", to: "2026-03-01"}, interval: DAY) {
    cohorts { size periods { users } } meta { cache }
  }
}
"""
INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { accepted }
}
"""
COUNTS = """
{
  eventCounts(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-31"}) {
    total meta { cache }
  }
}
"""
INVALIDATE = "mutation { invalidateCache { dropped } }"
UNANSWERED = 'redis_uses_total{outcome="failed"}'
COUNT = 'store_query_duration_seconds_count{query="retention"}'


async def require_computed(fleet: Fleet, times: int) -> None:
    """Check how often it was computed; whom a busy Redis did not answer in time did it alone."""
    computed = await fleet.metric(COUNT)
    unanswered = await fleet.metric(UNANSWERED)
    assert times <= computed
    assert computed == times or unanswered


async def ask(fleet: Fleet, place: int) -> Any:
    service = fleet.services[place % len(fleet.services)]
    return (await service.data(RETENTION, key=fleet.key))["retention"]


async def ingest(fleet: Fleet, who: str, *days: int) -> None:
    events = [
        {
            "eventType": "view",
            "userId": f"{who} {number}",
            "occurredAt": f"2026-01-{day:02}T{number % 24:02}:00:00Z",
        }
        for day in days
        for number in range(100)
    ]
    await fleet.services[0].data(INGEST, {"events": events}, key=fleet.key)
    await fleet.followed()


async def test_many_who_ask_several_processes_the_same_are_answered_by_one_computation(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(database, tmp_path, PROCESSES, REDIS_URL=redis_server.url) as fleet:
        await ingest(fleet, "user", *range(1, 29))
        assert await fleet.metric(COUNT) == 0

        answers = await asyncio.gather(*(ask(fleet, place) for place in range(200)))

        await require_computed(fleet, 1)
        assert {repr(one["cohorts"]) for one in answers} == {repr(answers[0]["cohorts"])}
        assert answers[0]["cohorts"][0]["size"] == 100
        assert {one["meta"]["cache"] for one in answers} <= {"HIT", "MISS"}

        # A late event: every process answers the new number, and it is computed once again.
        await ingest(fleet, "late", 2)
        late = await asyncio.gather(*(ask(fleet, place) for place in range(200)))
        await require_computed(fleet, 2)
        assert {one["cohorts"][1]["size"] for one in answers} == {0}
        assert {one["cohorts"][1]["size"] for one in late} == {100}

        # What one process drops, none of them has any more.
        dropped = await fleet.services[1].data(INVALIDATE, key=fleet.key)
        assert dropped["invalidateCache"]["dropped"] == 1
        async with asyncio.timeout(30):
            for place in range(PROCESSES):
                while await _kept(fleet, place):
                    await asyncio.sleep(0.02)
        assert (await ask(fleet, 3))["meta"]["cache"] == "MISS"
        assert (await ask(fleet, 2))["meta"]["cache"] == "HIT"
        await require_computed(fleet, 3)


@pytest.mark.parametrize("home", ["one", "another"])
async def test_results_of_before_a_backup_was_restored_answer_nobody(
    database: Database, redis_server: RedisServer, tmp_path: Path, home: str
) -> None:
    settings = {"redis_url": redis_server.url}
    event = {"eventType": "view", "userId": "ada", "occurredAt": "2026-01-01T12:00:00Z"}
    async with open_app(database, tmp_path / "one", **settings) as app:
        await app.site("shop")
        for _ in range(3):
            await app.ingest("shop", event)
        await app.followed()
        assert await count(app) == (3, "MISS")
    connection = await database.connect()
    await connection.execute(
        "delete from events where batch_id in"
        " (select batch_id from ingest_batches where position > 1)"
    )
    await connection.execute("delete from ingest_batches where position > 1")
    await connection.close()

    async with open_app(database, tmp_path / home, **settings) as app:
        await app.followed()
        assert await count(app) == (1, "MISS")


async def count(app: App) -> tuple[int, str]:
    report = (await app.data(COUNTS))["eventCounts"]
    return report["total"], report["meta"]["cache"]


async def _kept(fleet: Fleet, place: int) -> int:
    body = await fleet.services[place].data("{ system { cache { entries shared } } }")
    assert body["system"]["cache"]["shared"]
    return int(body["system"]["cache"]["entries"])
