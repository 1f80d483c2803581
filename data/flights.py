"""Flights: answers on their way, each computed once for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from data.cache import CacheStatus, Entry, Question


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows for each question in the order asked, and what they rest on."""

    rows: Sequence[Any]
    position: int
    through: datetime | None


# Takes what each question asks.
Compute = Callable[[Sequence[Any]], Awaitable[Computed]]


@dataclass(frozen=True, slots=True)
class Landed:
    """An answer, and whether it was found (HIT) or computed (MISS)."""

    entry: Entry
    status: CacheStatus


@dataclass(slots=True, eq=False)
class Flight:
    """One question on its way to its answer.

    It goes on as long as somebody waits or, once `goes_on`, without anybody.
    """

    question: Question
    on_left: Callable[[Flight], None]
    future: asyncio.Future[Landed] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    began: float = field(default_factory=monotonic)
    goes_on: bool = False
    _waiting: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it, or somebody left it to go on."""
        return self.goes_on or self._waiting > 0

    def is_newer(self, question: Question, asked_at: float) -> bool:
        """Whether it began, after this monotonic moment, to ask for as much as the question does.

        Its answer is then as good as that of a flight of one's own, also where nobody can tell
        whether it is exact.
        """
        return self.began >= asked_at and self.question.version >= question.version

    @contextmanager
    def waited_for(self) -> Iterator[asyncio.Future[Landed]]:
        """The future, not to be cancelled; `on_left` hears when nobody wants it any more."""
        self._waiting += 1
        try:
            yield self.future
        finally:
            self._waiting -= 1
            if not self.is_wanted and not self.future.done():
                self.on_left(self)

    def land(self, entry: Entry, status: CacheStatus) -> None:
        """Hand the answer to all who wait."""
        if not self.future.done():
            self.future.set_result(Landed(entry, status))

    def fail(self, error: Exception) -> None:
        """Tell all who wait why there is none."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # looked at: it may be that nobody waits


@dataclass(slots=True, eq=False)
class Group:
    """Flights that were begun at the same moment: what they ask is computed as one."""

    compute: Compute
    flights: list[Flight] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether any of its flights is still under way and wanted."""
        return any(one.is_wanted and not one.future.done() for one in self.flights)
