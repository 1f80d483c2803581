"""Taking events by the queue: acknowledged when Redis has them in its append-only file.

Requests that come while Redis answers gather, and share the next round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from data.background import Lane, in_background
from data.events import Event, Rejection
from data.intake import Store, StoreAway, StoreFull, Taken
from data.redis.client import RedisRefused, RedisUnavailable
from data.redis.entries import encode_entry
from data.redis.held import HeldEntry
from data.redis.queue import Queue
from data.redis.queue_watch import QueueWatch, WatchPace
from telemetry.queue_metrics import QueueMetrics

log = structlog.get_logger()

# Requests of so many bytes are encoded beside the event loop.
_LARGE_BYTES = 128 * 1024
_GROUP_BYTES = 4 * 1024 * 1024
_GROUP_ENTRIES = 500
# What may wait for Redis; beyond this the next store is asked.
_WAITING_BYTES = 64 * 1024 * 1024


class QueueUnusable(Exception):
    """Redis would lose what is queued in it; the message says what to do."""


@dataclass(slots=True)
class _Request:
    entry: HeldEntry
    answer: asyncio.Future[None]


@dataclass(slots=True)
class QueueStore:
    """The queue as a store of events. Made by `open_queue_store`.

    `must_last`: nothing is acknowledged through a Redis that is set up so that it may lose it.
    """

    queue: Queue
    watch: QueueWatch
    metrics: QueueMetrics
    must_last: bool
    _waiting: deque[_Request] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closing: bool = False

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> Taken:
        """Queue the events of one request; see `data.intake.Store`."""
        count = len(events) + len(rejections)
        if not count:
            return Taken([])
        self._require_use(count)
        if size < _LARGE_BYTES:
            content = encode_entry(events, rejections)
        else:
            content = await asyncio.to_thread(encode_entry, events, rejections)
            self._require_use(count)
        if self._waiting_bytes + len(content) > _WAITING_BYTES:
            raise self._away("too much waits for Redis already", count)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(HeldEntry(count, content), answer))
        self._waiting_bytes += len(content)
        self._arrived.set()
        await answer
        return Taken(None)

    def why_not_used(self) -> str | None:
        """Why nothing is taken by the queue now; None while it is."""
        if not self.queue.redis.is_available:
            return "Redis does not answer"
        durability = self.watch.durability
        if durability is None:
            return "Redis was not looked at yet"
        if durability.is_failing or self.must_last:
            return durability.problem
        return None

    def _require_use(self, count: int) -> None:
        reason = "the service is stopping" if self._is_closing else self.why_not_used()
        if reason:
            raise self._away(reason, count)

    def _away(self, reason: str, count: int, *, is_unknown: bool = False) -> StoreAway:
        self.metrics.appended["unavailable"].inc(count)
        return StoreAway(reason, is_unknown=is_unknown)

    def lane(self) -> Lane:
        """What queues group after group, until the store closes and all are queued."""
        return Lane("queue.append", self._run_lane, may_end=lambda: self._is_closing)

    async def _run_lane(self) -> None:
        while True:
            while not self._waiting:
                if self._is_closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            group = self._next_group()
            try:
                await self._append(group)
            except Exception as error:
                _fail(group, StoreAway(f"the queue was cut off: {error!r}", is_unknown=True))
                raise
            except asyncio.CancelledError:
                _fail(group, StoreAway("the service was stopped", is_unknown=True))
                raise

    def _next_group(self) -> list[_Request]:
        group, size = list[_Request](), 0
        while self._waiting and len(group) < _GROUP_ENTRIES:
            more = len(self._waiting[0].entry.content)
            if group and size + more > _GROUP_BYTES:
                break
            group.append(self._waiting.popleft())
            size += more
        self._waiting_bytes -= size
        return group

    async def _append(self, group: list[_Request]) -> None:
        held = self.watch.held
        try:
            token, ids = await self.queue.append(
                [(one.entry.events, one.entry.content) for one in group]
            )
        except RedisUnavailable as error:
            count = sum(one.entry.events for one in group)
            is_unknown = not isinstance(error, RedisRefused)
            _fail(group, self._away(str(error), count, is_unknown=is_unknown))
            return
        # Where it is another stream's token, the next look finds all that this stream lacks.
        held.token = held.token or token
        for request, entry_id in zip(group, ids, strict=True):
            if entry_id is None:
                self.metrics.appended["full"].inc(request.entry.events)
                _fail([request], StoreFull("as many events are queued as may be"))
                continue
            self.metrics.appended["queued"].inc(request.entry.events)
            held.add(entry_id, request.entry)
            if not request.answer.done():
                request.answer.set_result(None)

    async def drain(self, lanes: Sequence[asyncio.Task[None]]) -> None:
        """Take nothing more, and return when what was taken is queued or refused."""
        self._is_closing = True
        self._arrived.set()
        await asyncio.gather(*lanes, return_exceptions=True)

    async def let_go(self) -> None:
        """Have what is held kept by Redis, or by another store where it does not answer.

        The watch must have ended: it may be about to do so, too.
        """
        try:
            # A Redis that is back may have lost what is held here.
            await self.watch.look()
        except RedisUnavailable as error:
            await self.watch.hand_over(str(error))


def _fail(group: list[_Request], error: Exception) -> None:
    for request in group:
        if not request.answer.done():
            request.answer.set_exception(error)


@asynccontextmanager
async def open_queue_store(
    queue: Queue,
    metrics: QueueMetrics,
    *,
    rescue: Store,
    must_last: bool,
    pace: WatchPace | None = None,
) -> AsyncIterator[QueueStore]:
    """The queue, ready to take events; on leaving, what it has taken is queued.

    Raises `QueueUnusable` where Redis answers and may lose what `must_last`. One that is away is
    looked at when it is back.
    """
    watch = QueueWatch(queue, metrics, rescue, pace or WatchPace())
    store = QueueStore(queue, watch, metrics, must_last)
    try:
        await watch.look()
    except RedisRefused as error:
        raise QueueUnusable(f"Redis does not take the queue ({error}): see to its rights") from None
    except RedisUnavailable as error:
        log.warning("queue.away", reason=str(error))
    problem = watch.durability.problem if watch.durability else None
    if must_last and problem:
        raise QueueUnusable(f"{problem}, or set INGEST_MODE=direct")
    try:
        async with in_background(watch.looking()), in_background(store.lane()) as lanes:
            try:
                yield store
            finally:
                await store.drain(lanes)
    finally:
        await store.let_go()
