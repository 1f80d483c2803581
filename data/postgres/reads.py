"""Reading the ledger: from the replica while it is well, else from the primary.

The replica stands behind a circuit breaker. One failure opens it, for a trial costs nobody
anything: a task looks at the replica each second, and nobody's request ever waits for the answer to
whether it is back. A replica that lags too far behind is put aside in the same way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import TypeVar
from uuid import UUID
from weakref import WeakSet

import asyncpg
import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from data.background import Loop, in_background
from data.breaker import Breaker, BreakerState
from data.deadlines import answer_within
from data.postgres.engine import LedgerUnavailable, StatementFailed, StatementGivenUp
from data.postgres.standby import StandbyState, standby_state
from telemetry.ledger_metrics import ReadOutcome, ReadTarget, ReplicaMetrics

log = structlog.get_logger()

T = TypeVar("T")
Question = Callable[[AsyncEngine], Awaitable[T]]

MAX_LAG = timedelta(seconds=60)
# Whether the replica answers at all the looks find out, in less time than a read may take.
LATE_IN_A_ROW = 3
# What is wrong with one statement: it stood in the way, or needs what a standby has not replayed.
_NO_OUTAGES = (StatementGivenUp, StatementFailed)


@dataclass(frozen=True, slots=True)
class ReadPace:
    """How often to look at the replica, how long a look and one read may take, in seconds.

    One that is away is tried every `try_every`. A primary that failed while the replica lagged is not asked first again for `primary_rest`.
    """

    look_every: float = 1.0
    try_every: float = 2.0
    look: float = 2.0
    read: float = 5.0
    primary_rest: float = 5.0


@dataclass(slots=True)
class Replica:
    """A replica and what is known of it. `looker` is an engine of its own, for looks only."""

    engine: AsyncEngine
    looker: AsyncEngine
    ledger_id: UUID
    max_lag: timedelta
    metrics: ReplicaMetrics
    pace: ReadPace
    breaker: Breaker = field(init=False)
    state: StandbyState | None = None
    reason: str = ""
    is_lagging: bool = False
    _late: int = 0
    _connections: WeakSet[asyncpg.Connection] = field(default_factory=WeakSet)
    _limits: set[asyncio.Timeout] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.breaker = Breaker("replica", threshold=1, on_change=self._changed)
        self.metrics.show_breaker(BreakerState.CLOSED.value)
        event.listen(self.engine.sync_engine, "connect", self._connected)

    @property
    def lag(self) -> float | None:
        """Seconds behind the primary when it was last looked at; None if it cannot be told."""
        return self.state.lag if self.state else None

    def _connected(self, connection: object, _: object) -> None:
        self._connections.add(connection.driver_connection)  # type: ignore[attr-defined]

    def _changed(self, state: BreakerState) -> None:
        self.metrics.show_breaker(state.value)
        self.metrics.transitions[state.value].inc()
        self._late = 0
        if state is BreakerState.OPEN:
            # Idle connections are as dead as the one that failed, and whoever still waits goes to
            # the primary at once.
            for connection in list(self._connections):
                connection.terminate()
            for limit in self._limits:
                if not limit.expired():
                    limit.reschedule(0)

    @contextmanager
    def cutting(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Have the limit of a read expire the moment the replica is found to be away."""
        self._limits.add(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)

    async def note(self, error: Exception | None, begun_at: int) -> None:
        """Take the outcome of one read; that one question takes long is no outage yet."""
        if begun_at != self.breaker.changes:
            return
        self._late = self._late + 1 if isinstance(error, TimeoutError) else 0
        is_mere_delay = 0 < self._late < LATE_IN_A_ROW
        if error is None or is_mere_delay or isinstance(error, _NO_OUTAGES):
            await self.breaker.note(failed=False, begun_at=begun_at)
        else:
            await self._fail(error, begun_at)

    async def _fail(self, error: Exception, begun_at: int) -> None:
        was_closed = self.breaker.state is BreakerState.CLOSED
        await self.breaker.note(failed=True, begun_at=begun_at)
        if was_closed and self.breaker.state is BreakerState.OPEN:
            self.reason = _gist(error)
            log.warning("replica.gone", reason=self.reason)

    async def look(self) -> None:
        """See how the replica is; the trial, if the breaker is open."""
        begun_at = self.breaker.changes
        try:
            if self.breaker.state is BreakerState.CLOSED:
                self._learn(await self._ask())
                return
            async with self.breaker.trial():
                self._learn(await self._ask())
        except StatementGivenUp:
            return
        except LedgerUnavailable as error:
            self.reason = str(error)
            # Whatever it is: what looks need is there in every ledger.
            await self._fail(error, begun_at)
        else:
            log.warning("replica.back")

    async def _ask(self) -> StandbyState:
        try:
            async with answer_within(self.pace.look):
                state = await standby_state(self.looker)
        except TimeoutError as error:
            raise LedgerUnavailable("it did not answer in time") from error
        if state.ledger_id != self.ledger_id:
            raise LedgerUnavailable("it is a replica of another ledger")
        if not state.is_standby:
            # One that was promoted goes its own way and says nothing of it.
            raise LedgerUnavailable("it is no standby")
        return state

    def _learn(self, state: StandbyState) -> None:
        self.state = state
        if state.lag is None:
            return
        self.metrics.lag_seconds.set(state.lag)
        most = self.max_lag.total_seconds()
        was_lagging = self.is_lagging
        # Half of it to come back: a replica on the verge must not change sides each second.
        self.is_lagging = state.lag > (most / 2 if was_lagging else most)
        if self.is_lagging and not was_lagging:
            log.warning("replica.lagging", seconds=round(state.lag, 1))
        elif was_lagging and not self.is_lagging:
            log.warning("replica.caught_up", seconds=round(state.lag, 1))

    def watch(self) -> Loop:
        """The looks that follow the first one."""
        return Loop(
            "replica.look",
            self.look,
            pause=self._until_next_look,
            retry=self.pace.try_every,
            waits_first=True,
        )

    def _until_next_look(self) -> float:
        is_closed = self.breaker.state is BreakerState.CLOSED
        return self.pace.look_every if is_closed else self.pace.try_every


@dataclass(slots=True)
class Reads:
    """The way to read the ledger, as a role that can only SELECT. Made by `open_reads`.

    `primary` always works, as that role on the primary. `replica` is None where there is none.
    """

    primary: AsyncEngine
    replica: Replica | None = None
    metrics: ReplicaMetrics | None = None
    pace: ReadPace = field(default_factory=ReadPace)
    _primary_failed_at: float = -math.inf

    @property
    def has_replica(self) -> bool:
        """Whether there is a replica, in whatever state."""
        return self.replica is not None

    @property
    def target(self) -> ReadTarget:
        """Where the next read goes first."""
        return self._order()[0]

    def _order(self) -> tuple[ReadTarget, ...]:
        replica = self.replica
        if replica is None or replica.breaker.state is not BreakerState.CLOSED:
            return ("primary",)
        # A primary that is down sends no heartbeats, so its replica seems to lag: better than none.
        is_resting = monotonic() - self._primary_failed_at < self.pace.primary_rest
        if replica.is_lagging and not is_resting:
            return ("primary", "replica")
        return ("replica", "primary")

    async def run(self, question: Question[T], *, seconds: float | None = None) -> T:
        """What the question comes to; asked once more of the other server if the first one fails.

        The question gets an engine, and must do no harm when it is asked twice. Each attempt takes
        `seconds` at the most, by default what a person would wait. Raises `LedgerUnavailable`.
        """
        first, *others = self._order()
        try:
            return await self._ask(first, question, seconds)
        except LedgerUnavailable:
            if not others:
                raise
        return await self._ask(others[0], question, seconds)

    async def _ask(self, target: ReadTarget, question: Question[T], seconds: float | None) -> T:
        async with self._noted(target, seconds) as engine:
            return await question(engine)

    @asynccontextmanager
    async def _noted(self, target: ReadTarget, seconds: float | None) -> AsyncIterator[AsyncEngine]:
        replica = self.replica if target == "replica" else None
        begun_at = replica.breaker.changes if replica else 0
        try:
            async with asyncio.timeout(seconds or self.pace.read) as limit:
                if replica is None:
                    yield self.primary
                else:
                    with replica.cutting(limit):
                        yield replica.engine
        except (LedgerUnavailable, TimeoutError) as error:
            self._count(target, "failed")
            if replica:
                await replica.note(error, begun_at)
            else:
                self._primary_failed_at = monotonic()
            if isinstance(error, LedgerUnavailable):
                raise
            raise LedgerUnavailable(f"the {target} did not answer in time") from error
        self._count(target, "succeeded")
        if replica:
            await replica.note(None, begun_at)

    def _count(self, target: ReadTarget, outcome: ReadOutcome) -> None:
        if self.metrics is not None:
            self.metrics.reads[target, outcome].inc()


def _gist(error: Exception) -> str:
    return "it did not answer in time" if isinstance(error, TimeoutError) else str(error)


@asynccontextmanager
async def open_reads(reads: Reads) -> AsyncIterator[Reads]:
    """The reads, with a first look taken and its replica watched until the block is left."""
    replica = reads.replica
    if replica is None:
        yield reads
        return
    await replica.look()
    async with in_background(replica.watch()):
        yield reads
