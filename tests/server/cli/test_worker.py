"""`footfall worker`: how it starts, drains and ends."""

import asyncio
import signal
import socket
from pathlib import Path

import httpx
import pytest

from data.events import Event
from data.redis.client import RedisPace, open_redis
from data.redis.entries import encode_entry
from data.redis.queue import Queue, QueueLimits
from telemetry.metrics import Metrics
from tests.data.redis.queueing import SOON, event
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import free_port
from tests.fixtures.worker import running_worker
from tests.server.cli.commands import Several


async def queued(server: RedisServer, database: Database, *groups: list[Event]) -> None:
    """Queue events, and return when they have left the queue."""
    connection = await database.connect()
    ledger_id = await connection.fetchval("select ledger_id from ledger")
    await connection.close()
    pace = RedisPace(answer_seconds=5)
    async with open_redis(server.url, Metrics.create().redis, pace) as redis:
        queue = Queue(redis, ledger_id, QueueLimits())
        await queue.append([(len(group), encode_entry(group, [])) for group in groups])
        async with asyncio.timeout(SOON):
            while (await queue.state()).entries:
                await asyncio.sleep(0.02)


async def count(database: Database) -> int:
    connection = await database.connect()
    number: int = await connection.fetchval("select count(*) from events")
    await connection.close()
    return number


def environment(database: Database, server: RedisServer) -> dict[str, str]:
    url = database.url("postgres").replace("postgresql+asyncpg", "postgresql")
    return {"DATABASE_URL": url, "REDIS_URL": server.url}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_it_drains_the_queue_tells_its_metrics_and_ends_in_order(
    number: signal.Signals,
    code: int,
    database: Database,
    durable_redis: RedisServer,
    tmp_path: Path,
) -> None:
    told = ("footfall_queue_living_workers 1.0", "footfall_worker_drained_events_total 301.0")
    port = free_port()
    arguments = ("--metrics-port", str(port))
    async with running_worker(
        tmp_path / "home", *arguments, **environment(database, durable_redis)
    ) as worker:
        await queued(durable_redis, database, [event() for _ in range(300)], [event()])
        async with httpx.AsyncClient(timeout=30) as client:
            async with asyncio.timeout(SOON):
                while True:
                    page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                    # What has left the queue is counted a moment later.
                    if all(line in page for line in told):
                        break
                    await asyncio.sleep(0.1)
        worker.process.send_signal(number)
        async with asyncio.timeout(SOON):
            ended_with = await worker.process.wait()
        assert ended_with == code

    assert await count(database) == 301


async def test_what_keeps_it_from_starting_is_one_clear_line(
    tmp_path: Path, several: Several
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        [without, taken, queue] = await several(
            tmp_path / "home",
            ("worker",),
            ("REDIS_URL=redis://localhost", "worker", "--metrics-port", port),
            ("INGEST_MODE=queue", "serve"),
        )

    assert [one.code for one in (without, taken, queue)] == [1, 1, 1]
    assert without.line == "there is no queue to drain: set REDIS_URL"
    assert taken.line == (
        f"127.0.0.1 port {port} cannot be listened on (Address already in use): pass another "
        "--metrics-port"
    )
    assert queue.line == (
        "INGEST_MODE cannot be used: the queue needs a Redis: set REDIS_URL, or INGEST_MODE=direct"
    )


async def test_the_doctor_says_whether_redis_is_fit_for_the_queue(
    home: Path, several: Several, redis_server: RedisServer
) -> None:
    mode = (f"REDIS_URL={redis_server.url}", "INGEST_MODE=queue", f"PORT={free_port()}")
    async with redis_server.client() as client:
        [unfit] = await several(home, (*mode, "doctor", "--json"))
        [refused] = await several(home, ("ENVIRONMENT=production", *mode, "doctor", "--json"))
        await client.config_set("appendonly", "yes")
        [fit] = await several(home, (*mode, "doctor", "--json"))

    found = [
        next(check for check in one.json["checks"] if check["name"] == "queue")
        for one in (unfit, refused, fit)
    ]
    assert [one["status"] for one in found] == ["warning", "problem", "ok"]
    assert "appendonly yes" in found[0]["advice"]
