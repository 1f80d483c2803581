"""Follows the ledger: brings every committed batch into the columnar copy, in commit order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Protocol

import structlog

from data.columnar import ColumnarCopy
from data.duckdb.store import DuckDBStore
from data.event_store import StoreUnavailable
from data.postgres.engine import Engine, LedgerUnavailable
from data.postgres.feed import FeedState, Slice, copy_slice, feed_state, next_slice
from data.queries import Watermark
from data.rebuild_requests import Progress, serve_requests
from telemetry.metrics import FollowMetrics

log = structlog.get_logger()

# Small enough that a slice is applied within a moment, so that nothing waits long behind it.
SLICE_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class FollowPace:
    """How often to look for batches of other processes, and how long to gather our own.

    A slice costs some 7 ms of CPU time however small it is (decision 5): gathering for a tenth of a
    second leaves that CPU time to ingest, and events are visible in well under a second still.
    """

    poll_seconds: float = 0.25
    gather_seconds: float = 0.1
    retry_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class _CaughtUp:
    """Whoever holds `position` holds every event committed before `through`."""

    position: int
    through: datetime


class Listener(Protocol):
    """Whoever wants to hear how following goes. What it does must take no time."""

    def followed(self) -> None:
        """The copy holds more than before, or there is another copy."""

    def turned_back(self, newest: int) -> None:
        """The ledger has another history, whose feed ends at the position `newest` now."""


@dataclass(slots=True)
class Follower:
    """Keeps one columnar copy up with the ledger, and knows how far it is.

    `replica` is where it reads; `primary` has the last word when a copy seems to be ahead.
    """

    copy: ColumnarCopy
    replica: Engine
    primary: Engine
    metrics: FollowMetrics
    pace: FollowPace = field(default_factory=FollowPace)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _listeners: list[Listener] = field(default_factory=list)
    _ledger_position: int | None = None
    _caught_up: _CaughtUp | None = None
    _healthy: bool = True
    _swapping: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_caught_up(self) -> bool:
        """Whether the copy has held the whole ledger at some time since the start."""
        return self._caught_up is not None

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt to follow went well."""
        return self._healthy

    @property
    def ledger_position(self) -> int | None:
        """The end of the change feed as it was last seen; None if it never was."""
        return self._ledger_position

    @contextmanager
    def telling(self, listener: Listener) -> Iterator[None]:
        """Tell a listener how following goes, until the block is left."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def wake(self) -> None:
        """Something was committed in this process: follow at once."""
        self._wake.set()

    def data_through(self, watermark: Watermark | None) -> datetime | None:
        """The moment before which every committed event is in a copy at this watermark.

        None if the copy is empty and was never known to be complete.
        """
        known = self._caught_up
        position = watermark.position if watermark else 0
        candidates = [watermark.committed_at] if watermark else []
        if known and position >= known.position:
            candidates.append(known.through)
        return max(candidates, default=None)

    async def run(self) -> None:
        """Follow until cancelled; failures are logged and tried again."""
        while True:
            try:
                async with self._swapping:
                    is_behind = await self._step()
                self._healthy = True
                pause = 0.0 if is_behind else self.pace.poll_seconds
            except Exception as error:  # noqa: BLE001 - following must outlive any failure
                self._note_failure(error)
                if isinstance(error, StoreUnavailable) and error.damaged:
                    await self._start_over("damaged")
                pause = self.pace.retry_seconds
            if pause:
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                # Commits come in flocks: what follows in a moment goes into the same slice.
                await asyncio.sleep(self.pace.gather_seconds)
        self._wake.clear()

    def _note_failure(self, error: Exception) -> None:
        self.metrics.slices["failed"].inc()
        expected = isinstance(error, (LedgerUnavailable, StoreUnavailable, OSError))
        if self._healthy:
            log.warning("follow.failed", error=str(error), exc_info=None if expected else error)
        self._healthy = False

    async def _step(self) -> bool:
        """Apply one slice, if there is one; whether there is more to do at once."""
        store = self.copy.store
        watermark = await store.watermark()
        await store.learn_versions(watermark)
        position = watermark.position if watermark else 0
        state = await feed_state(self.replica, position)
        self._ledger_position = state.newest
        if watermark and state.known != watermark and await self._has_diverged(watermark, state):
            await self._start_over("ahead_of_ledger")
            for listener in self._listeners:
                listener.turned_back(state.newest)
            return True
        started = perf_counter()
        applied = await follow_slice(self.replica, store, position, self.copy.slot)
        if applied is None:
            self._measure(watermark, state)
            if state.newest <= position:
                self._caught_up = _CaughtUp(position, state.through)
            return False
        self.metrics.slices["applied"].inc()
        self.metrics.applied_rows.inc(applied.events)
        self.metrics.apply_seconds.observe(perf_counter() - started)
        self._measure(applied.last, state)
        self._ledger_position = max(state.newest, applied.last.position)
        self._tell()
        if state.newest <= applied.last.position:
            # Not only where nothing is left to do: commits may come without a pause.
            self._caught_up = _CaughtUp(applied.last.position, state.through)
        return state.newest > applied.last.position

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.followed()

    def _measure(self, watermark: Watermark | None, state: FeedState) -> None:
        position = watermark.position if watermark else 0
        self.metrics.watermark_position.set(position)
        self.metrics.ledger_position.set(max(state.newest, position))
        lag = 0.0
        if watermark and state.newest > position:
            lag = max(0.0, (state.through - watermark.committed_at).total_seconds())
        self.metrics.lag_seconds.set(lag)

    async def _has_diverged(self, watermark: Watermark, state: FeedState) -> bool:
        """Whether the copy holds something that the ledger does not.

        A standby may merely be behind a copy that followed another one; then the primary still
        has the batch, and there is nothing to do but wait.
        """
        if state.known is None:
            state = await feed_state(self.primary, watermark.position)
        return state.known != watermark

    async def _start_over(self, reason: str) -> None:
        log.warning("columnar.rebuild.started", reason=reason)
        self.metrics.rebuilds.labels(reason).inc()
        self._caught_up = None
        await self.copy.start_over()
        self._tell()

    async def rebuild(self, progress: Progress) -> None:
        """Build a new copy beside the current one, which answers meanwhile, and change over.

        `progress` is called with positions of the change feed: done, and in all.
        """
        log.info("columnar.rebuild.started", reason="asked")
        self.metrics.rebuilds.labels("asked").inc()
        started = perf_counter()
        total = (await feed_state(self.replica, 0)).newest
        async with self.copy.building() as building:
            position = 0
            while applied := await follow_slice(
                self.replica, building.store, position, self.copy.slot, "rebuild"
            ):
                position = applied.last.position
                progress(position, max(position, total))
            async with self._swapping:
                self._caught_up = None
                await self.copy.replace_with(building)
        self._tell()
        seconds = round(perf_counter() - started, 1)
        log.info("columnar.rebuild.done", position=position, seconds=seconds)


async def follow_slice(
    engine: Engine, store: DuckDBStore, position: int, folder: Path, name: str = "slice"
) -> Slice | None:
    """Bring the next slice after `position` into a copy; None if there is nothing after it."""
    piece = await next_slice(engine, position, most_events=SLICE_EVENTS)
    if piece is None:
        return None
    rows = folder / f"{name}.csv"
    try:
        await copy_slice(engine, piece, rows)
        await store.apply(rows, piece.events, piece.last)
    finally:
        rows.unlink(missing_ok=True)
    return piece


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[Follower]:
    """The follower at work, until the block is left."""
    running = [
        asyncio.create_task(follower.run(), name="follower"),
        asyncio.create_task(
            serve_requests(follower.copy.slot, follower.rebuild), name="rebuild-requests"
        ),
    ]
    try:
        yield follower
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
