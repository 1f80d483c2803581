"""Work that goes on by itself: loops of rounds, and lanes that end only when they may.

Nobody waits for such work, so nobody would hear that it failed or miss it once it ended. Here every
failure is logged and what failed is begun again. A part says what one round does; tasks, failures
and endings are this module's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import structlog

log = structlog.get_logger()

# However short a pause is: what fails must not spin.
LEAST_SECONDS = 0.1
# How often it is said that something still fails. What had worked for so long fails anew.
SAY_AGAIN_SECONDS = 60.0
# After a failure, where nothing else is said.
_RETRY_SECONDS = 1.0

Work = Callable[[], Awaitable[object]]


class EndedTooSoon(Exception):
    """A lane came to an end that it may not come to."""


@dataclass(slots=True)
class Failures:
    """Tells what fails in one piece of work, without filling the log. Moments are monotonic.

    Failures in a row are told once for each place that they come from, then counted; `over` ends
    the row. Those that are `expected` are told in a line, all others with a traceback.
    """

    name: str
    expected: tuple[type[Exception], ...] = ()
    _known: set[tuple[object, ...]] = field(default_factory=set)
    _count: int = 0
    _untold: int = 0
    _told_at: float = 0.0

    def tell(self, error: BaseException, at: float) -> None:
        """Log a failure, or count it if it is one more of the same."""
        self._count += 1
        kind = _kind(error)
        if kind not in self._known:
            self._known.add(kind)
            self._told_at = at
            self._tell_first(error)
            return
        self._untold += 1
        if at - self._told_at >= SAY_AGAIN_SECONDS:
            self._told_at = at
            self._tell_count("still_failing", error=str(error))

    def _tell_first(self, error: BaseException) -> None:
        line = f"{self.name}.failed"
        if isinstance(error, self.expected):
            log.warning(line, error=str(error))
        else:
            log.error(line, error=repr(error), exc_info=error)

    def _tell_count(self, what: str, **more: str) -> None:
        self._untold = 0
        line = f"{self.name}.{what}"
        log.warning(line, failures=self._count, **more)

    def over(self) -> None:
        """The work went well; how often it had failed is told if that was more than once."""
        if self._count > 1:
            self._tell_count("works_again")
        self._known.clear()
        self._count = self._untold = 0

    def leave(self) -> None:
        """The work ends: tell of failures that were counted and not told yet."""
        if self._untold:
            self._tell_count("still_failing")


def _kind(error: BaseException) -> tuple[object, ...]:
    """What tells failures apart: their words differ from one to the next, their place does not."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code, trace.tb_lineno) if trace else ()
    return (type(error), *place)


@dataclass(frozen=True, slots=True)
class Loop:
    """Work done round after round. `name` is dotted; failures are logged as `<name>.failed`.

    `pause` lies between two rounds, in seconds; `retry` follows one that failed, and is as long as
    `pause` if left out. Failures that are `expected` pass by themselves, so their traceback is
    left out. `waits_first`: there is a pause before the first round, too.
    """

    name: str
    work: Work
    pause: float | Callable[[], float]
    retry: float | None = None
    expected: tuple[type[Exception], ...] = ()
    waits_first: bool = False

    async def run(self, failures: Failures) -> None:
        """Do round after round, until cancelled."""
        is_due, rest = not self.waits_first, 0.0

        async def go_round() -> None:
            nonlocal is_due, rest
            if is_due:
                await self.work()
            is_due = True
            rest = self.pause() if callable(self.pause) else self.pause

        while True:
            if not await _attempt(go_round, failures):
                rest = max(LEAST_SECONDS, self._retry())
            await asyncio.sleep(rest)

    def _retry(self) -> float:
        if self.retry is not None:
            return self.retry
        return _RETRY_SECONDS if callable(self.pause) else self.pause


@dataclass(frozen=True, slots=True)
class Lane:
    """Work that goes on until it `may_end`; where it ends before, that is told and it begins anew.

    A failure never ends it: what still waits in the lane must be seen to.
    """

    name: str
    work: Work
    may_end: Callable[[], bool] = lambda: False
    retry: float = LEAST_SECONDS
    expected: tuple[type[Exception], ...] = ()

    async def run(self, failures: Failures) -> None:
        """Work until it has come to its end."""

        async def go_on() -> None:
            await self.work()
            if not self.may_end():
                raise EndedTooSoon(f"{self.name} ended by itself")

        while True:
            if await _attempt(go_on, failures):
                return
            await asyncio.sleep(max(LEAST_SECONDS, self.retry))


async def _attempt(work: Work, failures: Failures) -> bool:
    """Whether the work went well; failures are told. Only a cancellation of its task goes on."""
    began = monotonic()
    try:
        await work()
    except (Exception, asyncio.CancelledError) as error:
        # Not every cancellation is ours: something that the work waited for may have had one.
        if _is_cancelled() and isinstance(error, asyncio.CancelledError):
            raise
        if monotonic() - began >= SAY_AGAIN_SECONDS:
            failures.over()
        failures.tell(error, monotonic())
        went_well = False
    except BaseException as error:
        failures.tell(error, monotonic())
        raise
    else:
        failures.over()
        went_well = True
    if _is_cancelled():
        # A library swallowed it on the way.
        raise asyncio.CancelledError
    return went_well


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _run(work: Loop | Lane) -> None:
    failures = Failures(work.name, work.expected)
    try:
        await work.run(failures)
    finally:
        failures.leave()


@asynccontextmanager
async def in_background(*works: Loop | Lane) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Their tasks, at work until the block is left; then they are cancelled and waited for.

    What ends a task is raised then, if the block raises nothing: neither failures nor
    cancellations, which leaves the likes of `SystemExit`.
    """
    tasks = [asyncio.create_task(_run(work), name=work.name) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
