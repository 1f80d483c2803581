"""Wake-ups between processes: fast while Redis is there, and nobody's business while it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID, uuid4

import pytest

from data.redis.client import RedisConnection, RedisPace, open_redis
from data.redis.wakeups import WakeupPace, Wakeups, open_wakeups
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer

LEDGER = uuid4()
PACE = WakeupPace(gather_seconds=0.1, silence_seconds=1.0, least_pause_seconds=0.02)
SOON = 30.0


@dataclass(slots=True)
class Woken:
    """Counts how often it was woken."""

    times: int = 0
    _again: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> None:
        self.times += 1
        self._again.set()

    async def again(self) -> None:
        """Return when it has been woken since this was last asked."""
        async with asyncio.timeout(SOON):
            await self._again.wait()
        self._again.clear()


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the service, as far as wake-ups go."""

    redis: RedisConnection
    wakeups: Wakeups
    woken: Woken

    async def hears(self) -> None:
        """Return when it listens, with what it was woken for by that forgotten."""
        async with asyncio.timeout(SOON):
            while not self.wakeups.is_listening:
                await asyncio.sleep(0.01)
        await self.woken.again()


@asynccontextmanager
async def process(server: RedisServer, ledger: UUID = LEDGER) -> AsyncIterator[Process]:
    woken = Woken()
    async with (
        open_redis(
            server.url, Metrics.create().redis, RedisPace(answer_seconds=1.5, look_seconds=0.1)
        ) as redis,
        open_wakeups(redis, ledger, woken, PACE) as wakeups,
    ):
        yield Process(redis, wakeups, woken)


async def subscribers(server: RedisServer) -> int:
    async with server.client() as client:
        [(_, count)] = await client.pubsub_numsub(f"footfall:{LEDGER}:commits")
    return int(count)


async def test_a_commit_wakes_the_other_processes_and_not_its_own(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        await one.hears()
        await other.hears()
        before = one.woken.times

        one.wakeups.publish(7)
        await other.woken.again()
        other.wakeups.publish(8)
        await one.woken.again()
        # Its own message would have come by now, before or after the other's.
        await asyncio.sleep(0.3)

        assert one.woken.times == before + 1


async def test_another_ledger_on_the_same_redis_is_left_alone(redis_server: RedisServer) -> None:
    async with (
        process(redis_server) as one,
        process(redis_server) as other,
        process(redis_server, uuid4()) as stranger,
    ):
        for each in (one, other, stranger):
            await each.hears()
        before = stranger.woken.times

        one.wakeups.publish(1)
        await other.woken.again()

        assert stranger.woken.times == before


async def test_commits_in_flocks_become_few_messages_and_the_newest_is_said(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, redis_server.client() as client:
        await one.hears()
        pubsub = client.pubsub()
        await pubsub.subscribe(one.wakeups.channel)
        subscribed = await pubsub.get_message(timeout=SOON)
        assert subscribed is not None
        assert subscribed["type"] == "subscribe"
        began = monotonic()

        for position in range(1, 201):
            one.wakeups.publish(position)
            await asyncio.sleep(0.002)
        heard = [0]
        while heard[-1] < 200:
            message = await pubsub.get_message(timeout=SOON)
            assert message is not None, heard
            heard.append(int(message["data"].split()[1]))
        took = monotonic() - began
        await pubsub.aclose()  # type: ignore[no-untyped-call]

    assert heard == sorted(heard)
    # One for each time of gathering, however long publishing took.
    assert len(heard) <= took / PACE.gather_seconds + 3


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_it_listens_again_by_itself_and_looks_whether_it_missed_something(
    how: str, redis_server: RedisServer
) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        await one.hears()
        await other.hears()

        if how == "killed":
            await redis_server.kill()
        else:
            redis_server.freeze()
        async with asyncio.timeout(SOON):
            while other.wakeups.is_listening or one.wakeups.is_listening:
                await asyncio.sleep(0.02)
        # Lost, and nobody waits for it.
        for position in range(100):
            one.wakeups.publish(position)
        if how == "killed":
            await redis_server.start()
        else:
            redis_server.thaw()

        await other.hears()
        await one.hears()
        one.wakeups.publish(200)
        await other.woken.again()


async def test_a_cut_subscription_is_made_anew(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        await one.hears()
        await other.hears()

        await redis_server.drop_clients()

        await other.woken.again()
        await other.wakeups.redis.until_available()
        async with asyncio.timeout(SOON):
            while await subscribers(redis_server) < 2:
                await asyncio.sleep(0.02)
        one.wakeups.publish(1)
        await other.woken.again()


async def test_a_follower_that_fails_to_wake_is_woken_the_next_time(
    redis_server: RedisServer,
) -> None:
    failed, woken = asyncio.Event(), Woken()

    def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("it did not wake up")
        woken()

    async with (
        open_redis(redis_server.url, Metrics.create().redis) as redis,
        open_wakeups(redis, LEDGER, fail_once, PACE) as wakeups,
        process(redis_server) as other,
    ):
        # When listening begins anew.
        await woken.again()
        async with asyncio.timeout(SOON):
            while not wakeups.is_listening:
                await asyncio.sleep(0.01)
        await other.hears()
        other.wakeups.publish(1)
        await woken.again()


async def test_a_quiet_subscription_is_no_dead_one(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        await one.hears()
        await other.hears()
        before = other.woken.times

        # Several times as long as silence is believed.
        await asyncio.sleep(4)

        assert other.woken.times == before
        assert await subscribers(redis_server) == 2
        one.wakeups.publish(1)
        await other.woken.again()


def refused(metrics: Metrics) -> float:
    value = metrics.registry.get_sample_value("footfall_redis_uses_total", {"outcome": "refused"})
    assert value is not None
    return value


async def test_a_channel_that_may_not_be_heard_is_asked_for_less_and_less_often(
    redis_server: RedisServer,
) -> None:
    async with redis_server.client() as client:
        await client.config_set("acl-pubsub-default", "resetchannels")
        await client.acl_setuser("deaf", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    url = f"redis://deaf:none@127.0.0.1:{redis_server.port}"
    metrics, woken = Metrics.create(), Woken()
    pace = RedisPace(answer_seconds=10)
    async with (
        open_redis(url, metrics.redis, pace) as redis,
        open_wakeups(redis, LEDGER, woken, PACE),
    ):
        async with asyncio.timeout(SOON):
            while not refused(metrics):
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)
        assert redis.is_available

    assert 1 <= refused(metrics) <= 8
    assert woken.times == 0


async def test_one_connection_listens_and_it_goes_with_the_process(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one:
        await one.hears()
        assert await subscribers(redis_server) == 1

    async with asyncio.timeout(SOON):
        while await subscribers(redis_server):
            await asyncio.sleep(0.02)
