"""Several API processes and workers over one PostgreSQL and one Redis are one service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.fixtures.fleet import Fleet, running_fleet
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service
from tests.fixtures.worker import running_worker

SECONDS = 60
INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { status } }
}
"""
REPORTS = """
query ($range: DateRange!) {
  dau(siteId: "shop", range: $range) { total points { date users } }
  topEvents(siteId: "shop", range: $range) { events { eventType count users } }
  eventCounts(siteId: "shop", range: $range) { total }
}
"""
RANGE = {"range": {"from": "2026-01-01", "to": "2026-01-10"}}
LIVE = 'subscription { liveEvents(siteId: "shop") { eventId } }'
# Another question, so that it is a stream of its own, which can be seen to be open.
LIVE_TYPES = 'subscription { liveEvents(siteId: "shop") { eventId eventType } }'
OPEN_STREAMS = 'footfall_live_open_streams{field="liveEvents"}'


def events(number: int, kind: str = "view") -> list[dict[str, str]]:
    return [
        {
            "eventId": str(uuid4()),
            "eventType": kind,
            "userId": f"user {place % 37}",
            "occurredAt": f"2026-01-{place % 10 + 1:02}T{place % 24:02}:00:00Z",
        }
        for place in range(number)
    ]


async def send(service: Service, key: str, sent: list[dict[str, str]]) -> set[str]:
    answer = await service.data(INGEST, {"events": sent}, key)
    return {one["status"] for one in answer["ingest"]["receipts"]}


async def metric(service: Service, line: str) -> float:
    page = (await service.client.get("/metrics")).text
    values = [one.rpartition(" ")[2] for one in page.splitlines() if one.startswith(line)]
    return float(values[0]) if values else 0.0


async def agreed(fleet: Fleet, total: int) -> list[Any]:
    """What all processes say once each has all events."""
    async with asyncio.timeout(SECONDS):
        while True:
            answers = [await one.data(REPORTS, RANGE, fleet.key) for one in fleet.services]
            if all(one["eventCounts"]["total"] == total for one in answers):
                return answers
            await asyncio.sleep(0.1)


async def test_three_processes_and_two_workers_count_once_and_answer_the_same(
    database: Database, durable_redis: RedisServer, tmp_path: Path
) -> None:
    environment = {"REDIS_URL": durable_redis.url, "INGEST_MODE": "queue"}
    one_ledger = {"DATABASE_URL": database.url("postgres"), **environment}
    async with (
        running_fleet(database, tmp_path, 3, **environment) as fleet,
        running_worker(tmp_path / "worker-0", **one_ledger),
        running_worker(tmp_path / "worker-1", **one_ledger),
    ):
        batches = [events(100, f"kind {place % 4}") for place in range(18)]
        # Each batch goes to two processes at once, as clients do that were not answered in time.
        said = await asyncio.gather(
            *(
                send(fleet.services[(place + again) % 3], fleet.key, batch)
                for place, batch in enumerate(batches)
                for again in range(2)
            )
        )
        assert set.union(*said) <= {"QUEUED", "DUPLICATE"}

        answers = await agreed(fleet, 1_800)
        assert answers[0] == answers[1] == answers[2]
        assert len(answers[0]["dau"]["points"]) == 10
    connection = await database.connect()
    assert await connection.fetchval("select count(*) from events") == 1_800
    await connection.close()


async def test_jobs_that_run_once_run_in_one_of_the_processes(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    run = 'footfall_job_runs_total{job="refresh_daily_users",outcome="succeeded"}'
    async with running_fleet(database, tmp_path, 3, REDIS_URL=redis_server.url) as fleet:
        await send(fleet.services[1], fleet.key, events(50))
        async with asyncio.timeout(SECONDS):
            while sum([await metric(one, run) for one in fleet.services]) == 0:
                await asyncio.sleep(0.2)
            # A leader that is held up for seconds is replaced: then nobody leads for a moment.
            while sum([await metric(one, "footfall_leader ") for one in fleet.services]) != 1:
                await asyncio.sleep(0.2)
        for service in fleet.services:
            has_run = await metric(service, run) > 0
            assert not has_run or await metric(service, "footfall_leader_elections_total ") > 0


async def test_what_one_process_takes_reaches_the_subscribers_of_another(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(database, tmp_path, 2, REDIS_URL=redis_server.url) as fleet:
        taking, telling = fleet.services
        sent = events(20)
        expected = {one["eventId"] for one in sent}
        address = f"ws://127.0.0.1:{telling.port}/graphql"
        async with (
            connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket,
            httpx.AsyncClient(timeout=SECONDS) as client,
            client.stream(
                "POST",
                f"{telling.url}/graphql",
                json={"query": LIVE},
                headers={"x-api-key": fleet.key, "accept": "text/event-stream"},
            ) as stream,
        ):
            for message in (
                {"type": "connection_init", "payload": {"apiKey": fleet.key}},
                {"id": "1", "type": "subscribe", "payload": {"query": LIVE_TYPES}},
            ):
                await socket.send(json.dumps(message))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            async with asyncio.timeout(SECONDS):
                while await metric(telling, OPEN_STREAMS) < 2:
                    await asyncio.sleep(0.05)
            assert await send(taking, fleet.key, sent) == {"ACCEPTED"}

            async with asyncio.timeout(SECONDS):
                by_socket, by_stream = set[str](), set[str]()
                while by_socket != expected:
                    message = json.loads(await socket.recv())
                    if message["type"] == "next":
                        by_socket.add(message["payload"]["data"]["liveEvents"]["eventId"])
                async for line in stream.aiter_lines():
                    if line.startswith("data:") and "eventId" in line:
                        data = json.loads(line.removeprefix("data:"))["data"]
                        by_stream.add(data["liveEvents"]["eventId"])
                    if by_stream == expected:
                        break
            assert by_socket == by_stream == expected
