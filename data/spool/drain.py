"""Draining the spool: oldest first into the ledger, each segment deleted when it is committed.

Whatever is cut off is done once more: ids are honoured for ever, so nothing counts twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from data.background import Loop, in_background
from data.events import Event, Rejection
from data.postgres.append import Append, Appended
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.lookout import Lookout
from data.slots import locked
from data.spool.records import Damage, Record, Unreadable, decode_head, read_records
from data.spool.segments import (
    append_durably,
    folders_with_segments,
    keep_place,
    read_place,
    remove_segment,
    segments_in,
)
from data.spool.store import Spool

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DrainPace:
    """How much is committed at a time, how long attempts wait, how often others' folders are seen.

    A batch takes far longer than those of requests where the ledger is busy: nobody waits for it.
    """

    batch_events: int = 2_000
    batch_bytes: int = 4 * 1024 * 1024
    commit_seconds: float = 25.0
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 5.0
    look_seconds: float = 2.0
    farewell_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is committed together; `end` is the place in the segment after it."""

    items: list[Event | Rejection]
    damaged: list[bytes]
    end: int


@dataclass(slots=True)
class Drain:
    """Brings what is spooled into the ledger, also what processes left that never came back."""

    spool: Spool
    append: Append
    lookout: Lookout
    on_commit: Callable[[int], None]
    pace: DrainPace = field(default_factory=DrainPace)
    _is_idle: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: int = 0
    # What was told of places that fail, so that it is told once.
    _failures: dict[Path, str] = field(default_factory=dict)

    def going_on(self) -> Loop:
        """What drains whatever is there or comes."""
        return Loop(
            "spool.drain",
            self._drain_and_wait,
            pause=0,
            retry=self.pace.longest_wait_seconds,
            expected=(OSError,),
        )

    async def _drain_and_wait(self) -> None:
        """Drain once, and wait until there may be more to drain."""
        self._is_idle.clear()
        if not await self.drain():
            await asyncio.sleep(self.pace.longest_wait_seconds)
            return
        self._tell_end()
        if self.spool.held_bytes == 0:
            self._is_idle.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pace.look_seconds):
                await self.spool.holds.wait()

    def _tell_end(self) -> None:
        if self._drained:
            log.warning("spool.drained", events=self._drained)
            self._drained = 0

    async def farewell(self) -> None:
        """Give the last ones a moment to reach the ledger, if it answers."""
        if not self.lookout.is_away():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.farewell_seconds):
                    await self._is_idle.wait()

    async def drain(self) -> bool:
        """Drain this process's folder, then those that no process works in.

        False where something could not be drained; the rest is, all the same.
        """
        own = self.spool.folder
        is_done = await self._attempt(own, self._drain_folder(own))
        for folder in await self.spool.in_thread(partial(folders_with_segments, own.parent)):
            if folder != own:
                is_done &= await self._attempt(folder, self._adopt(folder))
        return is_done

    async def _attempt(self, place: Path, work: Awaitable[bool]) -> bool:
        """Whether the work on a file or a folder was done; a failure is told once."""
        try:
            is_done = await work
        except Exception as error:  # noqa: BLE001 - one place keeps no other from being drained
            self._tell_failure(place, error)
            return False
        self._failures.pop(place, None)
        return is_done

    def _tell_failure(self, place: Path, error: Exception) -> None:
        if repr(error) != self._failures.get(place):
            self._failures[place] = repr(error)
            trace = None if isinstance(error, OSError) else error
            log.error("spool.drain.failed", place=str(place), error=str(error), exc_info=trace)

    async def _adopt(self, folder: Path) -> bool:
        with locked(folder) as is_free:
            if not is_free:
                return True
            if await self.spool.in_thread(partial(_left_in, folder, self._failures)):
                log.warning("spool.folder.adopted", folder=str(folder))
            return await self._drain_folder(folder)

    async def _drain_folder(self, folder: Path) -> bool:
        failed = set[Path]()
        while segments := await self.spool.in_thread(partial(_left_in, folder, failed)):
            await self.lookout.until_back()
            segment = segments[0]
            await self.spool.in_thread(partial(self._seal, segment))
            if not await self._attempt(segment, self._drain_segment(segment)):
                failed.add(segment)
            await self.spool.take_stock()
        return not failed

    def _seal(self, segment: Path) -> None:
        if self.spool.writer.current == segment:
            self.spool.writer.seal()

    async def _drain_segment(self, segment: Path) -> bool:
        spool = self.spool
        content = await spool.in_thread(segment.read_bytes)
        try:
            decode_head(content)
        except Unreadable as error:
            # An empty one: its maker was killed before it wrote anything.
            if content:
                await self._keep_damaged(segment, content, str(error))
        else:
            await self._commit_all(segment, content)
        await spool.in_thread(partial(remove_segment, segment))
        return True

    async def _commit_all(self, segment: Path, content: bytes) -> None:
        spool = self.spool
        place = await spool.in_thread(partial(read_place, segment))
        while batch := await spool.in_thread(partial(_next_batch, content, place, self.pace)):
            for stretch in batch.damaged:
                await self._keep_damaged(segment, stretch, "its checksums do not fit")
            if batch.items:
                await self._commit(segment.parent, batch.items)
            place = batch.end
            await spool.in_thread(partial(keep_place, segment, place))

    async def _keep_damaged(self, segment: Path, stretch: bytes, reason: str) -> None:
        aside = segment.with_suffix(".damaged")
        await self.spool.in_thread(partial(append_durably, aside, stretch))
        self.spool.metrics.damaged_bytes.inc(len(stretch))
        log.error("spool.segment.damaged", kept=str(aside), bytes=len(stretch), reason=reason)

    async def _commit(self, folder: Path, items: Sequence[Event | Rejection]) -> None:
        """Commit, as often as it takes; what the ledger refuses is found and set aside."""
        try:
            appended = await self._appended(items)
        except LedgerRefused as refused:
            if len(items) == 1:
                await self._refuse(folder, items[0], str(refused))
                return
            middle = len(items) // 2
            await self._commit(folder, items[:middle])
            await self._commit(folder, items[middle:])
            return
        counts = self.spool.metrics.events
        self._drained += len(appended.fresh)
        counts["committed"].inc(sum(appended.fresh))
        counts["duplicate"].inc(len(appended.fresh) - sum(appended.fresh))
        if appended.position is not None:
            self.on_commit(appended.position)

    async def _appended(self, items: Sequence[Event | Rejection]) -> Appended:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            wait=wait_exponential_jitter(
                multiplier=self.pace.first_wait_seconds, max=self.pace.longest_wait_seconds
            ),
            before_sleep=_tell,
        )
        events = [item for item in items if isinstance(item, Event)]
        rejections = [item for item in items if isinstance(item, Rejection)]

        async def attempt() -> Appended:
            await self.lookout.until_back()
            return await self.append(events, rejections)

        return await attempts(attempt)

    async def _refuse(self, folder: Path, item: Event | Rejection, reason: str) -> None:
        line = msgspec.json.encode({"reason": reason, type(item).__name__.lower(): item}) + b"\n"
        await self.spool.in_thread(partial(append_durably, folder / "refused.jsonl", line))
        self.spool.metrics.events["refused"].inc()
        log.error(
            "spool.event.refused",
            site_id=item.site_id,
            event_id=str(item.event_id),
            reason=reason,
            kept=str(folder / "refused.jsonl"),
        )


def _tell(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    log.warning("spool.drain.waits", attempt=attempt.attempt_number, error=str(error))


def _left_in(folder: Path, failed: Container[Path]) -> list[Path]:
    return [segment for segment in segments_in(folder) if segment not in failed]


def _next_batch(content: bytes, place: int, pace: DrainPace) -> _Batch | None:
    """What follows a place, as much as is committed together; None at the end."""
    items: list[Event | Rejection] = []
    damaged: list[bytes] = []
    end = place
    for found in read_records(content, place):
        match found:
            case Damage(begin, end):
                damaged.append(content[begin:end])
            case Record(spooled, end):
                items += spooled.events
                items += spooled.rejections
        if len(items) >= pace.batch_events or end - place >= pace.batch_bytes:
            break
    return _Batch(items, damaged, end) if end > place else None


@asynccontextmanager
async def draining(drain: Drain) -> AsyncIterator[Drain]:
    """The drain at work, until the block is left; then it has a moment to finish."""
    async with in_background(drain.going_on()):
        try:
            yield drain
        finally:
            await drain.farewell()
