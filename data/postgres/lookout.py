"""Whether the ledger takes writes: known at once where it was away a moment ago.

After a failure nobody waits for the ledger again. One task looks whether it answers, and until it
does, what needs it is turned away, or done without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from data.background import Loop, in_background
from data.events import Event, Rejection
from data.postgres.append import Append, Appended
from data.postgres.engine import LedgerRefused, LedgerUnavailable, driver_connection
from telemetry.spool_metrics import LedgerMetrics

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LookoutPace:
    """How long the ledger may take before it counts as away, and how often to look for it.

    A commit or a look into a small table takes milliseconds, and seconds only where something is
    badly wrong: `answer_seconds` is what a request waits for a ledger that has just frozen.
    """

    answer_seconds: float = 5.0
    look_seconds: float = 0.5
    longest_look_seconds: float = 2.0


@dataclass(slots=True)
class Lookout:
    """What is known of the ledger in this process."""

    engine: AsyncEngine
    metrics: LedgerMetrics
    pace: LookoutPace = field(default_factory=LookoutPace)
    _answers: asyncio.Event = field(default_factory=asyncio.Event)
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)
    _reason: str = ""
    _is_told: bool = False
    _back_at: float = -1e9
    _away_since: float = 0.0

    def __post_init__(self) -> None:
        self._answers.set()
        self.metrics.away_seconds.set_function(
            lambda: monotonic() - self._away_since if self.is_away() else 0.0
        )

    def is_away(self) -> bool:
        """Whether the ledger failed and has not answered since."""
        return not self._answers.is_set()

    async def until_back(self) -> None:
        """Return when the ledger answers, as far as is known."""
        await self._answers.wait()

    def bounded(self, append: Append, seconds: float | None = None) -> Append:
        """The same append, which ends in time and is refused at once while the ledger is away.

        It raises `LedgerUnavailable` then; whether anything was committed is unknown, as ever. It
        must be bounded itself by as many seconds: a driver that is cancelled may wait on.
        """
        limit = seconds or self.pace.answer_seconds

        async def bounded_append(
            events: Sequence[Event], rejections: Sequence[Rejection]
        ) -> Appended:
            return await self.ask(append(events, rejections), limit)

        return bounded_append

    async def ask(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """What the work gives, unless the ledger is away, fails or takes too long."""
        if self.is_away():
            _abandon(work)
            raise LedgerUnavailable(self._reason)
        began = monotonic()
        limit = seconds or self.pace.answer_seconds
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                return await work
        except LedgerUnavailable as error:
            self._doubt(str(error), began)
            raise
        except TimeoutError as error:
            if not deadline.expired():
                raise
            reason = f"PostgreSQL did not answer within {limit:g} s"
            self._doubt(reason, began)
            raise LedgerUnavailable(reason) from error

    def _doubt(self, reason: str, began: float) -> None:
        # What was begun before the ledger came back says nothing about how it is now.
        if began < self._back_at:
            return
        self._reason = reason
        if not self.is_away():
            self.metrics.outages.inc()
            self._away_since = monotonic()
        self._answers.clear()
        self._doubted.set()

    def watch(self) -> Loop:
        """What brings the ledger back into use after each failure."""
        # The pause: one that answers and yet fails is not asked by every request.
        return Loop("ledger.lookout", self._bring_back, pause=self.pace.look_seconds)

    async def _bring_back(self) -> None:
        """Wait for a failure, then until the ledger looks well."""
        await self._doubted.wait()
        if not await self._looks_well():
            if not self._is_told:
                log.warning("ledger.gone", reason=self._reason)
                self._is_told = True
            return
        if self._is_told:
            log.warning("ledger.back", seconds=round(monotonic() - self._away_since, 1))
            self._is_told = False
        self._back_at = monotonic()
        self._doubted.clear()
        self._answers.set()

    async def _looks_well(self) -> bool:
        try:
            async with asyncio.timeout(self.pace.longest_look_seconds):
                await require_writable(self.engine)
        except (LedgerUnavailable, LedgerRefused, TimeoutError) as error:
            self._reason = str(error) or "PostgreSQL does not answer"
            return False
        return True


def _abandon(work: Awaitable[object]) -> None:
    if asyncio.iscoroutine(work):
        work.close()


async def require_writable(engine: AsyncEngine) -> None:
    """Raises `LedgerUnavailable` where the ledger does not answer or is read-only."""
    async with driver_connection(engine) as connection:
        is_read_only = await connection.fetchval(
            "select pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool"
        )
    if is_read_only:
        raise LedgerUnavailable("PostgreSQL takes no writes")


@asynccontextmanager
async def looking_out(lookout: Lookout) -> AsyncIterator[Lookout]:
    """The lookout at work, until the block is left."""
    async with in_background(lookout.watch()):
        yield lookout
