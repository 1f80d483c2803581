"""Follows the ledger: brings every committed batch into the columnar copy, in commit order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol

import structlog

from data.background import Loop, in_background
from data.columnar import ColumnarCopy
from data.duckdb.store import DuckDBStore
from data.event_store import StoreUnavailable
from data.postgres.engine import Engine, LedgerUnavailable
from data.postgres.feed import FeedState, Slice, copy_slice, feed_state, next_slice
from data.postgres.reads import Reads
from data.queries import Watermark
from data.rebuild_requests import Progress, is_requested, serving_requests
from telemetry.columnar_metrics import FollowMetrics

log = structlog.get_logger()

# Small enough that a slice is applied within a moment, so that nothing waits long behind it.
SLICE_EVENTS = 20_000
# A slice is some megabytes. A replica that hangs is found out, and the read cut, long before.
FETCH_SECONDS = 30.0
# For the primary's word on a copy that a replica knows less than.
_WORD_SECONDS = 2.0
# Reports that are under way rest on one of the newest few watermarks.
_REMEMBERED = 256


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


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look at the feed brought: its state, and the next slice, whose events are on disk."""

    state: FeedState
    piece: Slice | None
    is_primary: bool


class Listener(Protocol):
    """Whoever wants to hear how following goes. What it does must take no time."""

    def followed(self) -> None:
        """The copy holds more than before, or there is another copy."""

    def turned_back(self, newest: int) -> None:
        """The ledger has another history, whose feed ends at the position `newest` now."""


@dataclass(slots=True)
class Follower:
    """Keeps one columnar copy up with the ledger, and knows how far it is.

    It reads wherever `reads` sends it, now from the replica, now from the primary: positions and
    batches are the same on both, and one of them merely ends earlier. `primary` has the last word
    when a copy seems to be ahead.
    """

    copy: ColumnarCopy
    reads: Reads
    primary: Engine
    metrics: FollowMetrics
    pace: FollowPace = field(default_factory=FollowPace)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _listeners: list[Listener] = field(default_factory=list)
    _ledger_position: int | None = None
    _caught_up: deque[_CaughtUp] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _healthy: bool = True
    # What lies before the next step, in seconds.
    _rest: float = 0.0
    _swapping: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_rebuilding: bool = False
    _is_copy_damaged: bool = False

    @property
    def is_rebuilding(self) -> bool:
        """Whether a new copy is being built beside the one that answers, or is about to be."""
        return self._is_rebuilding or is_requested(self.copy.slot)

    @property
    def is_caught_up(self) -> bool:
        """Whether the copy has held the whole ledger at some time since the start."""
        return bool(self._caught_up)

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt to follow went well."""
        return self._healthy

    @property
    def ledger_position(self) -> int | None:
        """The furthest end of the change feed that was seen; None if it never was.

        It does not go back when a replica that lags is asked after the primary.
        """
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

        None if the copy is empty and was never known to be complete. It never goes back, wherever
        is read: what is complete once stays so.
        """
        position = watermark.position if watermark else 0
        known = next((one for one in reversed(self._caught_up) if one.position <= position), None)
        candidates = [watermark.committed_at] if watermark else []
        if known:
            candidates.append(known.through)
        return max(candidates, default=None)

    def _note_complete(self, position: int, through: datetime) -> None:
        """Whoever holds `position` holds all before `through`; no news if more is known already."""
        known = self._caught_up[-1] if self._caught_up else None
        if known and through <= known.through:
            return
        if known and known.position == position:
            self._caught_up.pop()
        self._caught_up.append(_CaughtUp(position, through))

    def going_on(self) -> Loop:
        """What follows, step by step."""
        # A round begins with its pause, which a commit ends: here none is left but after failures.
        return Loop(
            "follow",
            self._pause_and_step,
            pause=0,
            retry=0,
            expected=(LedgerUnavailable, StoreUnavailable, OSError),
        )

    async def _pause_and_step(self) -> None:
        if self._rest:
            await self._pause(self._rest)
        try:
            async with self._swapping:
                if self._is_copy_damaged:
                    await self._start_over("damaged")
                self._is_copy_damaged = False
                is_behind = await self._step()
        except Exception as error:
            self._note_failure(error)
            raise
        self._healthy = True
        self._rest = 0.0 if is_behind else self.pace.poll_seconds

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                # Commits come in flocks: what follows in a moment goes into the same slice.
                await asyncio.sleep(self.pace.gather_seconds)
        self._wake.clear()

    def _note_failure(self, error: Exception) -> None:
        self.metrics.slices["failed"].inc()
        self._healthy = False
        # In the next round, and in all others until it has worked.
        self._is_copy_damaged |= isinstance(error, StoreUnavailable) and error.damaged
        self._rest = self.pace.retry_seconds

    async def _step(self) -> bool:
        """Apply one slice, if there is one; whether there is more to do at once."""
        store = self.copy.store
        watermark = await store.watermark()
        await store.learn_versions(watermark)
        position = watermark.position if watermark else 0
        rows = self.copy.slot / "slice.csv"
        try:
            found = await self.reads.run(
                partial(self._fetch, watermark, rows), seconds=FETCH_SECONDS
            )
            if watermark and found.state.known != watermark:
                newest = await self._end_of_another_history(watermark, found)
                if newest is not None:
                    await self._turn_back(newest)
                    return True
            self._see(max(found.state.newest, position))
            started = perf_counter()
            if found.piece is not None:
                await store.apply(rows, found.piece.events, found.piece.last)
        finally:
            rows.unlink(missing_ok=True)
        return self._note_step(watermark, found, started)

    async def _fetch(self, watermark: Watermark | None, rows: Path, engine: Engine) -> _Found:
        """What the server behind an engine has for a copy at this watermark."""
        position = watermark.position if watermark else 0
        is_primary = engine is self.reads.primary
        state = await feed_state(engine, position)
        if not is_primary and not state.is_standby:
            # It was promoted, and what is committed there is not the ledger's.
            raise LedgerUnavailable("it is no standby")
        if watermark and state.known != watermark:
            if state.known and not is_primary:
                raise LedgerUnavailable("it contradicts what was followed")
            # Behind the copy, or of another history: either way there is nothing to take.
            return _Found(state, None, is_primary)
        return _Found(state, await fetch_slice(engine, position, rows), is_primary)

    def _note_step(self, watermark: Watermark | None, found: _Found, started: float) -> bool:
        last = found.piece.last if found.piece else watermark
        position = last.position if last else 0
        self._see(position)
        self._measure(last, found.state)
        if found.piece is not None:
            self.metrics.slices["applied"].inc()
            self.metrics.applied_rows.inc(found.piece.events)
            self.metrics.apply_seconds.observe(perf_counter() - started)
            self._tell()
        if found.state.newest <= position:
            # Not only where nothing is left to do: commits may come without a pause.
            self._note_complete(position, found.state.through)
            return False
        return found.piece is not None

    def _see(self, position: int) -> None:
        self._ledger_position = max(self._ledger_position or 0, position)

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

    async def _end_of_another_history(self, watermark: Watermark, found: _Found) -> int | None:
        """The end of the ledger's feed if the copy holds something that the ledger does not.

        A replica may merely be behind a copy that followed the primary; then the primary still has
        the batch, and there is nothing to do but wait. So it is while the primary cannot be asked.
        """
        if found.is_primary:
            return found.state.newest
        try:
            async with asyncio.timeout(_WORD_SECONDS):
                state = await feed_state(self.primary, watermark.position)
        except (LedgerUnavailable, TimeoutError):
            return None
        return state.newest if state.known != watermark else None

    async def _turn_back(self, newest: int) -> None:
        await self._start_over("ahead_of_ledger")
        self._ledger_position = newest
        for listener in self._listeners:
            listener.turned_back(newest)

    async def _start_over(self, reason: str) -> None:
        log.warning("columnar.rebuild.started", reason=reason)
        self.metrics.rebuilds.labels(reason).inc()
        self._caught_up.clear()
        await self.copy.start_over()
        self._tell()

    async def rebuild(self, progress: Progress) -> None:
        """Build a new copy beside the current one, which answers meanwhile, and change over.

        `progress` is called with positions of the change feed: done, and in all.
        """
        self._is_rebuilding = True
        try:
            await self._rebuild(progress)
        finally:
            self._is_rebuilding = False

    async def _rebuild(self, progress: Progress) -> None:
        log.info("columnar.rebuild.started", reason="asked")
        self.metrics.rebuilds.labels("asked").inc()
        started = perf_counter()
        state = await self.reads.run(partial(feed_state, position=0))
        async with self.copy.building() as building:
            position = await self._fill(building.store, state.newest, progress)
            async with self._swapping:
                if not self._caught_up or position < self._caught_up[-1].position:
                    self._caught_up.clear()
                await self.copy.replace_with(building)
        self._tell()
        seconds = round(perf_counter() - started, 1)
        log.info("columnar.rebuild.done", position=position, seconds=seconds)

    async def _fill(self, store: DuckDBStore, total: int, progress: Progress) -> int:
        """Bring everything into an empty copy; the position that it then has."""
        rows = self.copy.slot / "rebuild.csv"
        position = 0
        try:
            while piece := await self._next(position, rows):
                await store.apply(rows, piece.events, piece.last)
                position = piece.last.position
                progress(position, max(position, total))
        finally:
            rows.unlink(missing_ok=True)
        return position

    async def _next(self, position: int, rows: Path) -> Slice | None:
        fetch = partial(fetch_slice, position=position, rows=rows)
        piece = await self.reads.run(fetch, seconds=FETCH_SECONDS)
        if piece is None and self.reads.has_replica:
            # A replica may be behind the copy that is to be replaced. What it lacks the primary
            # has; while that is away, the follower goes on from here as soon as it can.
            with suppress(LedgerUnavailable, TimeoutError):
                async with asyncio.timeout(FETCH_SECONDS):
                    piece = await fetch(self.primary)
        return piece


async def fetch_slice(engine: Engine, position: int, rows: Path) -> Slice | None:
    """The next slice after `position`, its events written to `rows`; None if there is none."""
    piece = await next_slice(engine, position, most_events=SLICE_EVENTS)
    if piece is not None:
        await copy_slice(engine, piece, rows)
    return piece


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[Follower]:
    """The follower at work, until the block is left."""
    async with in_background(
        follower.going_on(), serving_requests(follower.copy.slot, follower.rebuild)
    ):
        yield follower
