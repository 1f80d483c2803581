"""Draining the queue: what a worker does, entry by entry, until the ledger has it all.

An entry leaves the queue after the commit of its events, or for the dead letters, and for no other
reason. Whatever else happens, a worker killed or a ledger away, it stays and is tried again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from data.background import Loop, in_background
from data.events import Event, Rejection
from data.postgres.append import MAX_GROUP_EVENTS, Append, Appended
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.refusals import reason_of
from data.redis.client import RedisUnavailable
from data.redis.entries import Entry, Undecodable, decode_entry, encode_entry
from data.redis.queue import Delivery, Letter, Queue, Waiting, show_state, waiting_for
from telemetry.logs import bind_correlation_id, current_correlation_id, new_correlation_id
from telemetry.queue_metrics import QueueMetrics, QueueRefusal, WorkerMetrics

log = structlog.get_logger()


# So many events are worth a commit of their own.
_FEW_EVENTS = 1_000
_MOST_SAID = 5


@dataclass(frozen=True, slots=True)
class DrainPace:
    """How a worker works, in seconds but for the last two.

    What a worker has not renewed for `idle_seconds` is another's. An entry that was handed out
    more than `most_times` goes to the dead letters. `lanes` groups are committed at a time.
    """

    wait_seconds: float = 1.0
    gather_seconds: float = 0.05
    idle_seconds: float = 10.0
    renew_seconds: float = 2.0
    reclaim_seconds: float = 1.0
    most_pause_seconds: float = 5.0
    grace_seconds: float = 8.0
    most_times: int = 5
    lanes: int = 2


@dataclass(frozen=True, slots=True)
class _Item:
    """An event or a rejection, and the entry in which it came."""

    delivery: Delivery
    content: Event | Rejection


@dataclass(frozen=True, slots=True)
class _Refused:
    item: _Item
    error: LedgerRefused


@dataclass(slots=True)
class Worker:
    """Takes entries out of the queue and commits them. `name` is no other worker's."""

    name: str
    queue: Queue
    append: Append
    on_commit: Callable[[int], None]
    metrics: WorkerMetrics
    queue_metrics: QueueMetrics
    pace: DrainPace = field(default_factory=DrainPace)
    _in_hand: dict[bytes, Delivery] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _lanes: asyncio.Semaphore = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _reclaimed_at: float = -1e9

    def __post_init__(self) -> None:
        self._lanes = asyncio.Semaphore(self.pace.lanes)

    def stop(self) -> None:
        """Take nothing more; what is in hand is finished, or given back where it cannot be."""
        self._stopping.set()

    async def run(self) -> None:
        """Drain the queue until stopped; what is in hand then is finished."""
        living = Loop("worker.live", self._say_alive, pause=self.pace.renew_seconds)
        try:
            async with in_background(living):
                try:
                    await self._take_until_stopped()
                finally:
                    await self._finish()
        finally:
            with suppress(RedisUnavailable):
                await self.queue.leave(self.name)

    async def _take_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                async with waiting_for(self.queue) as waiting:
                    await self._take_turns(waiting)
            except RedisUnavailable as error:
                log.debug("worker.redis_away", reason=str(error))
                await self._pause(0.2)

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.pace.grace_seconds)
            # What they had in hand, others take over at once.
            unfinished = list(self._in_hand.values())
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)
                with suppress(RedisUnavailable):
                    await self.queue.give_back(self.name, unfinished, self.pace.idle_seconds)

    async def _say_alive(self) -> None:
        """Say that this worker lives and what it has in hand."""
        with suppress(RedisUnavailable):
            await self.queue.renew(self.name, list(self._in_hand))
            show_state(self.queue_metrics, await self.queue.state())

    async def _take_turns(self, waiting: Waiting) -> None:
        while not self._stopping.is_set():
            await self._lanes.acquire()
            try:
                batch = await self._next(waiting)
            except BaseException:
                self._lanes.release()
                raise
            if not batch:
                self._lanes.release()
                continue
            self._in_hand |= {one.entry_id: one for one in batch}
            # The task keeps the id: its log lines and dead letters can be told by it.
            with bind_correlation_id(new_correlation_id()):
                task = asyncio.create_task(self._drain(batch), name="worker-drain")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _next(self, waiting: Waiting) -> list[Delivery]:
        """What a dead worker left, or what is new; waits a moment where there is neither."""
        if self._stopping.is_set():
            return []
        if perf_counter() - self._reclaimed_at >= self.pace.reclaim_seconds:
            self._reclaimed_at = perf_counter()
            left = await self.queue.reclaim(self.name, self.pace.idle_seconds)
            # Its own, too, if it was held up for so long; then it is at work on them already.
            if left := [one for one in left if one.entry_id not in self._in_hand]:
                # There may be more: those that may kill workers come one by one.
                self._reclaimed_at = -1e9
                self.metrics.reclaimed.inc(len(left))
                log.warning("worker.reclaimed", entries=len(left))
                return left
        found = await self.queue.take(self.name)
        found = found or await waiting.one(self.name, self.pace.wait_seconds)
        if found and sum(one.events for one in found) < _FEW_EVENTS:
            # Nobody waits for this commit: what comes meanwhile shares it.
            await self._pause(self.pace.gather_seconds)
            with suppress(RedisUnavailable):
                found += await self.queue.take(self.name)
        return found

    async def _drain(self, batch: Sequence[Delivery]) -> None:
        try:
            await self._store(batch)
        except LedgerUnavailable:
            # It was stopped before the ledger came back.
            with suppress(RedisUnavailable):
                await self.queue.give_back(self.name, batch, self.pace.idle_seconds)
        except RedisUnavailable as error:
            # They are committed or not; either way they come again, and only what is new counts.
            log.warning("worker.not_settled", entries=len(batch), reason=str(error))
        except Exception:
            # What may kill workers is handed out alone: then this is the one.
            log.exception("worker.failed", entries=len(batch), first=batch[0].entry_id.decode())
        finally:
            for one in batch:
                self._in_hand.pop(one.entry_id, None)
            self._lanes.release()

    async def _store(self, batch: Sequence[Delivery]) -> None:
        """Commit a batch and take it out of the queue; what cannot be goes to the dead letters."""
        items, sound = list[_Item](), list[Delivery]()
        for one in batch:
            entry = await self._opened(one)
            if entry is not None:
                sound.append(one)
                items += [_Item(one, event) for event in entry.events]
                items += [_Item(one, rejection) for rejection in entry.rejections]
        refused = defaultdict[bytes, list[_Refused]](list)
        for start in range(0, len(items), MAX_GROUP_EVENTS):
            for one_refused in await self._commit(items[start : start + MAX_GROUP_EVENTS]):
                refused[one_refused.item.delivery.entry_id].append(one_refused)
        taken = [one for one in sound if one.entry_id not in refused]
        if taken:
            self.metrics.drained.inc(await self.queue.settle(taken))
        for one in sound:
            if one.entry_id in refused:
                said = {str(each.error) for each in refused[one.entry_id]}
                letters = list(map(_letter, refused[one.entry_id]))
                await self._bury(one, letters, "refused", sorted(said))

    async def _opened(self, delivery: Delivery) -> Entry | None:
        """What an entry holds; None where it went to the dead letters instead."""
        if delivery.times > self.pace.most_times:
            reason = (
                f"it was handed out {delivery.times - 1} times and no worker came to its end: see "
                "worker.failed in their logs, then queue it anew, or delete it"
            )
            letter = Letter(delivery.events, delivery.content, _signed(reason))
            await self._bury(delivery, [letter], "poison")
            return None
        try:
            return decode_entry(delivery.content)
        except Undecodable as error:
            reason = (
                "it cannot be decoded: it is damaged, or of a later version than this worker; "
                "update the workers and queue it anew, or delete it"
            )
            letter = Letter(delivery.events, delivery.content, _signed(reason))
            await self._bury(delivery, [letter], "undecodable", [str(error)])
            return None

    async def _commit(self, items: Sequence[_Item]) -> list[_Refused]:
        """Commit what the ledger takes; the rest with what it says, found by halving."""
        if not items:
            return []
        events = [one.content for one in items if isinstance(one.content, Event)]
        rejections = [one.content for one in items if isinstance(one.content, Rejection)]
        try:
            appended = await self._append_at_last(events, rejections)
        except LedgerRefused as refused:
            if len(items) == 1:
                return [_Refused(items[0], refused)]
            middle = len(items) // 2
            return [*await self._commit(items[:middle]), *await self._commit(items[middle:])]
        if appended.position is not None:
            self.on_commit(appended.position)
        return []

    async def _append_at_last(
        self, events: Sequence[Event], rejections: Sequence[Rejection]
    ) -> Appended:
        """Commit as soon as the ledger can; `LedgerUnavailable` when stopped before that."""
        started = perf_counter()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=self.pace.most_pause_seconds),
            stop=stop_when_event_set(self._stopping),  # type: ignore[arg-type] # asks is_set()
            sleep=self._pause,
            before_sleep=self._tell_retry,
            reraise=True,
        )
        appended: Appended = await retrying(self.append, events, rejections)
        self.metrics.commit_seconds.observe(perf_counter() - started)
        return appended

    def _tell_retry(self, state: RetryCallState) -> None:
        self.metrics.retries.inc()
        # The first, and from then on every minute or so.
        if state.attempt_number % 20 == 1:
            error = state.outcome.exception() if state.outcome else None
            log.warning("worker.ledger_away", attempt=state.attempt_number, reason=str(error))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not while the worker is to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _bury(
        self,
        delivery: Delivery,
        letters: Sequence[Letter],
        reason: QueueRefusal,
        said: Sequence[str] = (),
    ) -> None:
        """Move an entry, or what was refused of it, to the dead letters.

        `said` is what others said of it, in their words: for the log alone.
        """
        if await self.queue.bury(delivery, letters):
            self.metrics.refused[reason].inc(len(letters))
            log.error(
                "worker.buried",
                letters=len(letters),
                entry=delivery.entry_id.decode(),
                reason=letters[0].reason,
                said=said[:_MOST_SAID],
            )
            return
        self.metrics.refused["full"].inc(len(letters))
        log.error("worker.dead_letters_full", letters=len(letters))
        # As if it had not been handed out: its tries are for what it holds.
        await self.queue.give_back(self.name, [delivery], 0)


def _letter(refused: _Refused) -> Letter:
    content, reason = refused.item.content, _signed(reason_of(refused.error))
    if isinstance(content, Event):
        return Letter(1, encode_entry([content], []), reason)
    return Letter(1, encode_entry([], [content]), reason)


def _signed(reason: str) -> str:
    """The reason, and where to find what those said who did not take it."""
    found = current_correlation_id()
    return f"{reason}; the worker's log has more, under the correlation id {found}"
