"""Reports go on, right and in bounded time, whatever becomes of the Redis that shares them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer

# What an answer may take with Redis at its worst; a use of Redis ends within 0.4 s, and the machine
# is shared.
MOST_SECONDS = 30
QUESTION = """
query ($days: DateRange!) {
  eventCounts(siteId: "shop", range: $days) { total meta { cache } }
}
"""
RANGES = [{"from": "2026-01-01", "to": f"2026-01-{day:02}"} for day in range(2, 32)]

Fault = Callable[[RedisServer], Awaitable[None]]


@dataclass
class Load:
    """Two processes of the service, and clients that ask them while events come in."""

    apps: list[App]
    sent: int = 0
    followed: int = 0
    answers: list[str] = field(default_factory=list)
    is_over: bool = False

    async def send(self) -> None:
        """Send one event after another, and see to it that both processes have it."""
        while not self.is_over:
            self.sent += 1
            await self.apps[0].ingest(
                "shop", {"eventType": "view", "occurredAt": "2026-01-02T12:00:00Z"}
            )
            for app in self.apps:
                app.resources.follower.wake()
                await app.followed()
            self.followed = self.sent

    async def ask(self, number: int) -> None:
        """Ask one question after another; each answer has all that was followed by then."""
        while not self.is_over:
            number += 1
            least = self.followed
            async with asyncio.timeout(MOST_SECONDS):
                answer = await self.apps[number % 2].data(
                    QUESTION, {"days": RANGES[number % len(RANGES)]}
                )
            report = answer["eventCounts"]
            assert least <= report["total"] <= self.sent
            assert report["meta"]["cache"] in ("HIT", "MISS")
            self.answers.append(report["meta"]["cache"])

    async def until_answered(self, more: int) -> None:
        """Return when so many more questions were answered."""
        enough = len(self.answers) + more
        async with asyncio.timeout(60):
            while len(self.answers) < enough:
                await asyncio.sleep(0.01)


async def kill(server: RedisServer) -> None:
    await server.kill()


async def restart(server: RedisServer) -> None:
    await server.kill()
    # Empty: it keeps nothing on disk.
    await server.start()


async def freeze(server: RedisServer) -> None:
    server.freeze()


async def thaw(server: RedisServer) -> None:
    server.thaw()


async def fill(server: RedisServer) -> None:
    async with server.client() as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")


async def empty(server: RedisServer) -> None:
    async with server.client() as client:
        await client.config_set("maxmemory", "0")


async def cut(server: RedisServer) -> None:
    await server.drop_clients()


async def nothing(_: RedisServer) -> None:
    """It is back by itself."""


async def start(server: RedisServer) -> None:
    await server.start()


def shared_hits(app: App) -> float:
    return (
        app.resources.metrics.registry.get_sample_value("footfall_cache_shared_hits_total") or 0.0
    )


async def share(apps: list[App]) -> None:
    """Return when a result of one process serves the other."""
    before = shared_hits(apps[1])
    async with asyncio.timeout(30):
        number = 0
        while shared_hits(apps[1]) == before:
            number += 1
            days = RANGES[number % len(RANGES)]
            for app in apps:
                app.resources.results.forget_all()
                await app.data(QUESTION, {"days": days})
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("worse", "better"),
    [(kill, start), (restart, nothing), (freeze, thaw), (fill, empty), (cut, nothing)],
)
async def test_reports_go_on_while_redis_fails_and_are_shared_again_afterwards(
    worse: Fault, better: Fault, database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(
                open_app(database, tmp_path / name, redis_url=redis_server.url)
            )
            for name in ("one", "other")
        ]
        await apps[0].site("shop")
        load = Load(apps)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.send())
            for number in range(8):
                tasks.create_task(load.ask(number))
            await load.until_answered(200)
            await worse(redis_server)
            await load.until_answered(200)
            await better(redis_server)
            await load.until_answered(200)
            load.is_over = True

        # Nothing is lost, nothing counted twice, and both say the same.
        await asyncio.gather(*(app.followed() for app in apps))
        for app in apps:
            answer = await app.data(QUESTION, {"days": RANGES[0]})
            assert answer["eventCounts"]["total"] == load.sent
        await share(apps)


async def test_a_process_starts_and_answers_without_its_redis(
    database: Database, redis_server: RedisServer, tmp_path: Path
) -> None:
    await redis_server.kill()
    async with open_app(database, tmp_path, redis_url=redis_server.url) as app:
        await app.site("shop")
        for status in ("MISS", "HIT"):
            answer = await app.data(QUESTION, {"days": RANGES[0]})
            assert answer["eventCounts"]["meta"]["cache"] == status
        assert not app.resources.results.state.shared

        await redis_server.start()

        async with asyncio.timeout(30):
            while not app.resources.results.state.shared:
                await asyncio.sleep(0.02)
