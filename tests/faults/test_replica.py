"""A standby that is killed, hangs or lags, under load."""

import asyncio
from pathlib import Path

from tests.faults.load import under_load
from tests.fixtures.standby import Replicated


async def test_a_standby_that_is_killed_is_noticed_by_nobody(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        assert (await load.health())["replica"] == "ok"
        for _ in range(2):
            await replicated.standby.kill()
            await load.until("replica", "down")
            assert await load.metric('footfall_replica_breaker_state{state="closed"}') == 0
            await asyncio.sleep(3)
            await replicated.standby.start()
            await load.until("replica", "ok")

    assert load.failed == {}


async def test_a_standby_that_is_frozen_is_noticed_by_nobody(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        replicated.standby.freeze()
        await load.until("replica", "down")
        await asyncio.sleep(5)
        replicated.standby.thaw()
        await load.until("replica", "ok")

    assert load.failed == {}


async def test_a_standby_that_is_restarted_again_and_again_is_noticed_by_nobody(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        for _ in range(3):
            await replicated.standby.restart()
            await asyncio.sleep(1)

    assert load.failed == {}


async def test_a_standby_that_lags_30_s_is_read_and_reports_say_how_old_they_are(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with under_load(replicated, tmp_path / "home") as load:
        await replicated.standby.lag(30)
        async with asyncio.timeout(60):
            while not load.lags or load.lags[-1] < 15:
                await asyncio.sleep(0.5)
        health = await load.health()
        assert health["replica"] == "ok"
        assert await load.metric("footfall_replica_lag_seconds") > 10
        await replicated.standby.lag(0)

    # Receipts of what the standby lacks come from the primary: none was unknown.
    assert load.failed == {}


async def test_a_standby_that_lags_too_far_is_put_aside_and_reports_are_fresh(
    replicated: Replicated, tmp_path: Path
) -> None:
    settings = {"REPLICA_MAX_LAG_SECONDS": "4"}
    async with under_load(replicated, tmp_path / "home", **settings) as load:
        await replicated.standby.lag(30)
        await load.until("replica", "degraded")
        await asyncio.sleep(4)
        assert load.lags[-1] < 4
        await replicated.standby.lag(0)
        await load.until("replica", "ok")

    assert load.failed == {}
