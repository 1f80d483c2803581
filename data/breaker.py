"""A circuit breaker: whether a part that may fail is asked at all, and who finds out that it is back.

The states and their changes are `purgatory`'s (decision 20). What is decided here: a trial is asked
for and never made of somebody's request, there is one at a time, and what was begun before the last
change of state says nothing about how things are now.

`Breaker` lives in a process. `KeptBreaker` is a value, for a store that many processes share.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context
from purgatory.typing import StateName

# The library lets a trial happen when this time has passed by the wall clock, which may be set
# back by an hour. Whoever asks for trials knows when one is due.
_AT_ONCE = -math.inf


class BreakerState(StrEnum):
    """Closed: it is asked. Open: it is not. Half-open: one trial finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    CLOSED: BreakerState.CLOSED,
    OPENED: BreakerState.OPEN,
    HALF_OPENED: BreakerState.HALF_OPEN,
}


_NAMES = {state: name for name, state in _STATES.items()}


class _Failed(Exception):
    """What the library is told instead of the failure itself."""


class Breaker:
    """Opens after `threshold` failures in a row; `on_change` hears of every new state."""

    def __init__(
        self, name: str, *, threshold: int, on_change: Callable[[BreakerState], None]
    ) -> None:
        self.name = name
        self._factory = AsyncCircuitBreakerFactory(threshold, _AT_ONCE)
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._changes = 0
        self._is_tried = False

    @property
    def state(self) -> BreakerState:
        """The state now."""
        return self._state

    @property
    def changes(self) -> int:
        """How often the state has changed; note it before a use, for `note`."""
        return self._changes

    async def note(self, *, failed: bool, begun_at: int) -> None:
        """Take the outcome of one use, which began when there had been `begun_at` changes."""
        if self._state is not BreakerState.CLOSED or begun_at != self._changes:
            return
        guard = await self._factory.get_breaker(self.name)
        with suppress(_Failed):
            async with guard:
                if failed:
                    raise _Failed
        self._see(guard.context.state)

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[None]:
        """One use while the breaker is open: closes it, or leaves it open by an exception.

        The exception is passed on. Raises RuntimeError while another trial is under way.
        """
        if self._state is BreakerState.CLOSED or self._is_tried:
            raise RuntimeError(f"breaker {self.name}: there is nothing to try now")
        guard = await self._factory.get_breaker(self.name)
        self._is_tried = True
        try:
            async with guard:
                self._see(guard.context.state)
                yield
        finally:
            self._is_tried = False
            self._see(guard.context.state)

    def _see(self, name: StateName) -> None:
        state = _STATES[name]
        if state is not self._state:
            self._state = state
            self._changes += 1
            self._on_change(state)


@dataclass(frozen=True, slots=True)
class KeptBreaker:
    """A breaker as it is stored: whoever begins or ends a use stores what comes of it.

    `failures` are those in a row. An open one rests from `opened_at` on; when the rest is over, the
    next use is the trial. Uses must not overlap.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    opened_at: datetime | None = None

    def shown(self, now: datetime, rest: timedelta) -> BreakerState:
        """The state as people see it: half-open from the end of the rest until the trial's end."""
        is_rested = self.opened_at is not None and now >= self.opened_at + rest
        if self.state is BreakerState.OPEN and is_rested:
            return BreakerState.HALF_OPEN
        return self.state

    def begun(self, now: datetime, rest: timedelta) -> KeptBreaker | None:
        """What to store at the beginning of a use; None: there must be none, it is open."""
        if self.shown(now, rest) is BreakerState.OPEN:
            return None
        context = self._context(threshold=1)
        context.handle_new_request()
        return KeptBreaker(_STATES[context.state], self.failures, self.opened_at)

    def ended(self, now: datetime, *, failed: bool, threshold: int) -> KeptBreaker:
        """What to store at the end of a use that was begun."""
        context = self._context(threshold)
        if not failed:
            context.handle_end_request()
            return KeptBreaker(_STATES[context.state])
        context.handle_exception(_Failed())
        state = _STATES[context.state]
        opened_at = now if state is BreakerState.OPEN else None
        return KeptBreaker(state, self.failures + 1, opened_at)

    def _context(self, threshold: int) -> Context:
        """The library's own, with a rest that is always over: how long it lasts is decided here."""
        at = None if self.opened_at is None else self.opened_at.timestamp()
        return Context("", threshold, _AT_ONCE, _NAMES[self.state], self.failures, at)
