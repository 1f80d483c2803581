"""Following now from a replica, now from the primary: nothing is lost, repeated or claimed too soon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from data.breaker import BreakerState
from data.columnar import ColumnarCopy, open_columnar
from data.events import Event
from data.follower import Follower, following
from data.postgres.append import append, make_partitions_ahead
from data.postgres.engine import parse_url
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.postgres.standby import send_heartbeat
from data.queries import Watermark
from data.slots import take_slot
from telemetry.metrics import Metrics
from tests.fixtures.standby import Replicated

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = 40


def events(count: int) -> list[Event]:
    return [Event(uuid4(), "shop", "view", NOW, NOW) for _ in range(count)]


class Scene:
    """A ledger with a replica, and a follower of it that is watched all the time."""

    def __init__(self, ledger: Ledger, follower: Follower, copy: ColumnarCopy) -> None:
        self.ledger, self.follower, self.copy = ledger, follower, copy
        self.through: list[datetime] = []
        self.positions: list[int] = []

    async def watermark(self) -> Watermark | None:
        return await self.copy.store.watermark()

    async def look(self) -> None:
        """Note what reports would say, over and over, and keep the replica's lag known."""
        while True:
            watermark = await self.watermark()
            through = self.follower.data_through(watermark)
            if through is not None:
                self.through.append(through)
            self.positions.append(self.follower.ledger_position or 0)
            await asyncio.sleep(0.01)

    async def until_holds(self, position: int) -> None:
        async with asyncio.timeout(SECONDS):
            while (watermark := await self.watermark()) is None or watermark.position < position:
                await asyncio.sleep(0.02)

    async def until_through(self, moment: datetime) -> None:
        async with asyncio.timeout(SECONDS):
            while self.through[-1] <= moment:
                await asyncio.sleep(0.02)

    async def until_read_from(self, state: BreakerState) -> None:
        replica = self.ledger.reads.replica
        assert replica is not None
        async with asyncio.timeout(SECONDS):
            while replica.breaker.state is not state:
                await asyncio.sleep(0.02)

    def check(self) -> None:
        """What must hold whatever happened."""
        assert self.through == sorted(self.through)
        assert self.positions == sorted(self.positions)


@asynccontextmanager
async def following_pair(pair: Replicated, home: Path) -> AsyncIterator[Scene]:
    address = LedgerAddress(
        home, parse_url(pair.primary.url()), parse_url(pair.standby.url("replica_user"))
    )
    metrics = Metrics.create()
    async with open_ledger(address, metrics=metrics) as ledger:
        await make_partitions_ahead(ledger.writer, datetime.now(UTC))
        await make_partitions_ahead(ledger.writer, NOW)
        with take_slot(home) as slot:
            identity = str(ledger.ledger_id)
            async with (
                open_columnar(slot, ledger_id=identity, metrics=metrics) as copy,
                following(Follower(copy, ledger.reads, ledger.writer, metrics.follow)) as follower,
            ):
                scene = Scene(ledger, follower, copy)
                looking = asyncio.create_task(scene.look())
                try:
                    yield scene
                finally:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
    rebuilt = metrics.registry.get_sample_value
    assert not rebuilt("footfall_follow_rebuilds_total", {"reason": "ahead_of_ledger"})


async def test_a_replica_that_is_behind_the_copy_takes_nothing_away_and_goes_on_later(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        writer = scene.ledger.writer
        await append(writer, events(2), [])
        await scene.until_holds(1)
        # From here on the replica knows one batch and no more.
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        await replicated.standby.kill()
        await append(writer, events(3), [])
        await append(writer, events(4), [])
        await scene.until_holds(3)
        committed = datetime.now(UTC)
        await scene.until_through(committed)

        await replicated.standby.start()
        await scene.until_read_from(BreakerState.CLOSED)
        await append(writer, events(5), [])
        unseen = datetime.now(UTC)
        await asyncio.sleep(2)
        watermark = await scene.watermark()
        assert watermark is not None
        assert watermark.position == 3
        assert scene.follower.is_healthy
        assert scene.through[-1] < unseen

        await replicated.standby.lag(0)
        await scene.until_holds(4)
        await send_heartbeat(writer)
        await scene.until_through(unseen)
        scene.check()


async def test_a_replica_that_is_behind_a_copy_is_waited_for_while_the_primary_is_away(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        await replicated.standby.kill()
        await append(scene.ledger.writer, events(3), [])
        await scene.until_holds(1)
        await replicated.standby.start()
        await replicated.primary.kill()
        await scene.until_read_from(BreakerState.CLOSED)
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
        writer = scene.ledger.writer
        await append(writer, events(1), [])
        await scene.until_holds(1)
        await replicated.caught_up()
        await replicated.standby.value("select pg_promote()")
        promoted = await replicated.standby.connect()
        await promoted.execute("insert into ingest_batches select 2, 999999, 0, now()", timeout=10)
        await promoted.close()
        await append(writer, events(2), [])
        await append(writer, events(3), [])

        await scene.until_holds(3)
        total = await replicated.primary.value("select sum(events) from ingest_batches")
        cursor = scene.copy.store._runner._connection.cursor()
        assert cursor.execute("select count(*) from events").fetchone() == (total,)
        cursor.close()


async def test_a_rebuild_from_a_replica_that_lags_lacks_nothing(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with following_pair(replicated, tmp_path) as scene:
        writer = scene.ledger.writer
        await append(writer, events(2), [])
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        await replicated.standby.kill()
        await append(writer, events(3), [])
        await scene.until_holds(2)
        await replicated.standby.start()
        await scene.until_read_from(BreakerState.CLOSED)

        await scene.follower.rebuild(lambda _done, _total: None)

        watermark = await scene.watermark()
        assert watermark is not None
        assert watermark.position == 2
        scene.check()
