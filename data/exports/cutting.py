"""Cutting a selection into stretches of about so many events, without sorting or holding them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from data.exports.layout import Arrivals, Selection
from data.exports.source import ExportSource, Stack

_STACKS = 4_096


class Cutter:
    """Takes stretch after stretch off the places of a selection, in order of arrival.

    The events are counted once, by place, and again only where a cut falls into many of them.
    """

    def __init__(
        self, source: Callable[[], ExportSource], selection: Selection, arrivals: Arrivals
    ) -> None:
        self._source = source
        self._selection = selection
        # What is left, in order; None where it has not been counted yet.
        self._stacks: deque[Stack] | None = None
        self._arrivals = arrivals

    async def take(self, most: int) -> Stack | None:
        """The next stretch, with `most` events of the site at the most; None at the end.

        It has at least half as many, unless it is the last one.
        """
        if self._stacks is None:
            self._stacks = deque(await self._counted(self._arrivals))
        taken: list[Stack] = []
        events = 0
        while self._stacks:
            following = self._stacks[0]
            if events + following.events <= most:
                taken.append(self._stacks.popleft())
                events += following.events
            elif events < most / 2 and following.arrivals.width > 1:
                finer = await self._counted(self._stacks.popleft().arrivals)
                self._stacks.extendleft(reversed(finer))
            else:
                break
        if not taken:
            return self._stacks.popleft() if self._stacks else None
        whole = Arrivals(taken[0].arrivals.after, taken[-1].arrivals.through)
        return Stack(whole, events)

    def put_back(self, stack: Stack) -> None:
        """See to it that a stretch is taken again, in smaller ones."""
        assert self._stacks is not None  # it was taken from them
        self._stacks.appendleft(stack)

    async def _counted(self, arrivals: Arrivals) -> list[Stack]:
        if not arrivals.width:
            return []
        return list(await self._source().export_stacks(self._selection, arrivals, _STACKS))
