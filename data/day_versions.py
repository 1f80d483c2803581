"""Day versions: for each site and UTC day, the last place of the change feed that touched it.

Whoever counted events of some days at a position of the feed counted all there is, as long as the
newest version among those days is not beyond that position. Positions come from the ledger, so
processes that have followed it equally far agree on all versions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from data.queries import Watermark

# Days that stand together, with the newest version of them all behind the last: a long range looks
# at whole blocks, and a day takes some ten bytes.
_DAYS = 64
_EMPTY = bytes(8 * (_DAYS + 1))
_LAST_DAY = date.max.toordinal()
# What a position would be that no event has come from; the feed begins at 1.
_NONE = 0


@dataclass(frozen=True, slots=True)
class Touched:
    """A UTC day, by its ordinal, on which events came in, and the last position that brought some."""

    site_id: str
    day: int
    position: int


@dataclass(slots=True)
class DayVersions:
    """The versions of all days that a copy holds, as of a watermark; in memory.

    `watermark` is None for an empty copy. Until `is_known`, nothing can be said about any day.
    """

    watermark: Watermark | None = None
    is_known: bool = False
    _sites: dict[str, dict[int, array[int]]] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """How far in the feed these versions are right; -1 where they are not known."""
        if not self.is_known:
            return -1
        return self.watermark.position if self.watermark else _NONE

    def of(self, site_id: str, start: datetime | None, end: datetime | None) -> int:
        """The last position that brought events of the UTC days from `start` up to `end`.

        The instants are UTC; None is the beginning or the end of time. 0 where there are none.
        """
        blocks = self._sites.get(site_id)
        if not blocks:
            return _NONE
        first = start.toordinal() if start else 0
        last = (end - timedelta.resolution).toordinal() if end else _LAST_DAY
        return max(_newest(blocks, first, last), default=_NONE)

    def advance(self, touched: Iterable[Touched], watermark: Watermark | None) -> None:
        """Take in what has come since `position`, which makes these the versions at `watermark`."""
        for one in touched:
            blocks = self._sites.setdefault(one.site_id, {})
            number, place = divmod(one.day, _DAYS)
            block = blocks.get(number)
            if block is None:
                block = blocks[number] = array("q", _EMPTY)
            block[place] = max(block[place], one.position)
            block[_DAYS] = max(block[_DAYS], one.position)
        self.watermark = watermark
        self.is_known = True


def _newest(blocks: dict[int, array[int]], first: int, last: int) -> Iterator[int]:
    """The newest version of each block that the days from `first` to `last` lie in."""
    low, high = first // _DAYS, last // _DAYS
    # All history of a site is mostly fewer blocks than all of time.
    numbers = range(low, high + 1) if high - low < len(blocks) else list(blocks)
    for number in numbers:
        block = blocks.get(number)
        if block is None or not low <= number <= high:
            continue
        since = first - number * _DAYS if number == low else 0
        until = last - number * _DAYS if number == high else _DAYS - 1
        if since == 0 and until == _DAYS - 1:
            yield block[_DAYS]
        else:
            yield max(block[since : until + 1])
