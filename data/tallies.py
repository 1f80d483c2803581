"""Tallies: how many events and users a store has on the days of sites, for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from data.calendar import DAY, FIRST_DAY, LAST_DAY, DateRange

SiteDay = tuple[str, date]


@dataclass(frozen=True, slots=True)
class Tally:
    """Events and distinct actors."""

    events: int = 0
    users: int = 0


Tallies = Mapping[SiteDay, Tally]


@dataclass(frozen=True, slots=True)
class SiteDays:
    """Ranges of local days of one site that do not touch each other."""

    site_id: str
    zone: ZoneInfo
    days: Sequence[DateRange]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The batches of the feed after one position, up to and with another."""

    after: int
    last: int


def differing(one: Tallies, other: Tallies) -> set[SiteDay]:
    """The days on which two stores do not have the same."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def ranges_around(days: Iterable[date], margin: int = 1) -> list[DateRange]:
    """The days with some before and after each, as ranges that do not touch each other."""
    ranges: list[DateRange] = []
    for day in sorted({min(max(day, FIRST_DAY), LAST_DAY) for day in days}):
        first, last = day - margin * DAY, day + margin * DAY
        if ranges and first <= ranges[-1].end + DAY:
            ranges[-1] = DateRange(ranges[-1].start, max(last, ranges[-1].end))
        else:
            ranges.append(DateRange(first, last))
    return ranges
