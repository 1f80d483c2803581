"""The spool as a store: takes events while nothing else does, and acknowledges what is on disk.

While one group of requests is brought to the disk, later ones gather into the next, so that many
share one `fsync` and the event loop waits for none.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import structlog

from data.background import Lane, Loop, in_background
from data.events import Event, Rejection
from data.intake import StoreAway, StoreFull, Taken
from data.postgres.engine import LedgerRefused
from data.slots import take_slot
from data.spool.records import HEAD_BYTES, Unreadable, decode_head, encode_record
from data.spool.segments import SegmentWriter, segments_in
from telemetry.spool_metrics import SpoolMetrics

log = structlog.get_logger()

T = TypeVar("T")

# What it means that there is no room: on the disk, in a quota, or for one process.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RETRY_SECONDS = 5
_PROBE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Bounds in bytes: on disk (0: nothing is taken), of one segment, and what waits for the disk.

    `write_seconds` is how long a request waits for the disk; `look_seconds` how often one that
    failed is tried.
    """

    held: int = 1024 * 1024 * 1024
    segment: int = 16 * 1024 * 1024
    waiting: int = 64 * 1024 * 1024
    write_seconds: float = 10.0
    look_seconds: float = 2.0


@dataclass(slots=True)
class _Request:
    record: bytes
    events: int
    answer: asyncio.Future[None]


@dataclass(slots=True)
class Spool:
    """The spool of one process: a folder of segments, and the thread that works on them."""

    folder: Path
    limits: SpoolLimits
    clock: Callable[[], datetime]
    metrics: SpoolMetrics
    writer: SegmentWriter = field(init=False)
    # Set while segments are there: whoever drains waits for it.
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: ThreadPoolExecutor = field(init=False)
    _waiting: list[_Request] = field(default_factory=list)
    _waiting_bytes: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _held: int = 0
    _oldest: datetime | None = None
    _failure: str | None = None
    _closing: bool = False

    def __post_init__(self) -> None:
        segment = max(1, min(self.limits.segment, self.limits.held // 4))
        self.writer = SegmentWriter(self.folder, segment, self.clock)
        self._thread = ThreadPoolExecutor(1, "spool")
        self.metrics.oldest_seconds.set_function(self._age)

    @property
    def held_bytes(self) -> int:
        """What is on the disk and waits for the ledger."""
        return self._held

    @property
    def oldest(self) -> datetime | None:
        """When the oldest segment was begun; None while there is none."""
        return self._oldest

    @property
    def failure(self) -> str | None:
        """Why the disk takes nothing; None while it does."""
        return self._failure

    @property
    def is_on(self) -> bool:
        """Whether it takes events at all."""
        return self.limits.held > 0

    @property
    def is_full(self) -> bool:
        """Whether it is near its bound, so that a large request would be refused."""
        return self._held > self.limits.held * 15 // 16

    @property
    def can_take(self) -> bool:
        """Whether it would take events now."""
        return self.is_on and not self.is_full and self._failure is None

    async def submit(
        self,
        events: Sequence[Event],
        rejections: Sequence[Rejection],
        size: int,  # noqa: ARG002
    ) -> Taken:
        """Bring the events of one request to the disk; they are queued when it answers.

        Raises `StoreFull` where nothing was taken, and `StoreAway` where the disk fails.
        """
        if not self.is_on:
            raise StoreAway("the ledger is away, and there is no spool")
        if not events and not rejections:
            return Taken([])
        try:
            record = encode_record(events, rejections)
        except UnicodeEncodeError as error:
            raise LedgerRefused(f"something is not plain text: {error}") from error
        self._admit(record)
        request = _Request(record, len(events), asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._waiting_bytes += len(record)
        self._arrived.set()
        try:
            async with asyncio.timeout(self.limits.write_seconds):
                # Shielded: a client that goes away leaves its record to the others' group.
                await asyncio.shield(request.answer)
        except TimeoutError as error:
            raise StoreAway("the disk of the spool does not answer", is_unknown=True) from error
        return Taken(None)

    def _admit(self, record: bytes) -> None:
        if self._closing:
            raise StoreFull("the service is stopping")
        if self._held + self._waiting_bytes + len(record) + HEAD_BYTES > self.limits.held:
            raise StoreFull("the spool is full", _RETRY_SECONDS)
        # A record larger than the bound is still taken when it is alone.
        if self._waiting and self._waiting_bytes + len(record) > self.limits.waiting:
            raise StoreFull("more events wait for the disk than may")

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What work on the spool's files gives; one such work at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def writing(self) -> Lane:
        """What brings group after group to the disk, until the spool closes."""
        return Lane("spool.writer", self._run, may_end=lambda: self._closing)

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            group, self._waiting = self._waiting, []
            try:
                await self._write(group)
            finally:
                self._waiting_bytes -= sum(len(request.record) for request in group)

    async def _write(self, group: list[_Request]) -> None:
        records = [request.record for request in group]
        started = perf_counter()
        try:
            grown = await self.in_thread(partial(self.writer.write, records))
        except Exception as error:  # noqa: BLE001 - a task that ends would strand all to come
            self._fail(group, error)
            return
        self.metrics.write_seconds.observe(perf_counter() - started)
        self.metrics.events["spooled"].inc(sum(request.events for request in group))
        self._failure = None
        self._hold(self._held + grown, self._oldest or self.clock())
        for request in group:
            if not request.answer.done():
                request.answer.set_result(None)

    def _fail(self, group: list[_Request], error: Exception) -> None:
        is_no_room = isinstance(error, OSError) and error.errno in _NO_ROOM
        reason = (isinstance(error, OSError) and error.strerror) or repr(error)
        self.metrics.write_failures.inc()
        if self._failure is None:
            log.error("spool.write.failed", folder=str(self.folder), error=reason)
        self._failure = reason
        for request in group:
            if not request.answer.done():
                request.answer.set_exception(
                    StoreFull(f"the spool has no room: {reason}", _RETRY_SECONDS)
                    if is_no_room
                    else StoreAway(f"the disk of the spool fails: {reason}", is_unknown=True)
                )
                # Not everybody still waits for it.
                request.answer.exception()

    def _hold(self, held: int, oldest: datetime | None) -> None:
        self._held, self._oldest = held, oldest
        self.metrics.held_bytes.set(held)
        if oldest is None:
            self.holds.clear()
        else:
            self.holds.set()

    async def take_stock(self) -> None:
        """Look at what is on the disk."""
        self._hold(*await self.in_thread(self._stock))

    def _stock(self) -> tuple[int, datetime | None]:
        segments = segments_in(self.folder)
        held = sum(segment.stat().st_size for segment in segments)
        return held, _made_at(segments[0], self.clock) if segments else None

    def watching(self) -> Loop:
        """What sees, after a failure, when the disk works again."""
        return Loop(
            "spool.disk", self._look_at_disk, pause=self.limits.look_seconds, waits_first=True
        )

    async def _look_at_disk(self) -> None:
        if self._failure is None:
            return
        try:
            await self.in_thread(partial(_try_disk, self.folder))
        except OSError as error:
            self._failure = error.strerror or repr(error)
        else:
            log.warning("spool.write.works", folder=str(self.folder))
            self._failure = None

    def _age(self) -> float:
        return (self.clock() - self._oldest).total_seconds() if self._oldest else 0.0

    async def close(self, writing: Sequence[asyncio.Task[None]]) -> None:
        """Take nothing more, and return when what was taken is on the disk."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*writing, return_exceptions=True)
        self._thread.submit(self.writer.seal)
        self._thread.shutdown()


def _made_at(segment: Path, clock: Callable[[], datetime]) -> datetime:
    try:
        with segment.open("rb") as file:
            return decode_head(file.read(HEAD_BYTES))
    except (OSError, Unreadable):
        return clock()


def _try_disk(folder: Path) -> None:
    """Raises OSError unless something can be brought to the disk."""
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink()


@asynccontextmanager
async def open_spool(
    root: Path, *, limits: SpoolLimits, clock: Callable[[], datetime], metrics: SpoolMetrics
) -> AsyncIterator[Spool]:
    """A spool in a slot of this process below `root`, with what an earlier one left there.

    Raises `NoSlot`.
    """
    with take_slot(root) as folder:
        spool = Spool(folder, limits, clock, metrics)
        await spool.take_stock()
        async with in_background(spool.writing()) as writing:
            try:
                async with in_background(spool.watching()):
                    yield spool
            finally:
                await spool.close(writing)
