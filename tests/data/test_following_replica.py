"""Following now from a replica, now from the primary: nothing is lost, repeated or claimed too soon."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from data.postgres.standby import send_heartbeat
from tests.data.replica_scene import SECONDS, following_pair
from tests.fixtures.standby import Replicated


async def test_a_replica_that_is_behind_the_copy_takes_nothing_away_and_goes_on_later(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        await scene.commit(2)
        await scene.until_holds(1)
        await scene.leave_standby_behind()
        await scene.commit(3, 4)
        await scene.until_holds(3)
        committed = datetime.now(UTC)
        await scene.until_through(committed)

        await scene.bring_standby_back()
        await scene.commit(5)
        unseen = datetime.now(UTC)
        await asyncio.sleep(2)
        watermark = await scene.watermark()
        assert watermark is not None
        assert watermark.position == 3
        assert scene.follower.is_healthy
        assert scene.through[-1] < unseen

        await replicated.standby.lag(0)
        await scene.until_holds(4)
        await send_heartbeat(scene.ledger.writer)
        await scene.until_through(unseen)
        scene.check()


async def test_a_replica_that_is_behind_a_copy_is_waited_for_while_the_primary_is_away(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        await scene.leave_standby_behind()
        await scene.commit(3)
        await scene.until_holds(1)
        await replicated.standby.start()
        await replicated.primary.kill()
        await scene.until_read()
        async with asyncio.timeout(SECONDS):
            while not scene.follower.is_healthy:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)

        watermark = await scene.watermark()
        assert watermark is not None
        assert watermark.position == 1
        scene.check()


async def test_a_standby_that_went_its_own_way_is_not_believed(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        await scene.commit(1)
        await scene.until_holds(1)
        await replicated.caught_up()
        await replicated.standby.value("select pg_promote()")
        promoted = await replicated.standby.connect()
        await promoted.execute("insert into ingest_batches select 2, 999999, 0, now()", timeout=10)
        await promoted.close()
        await scene.commit(2, 3)

        await scene.until_holds(3)
        total = await replicated.primary.value("select sum(events) from ingest_batches")
        cursor = scene.copy.store._runner._connection.cursor()
        assert cursor.execute("select count(*) from events").fetchone() == (total,)
        cursor.close()


async def test_a_rebuild_from_a_replica_that_lags_lacks_nothing(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        await scene.commit(2)
        await scene.leave_standby_behind()
        await scene.commit(3)
        await scene.until_holds(2)
        await scene.bring_standby_back()

        await scene.follower.rebuild(lambda _done, _total: None)

        watermark = await scene.watermark()
        assert watermark is not None
        assert watermark.position == 2
        scene.check()
