"""Reconciliation over a replica that lags: what is wrong is found, whatever the copy lacks."""

import asyncio
from datetime import timedelta
from pathlib import Path

from data.comparison import Comparison
from data.postgres.actor_days import Effort, advance
from data.reconciliation import Reconciliation
from tests.data.replica_scene import NOW, SECONDS, following_pair
from tests.fixtures.standby import Replicated


async def test_a_wrong_view_is_told_of_though_the_copy_is_behind_the_primary(
    replicated: Replicated, tmp_path: Path
) -> None:
    admin = await replicated.primary.connect()
    await admin.execute("insert into sites values ('shop', 'shop', 'UTC', 'MONDAY', '{}', now())")
    async with following_pair(replicated, tmp_path) as scene:
        await scene.commit(3)
        await advance(scene.ledger.writer, Effort(rest=0))
        await admin.execute("delete from actor_days")
        await admin.execute("select refresh_daily_active_users()")
        await scene.until_holds(1)
        async with asyncio.timeout(SECONDS):
            while not scene.follower.is_caught_up:
                await asyncio.sleep(0.02)
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        # From here on the primary's view is of a position that copy and standby do not know.
        await scene.commit(1)
        await advance(scene.ledger.writer, Effort(rest=0))
        comparison = Comparison(scene.ledger.reads)
        reconciliation = Reconciliation(scene.follower, scene.metrics.reconcile, comparison)

        await reconciliation.run(NOW + timedelta(hours=1))

        assert [one.day for one in reconciliation.differences] == [NOW.date()]
        [wrong] = reconciliation.differences
        assert (wrong.is_copy_wrong, wrong.is_view_wrong) == (False, True)
        assert (wrong.copy, wrong.view) == (None, 1)
    await admin.close()
