"""A ledger, its follower and live data, for tests of what subscriptions are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from data.columnar import ColumnarCopy, open_columnar
from data.events import Event
from data.follower import Follower, following
from data.live import Live, open_live
from data.postgres.append import append
from data.postgres.feed import feed_state, ledger_id
from data.postgres.reads import Reads
from data.slots import take_slot
from telemetry.metrics import Metrics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = 60


@dataclass
class Scene:
    """A ledger, its follower and live data, with events that are numbered as they are made."""

    writer: AsyncEngine
    follower: Follower
    copy: ColumnarCopy
    live: Live
    metrics: Metrics
    numbers: count[int] = field(default_factory=lambda: count(1))

    def event(self, **fields: object) -> Event:
        given = {"site_id": "shop", "event_type": "view", "occurred_at": NOW} | fields
        return Event(event_id=UUID(int=next(self.numbers)), received_at=NOW, **given)  # type: ignore[arg-type]

    async def commit(self, *events: Event) -> list[int]:
        """Append events as one batch; their numbers."""
        await append(self.writer, list(events), [])
        self.follower.wake()
        return [event.event_id.int for event in events]

    async def settled(self) -> None:
        """Return when the follower knows of everything that is committed now."""
        newest = (await feed_state(self.writer, 0)).newest
        await until(lambda: (self.follower.ledger_position or 0) >= newest)

    async def many(self, number: int, **fields: object) -> list[int]:
        return await self.commit(*(self.event(**fields) for _ in range(number)))

    async def start_over(self) -> None:
        """What the follower does with a damaged copy."""
        async with self.follower._swapping:
            await self.follower._start_over("damaged")

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"footfall_{name}", labels) or 0.0

    def reads(self, query: str) -> float:
        return self.value("store_query_duration_seconds_count", query=query)


@asynccontextmanager
async def opened(
    writer: AsyncEngine, reader: AsyncEngine, folder: Path, clock: Callable[[], datetime]
) -> AsyncIterator[Scene]:
    metrics = Metrics.create()
    with take_slot(folder) as slot:
        identity = str(await ledger_id(writer))
        async with (
            open_columnar(slot, ledger_id=identity, metrics=metrics) as copy,
            following(Follower(copy, Reads(reader), writer, metrics.follow)) as follower,
            open_live(follower, clock=clock, metrics=metrics.live) as live,
        ):
            async with asyncio.timeout(SECONDS):
                while not follower.is_caught_up:
                    await asyncio.sleep(0.01)
            yield Scene(writer, follower, copy, live, metrics)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
