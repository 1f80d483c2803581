"""A standby that is killed, hangs or lags, under load."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.load import SECONDS, Load, under_load
from tests.fixtures.standby import Replicated, Standby

# It is set to lag by 30 s; that reports say so, and are answered all the while, shows much sooner.
LAG_SECONDS = 30 if os.environ.get("FOOTFALL_LONG_FAULTS") else 8

Fault = Callable[[Standby, Load], Awaitable[None]]


async def killed(standby: Standby, load: Load) -> None:
    await standby.kill()
    await load.until("replica", "down")
    assert await load.metric('footfall_replica_breaker_state{state="closed"}') == 0
    await load.until_more(lambda: load.answers, 20)
    await standby.start()


async def killed_for_some_trials(standby: Standby, load: Load) -> None:
    trials = 'footfall_replica_breaker_transitions_total{state="half_open"}'
    enough = await load.metric(trials) + 2
    await standby.kill()
    async with asyncio.timeout(SECONDS):
        while await load.metric(trials) < enough:
            await asyncio.sleep(0.1)
    await standby.start()


async def frozen(standby: Standby, load: Load) -> None:
    standby.freeze()
    await load.until("replica", "down")
    await load.until_more(lambda: load.answers, 30)
    standby.thaw()


async def restarted_again_and_again(standby: Standby, load: Load) -> None:
    for _ in range(3):
        await standby.restart()
        await load.until_more(lambda: load.answers, 10)


async def lagging(standby: Standby, load: Load) -> None:
    await standby.lag(30)
    async with asyncio.timeout(2 * LAG_SECONDS + SECONDS):
        while not load.lags or load.lags[-1] < LAG_SECONDS:
            await asyncio.sleep(0.2)
    assert (await load.health())["replica"] == "ok"
    async with asyncio.timeout(SECONDS):
        while await load.metric("footfall_replica_lag_seconds") <= LAG_SECONDS / 2:
            await asyncio.sleep(0.1)
    await standby.lag(0)


FAULTS: tuple[Fault, ...] = (
    killed,
    killed_for_some_trials,
    frozen,
    restarted_again_and_again,
    lagging,
)


async def test_whatever_becomes_of_a_standby_is_noticed_by_nobody(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        await load.until("replica", "ok")
        for fault in FAULTS:
            await fault(replicated.standby, load)
            await load.until("replica", "ok")
            # Receipts of what the standby lacks come from the primary: none was unknown.
            assert (load.failed, load.unknown) == ({}, 0), fault.__name__


async def test_a_standby_that_lags_too_far_is_put_aside_and_reports_are_fresh(
    replicated: Replicated, tmp_path: Path
) -> None:
    settings = {"REPLICA_MAX_LAG_SECONDS": "4"}
    async with under_load(replicated, tmp_path / "home", **settings) as load:
        await replicated.standby.lag(30)
        await load.until("replica", "degraded")
        # Newer ones than the standby has: the primary is followed.
        # Twenty in a row: also a busy machine has such moments, and the standby has none.
        async with asyncio.timeout(2 * SECONDS):
            began = len(load.lags)
            while len(load.lags) < began + 20 or max(load.lags[-20:]) >= 4:
                await asyncio.sleep(0.05)
        await replicated.standby.lag(0)
        await load.until("replica", "ok")

    assert load.failed == {}
