"""A ledger with a standby that may be left behind, and a follower of both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
from data.queries import Watermark
from data.slots import take_slot
from telemetry.metrics import Metrics
from tests.fixtures.standby import Replicated

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = 60


@dataclass(slots=True)
class Scene:
    """A ledger with a replica, and a follower of it that is watched all the time."""

    pair: Replicated
    ledger: Ledger
    follower: Follower
    copy: ColumnarCopy
    metrics: Metrics
    through: list[datetime] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    async def commit(self, *counts: int) -> None:
        """One batch after the other, of one event by each of so many users."""
        for count in counts:
            await append(self.ledger.writer, [_event(f"u{n}") for n in range(count)], [])

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

    async def leave_standby_behind(self) -> None:
        """The standby has what is committed now and learns no more; it is away for the moment."""
        await self.pair.caught_up()
        await self.pair.standby.lag(3600)
        await self.pair.standby.kill()

    async def bring_standby_back(self) -> None:
        """Start it, without what it lacks."""
        await self.pair.standby.start()
        await self.until_read()

    async def until_read(self) -> None:
        """Return when the standby is read."""
        replica = self.ledger.reads.replica
        assert replica is not None
        async with asyncio.timeout(SECONDS):
            while replica.breaker.state is not BreakerState.CLOSED:
                await asyncio.sleep(0.02)

    def check(self) -> None:
        """What must hold whatever happened."""
        assert self.through == sorted(self.through)
        assert self.positions == sorted(self.positions)


def _event(user_id: str) -> Event:
    return Event(uuid4(), "shop", "view", NOW, NOW, user_id=user_id)


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
                scene = Scene(pair, ledger, follower, copy, metrics)
                looking = asyncio.create_task(scene.look())
                try:
                    yield scene
                finally:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
    rebuilt = metrics.registry.get_sample_value
    assert not rebuilt("footfall_follow_rebuilds_total", {"reason": "ahead_of_ledger"})
