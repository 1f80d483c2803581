"""Group commit: events of many concurrent requests share one transaction.

While a group commits, later requests gather into the next one, so groups grow with the load and
a single request on an idle service waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import structlog

from data.background import Lane, in_background
from data.events import Event, Rejection
from data.postgres.append import Append
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from telemetry.metrics import IngestMetrics

log = structlog.get_logger()


class CommitterFull(Exception):
    """More waits for its commit than the bounds allow; nothing of the request was taken."""


class CommitterClosed(Exception):
    """The service is stopping; nothing of the request was taken."""


@dataclass(frozen=True, slots=True)
class CommitLimits:
    """Bounds of the committer: what may wait, what goes into one group, how many at a time.

    A second lane opens only while `crowd_events` wait: below that, one commit at a time with all
    that arrived meanwhile costs less for each event than two with half of it.
    """

    pending_events: int = 50_000
    pending_bytes: int = 96 * 1024 * 1024
    group_events: int = 5_000
    crowd_events: int = 1_000
    lanes: int = 2


@dataclass(slots=True)
class _Request:
    events: Sequence[Event]
    rejections: Sequence[Rejection]
    size: int
    answer: asyncio.Future[list[bool]]

    def __len__(self) -> int:
        return len(self.events) + len(self.rejections)


@dataclass(slots=True)
class GroupCommit:
    """Takes events and answers when they are committed."""

    append: Append
    on_commit: Callable[[int], None]
    metrics: IngestMetrics
    limits: CommitLimits = field(default_factory=CommitLimits)
    _waiting: deque[_Request] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting_events: int = 0
    _pending_events: int = 0
    _pending_bytes: int = 0
    _closing: bool = False

    @property
    def pending_events(self) -> int:
        """Events that were taken and whose commit is not known yet."""
        return self._pending_events

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> list[bool]:
        """Commit and say for each event whether it was new (else its id was known before).

        `size` is what the request weighs in memory, in bytes. Raises `CommitterFull` or
        `CommitterClosed` before anything was taken; `LedgerUnavailable` when the outcome is
        unknown (sending the same ids again is safe); `LedgerRefused`.
        """
        if self._closing:
            raise CommitterClosed
        if not events and not rejections:
            return []
        request = _Request(events, rejections, size, asyncio.get_running_loop().create_future())
        self._admit(request)
        self._waiting.append(request)
        self._waiting_events += len(request)
        self._arrived.set()
        # Shielded by the future: a client that goes away does not undo the commit of others.
        return await request.answer

    def _admit(self, request: _Request) -> None:
        # A request larger than the bounds is still taken when it is alone.
        if self._pending_events and (
            self._pending_events + len(request) > self.limits.pending_events
            or self._pending_bytes + request.size > self.limits.pending_bytes
        ):
            raise CommitterFull
        self._count(request, 1)

    def _count(self, request: _Request, sign: int) -> None:
        self._pending_events += sign * len(request)
        self._pending_bytes += sign * request.size
        self.metrics.pending_events.set(self._pending_events)
        self.metrics.pending_bytes.set(self._pending_bytes)

    def lane(self, number: int) -> Lane:
        """What commits group after group, until the committer closes."""
        least_events = self.limits.crowd_events if number else 1
        return Lane(
            f"ingest.lane.{number}",
            partial(self._run_lane, least_events),
            may_end=lambda: self._closing,
        )

    async def _run_lane(self, least_events: int) -> None:
        """Commit groups of at least so many events."""
        while True:
            while self._waiting_events < least_events:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            group = self._next_group()
            try:
                await self._commit(group)
            finally:
                for request in group:
                    self._count(request, -1)

    def _next_group(self) -> list[_Request]:
        group = [self._waiting.popleft()]
        total = len(group[0])
        while self._waiting and total + len(self._waiting[0]) <= self.limits.group_events:
            group.append(self._waiting.popleft())
            total += len(group[-1])
        self._waiting_events -= total
        return group

    async def _commit(self, group: list[_Request]) -> None:
        events = [event for request in group for event in request.events]
        rejections = [one for request in group for one in request.rejections]
        started = perf_counter()
        try:
            appended = await self.append(events, rejections)
        except LedgerRefused as refused:
            if len(group) == 1:
                self._fail(group, refused, "refused")
                return
            # Somebody in the group brought what the ledger does not take: not the others' fault.
            for request in group:
                await self._commit([request])
        except LedgerUnavailable as unavailable:
            self._fail(group, unavailable, "unavailable")
        except Exception as error:  # noqa: BLE001 - a lane that ends would strand all to come
            self._fail(group, LedgerUnavailable(f"the commit was cut off: {error!r}"), "failed")
        except asyncio.CancelledError:
            self._fail(group, LedgerUnavailable("the service was stopped"), "cancelled")
            raise
        else:
            self.metrics.commit_seconds.observe(perf_counter() - started)
            self.metrics.group_events.observe(len(events) + len(rejections))
            self.metrics.commits["committed"].inc()
            _answer(group, appended.fresh)
            if appended.position is not None:
                self.on_commit(appended.position)

    def _fail(self, group: list[_Request], error: Exception, outcome: str) -> None:
        self.metrics.commits["failed"].inc()
        log.error(
            "ingest.commit.failed",
            outcome=outcome,
            requests=len(group),
            events=sum(len(request.events) for request in group),
            error=str(error),
        )
        for request in group:
            if not request.answer.done():
                request.answer.set_exception(error)

    async def drain(self, lanes: Sequence[asyncio.Task[None]]) -> None:
        """Take nothing more, and return when what was taken is committed."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*lanes, return_exceptions=True)


def _answer(group: list[_Request], fresh: list[bool]) -> None:
    start = 0
    for request in group:
        end = start + len(request.events)
        if not request.answer.done():
            request.answer.set_result(fresh[start:end])
        start = end


@asynccontextmanager
async def open_group_commit(
    append: Append,
    *,
    on_commit: Callable[[int], None],
    metrics: IngestMetrics,
    limits: CommitLimits | None = None,
) -> AsyncIterator[GroupCommit]:
    """A running committer; on leaving it commits what it has taken, then stops.

    `on_commit` is called right after every commit that brought new events, with its position.
    """
    committer = GroupCommit(append, on_commit, metrics, limits or CommitLimits())
    async with in_background(*map(committer.lane, range(committer.limits.lanes))) as lanes:
        try:
            yield committer
        finally:
            await committer.drain(lanes)
