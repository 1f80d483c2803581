"""A circuit breaker: whether a part that may fail is asked at all, and who finds out that it is back.

The states and their changes are `purgatory`'s (decision 20). What is decided here: a trial is asked
for and never made of somebody's request, there is one at a time, and what was begun before the last
change of state says nothing about how things are now.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from purgatory import AsyncCircuitBreakerFactory

# The library lets a trial happen when this time has passed by the wall clock, which may be set
# back by an hour. Whoever asks for trials knows when one is due.
_AT_ONCE = -math.inf


class BreakerState(StrEnum):
    """Closed: it is asked. Open: it is not. Half-open: one trial finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    "closed": BreakerState.CLOSED,
    "opened": BreakerState.OPEN,
    "half-opened": BreakerState.HALF_OPEN,
}


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

    def _see(self, name: str) -> None:
        state = _STATES[name]
        if state is not self._state:
            self._state = state
            self._changes += 1
            self._on_change(state)
