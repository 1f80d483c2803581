"""Compares ledger, columnar copy and view: the newest of them each time, the rest by and by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from data.calendar import DAY, FIRST_DAY, LAST_DAY, DateRange, UnknownZone, zone_of
from data.duckdb.store import DuckDBStore
from data.postgres import tallies as ledger
from data.postgres.engine import Engine
from data.postgres.reads import Reads
from data.postgres.tallies import ViewTally
from data.tallies import SiteDay, SiteDays, Stretch, Tallies, differing, ranges_around

_UTC = ZoneInfo("UTC")
# A run reads so long at the most; the job ends after it.
_SECONDS = 90.0
_MOST_STRETCHES = 8
_MOST_DAYS = 1_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How much one run compares: events of the feed, and days of the view."""

    newest_events: int = 50_000
    older_events: int = 150_000
    newest_days: int = 32
    older_days: int = 92


@dataclass(frozen=True, slots=True)
class Findings:
    """What did not agree. `days` is the number of site days that were looked at.

    `stretches` are where copy and ledger differ, with the UTC days; `view_days` are local days on
    which view and copy have different users.
    """

    days: int
    stretches: Mapping[Stretch, frozenset[SiteDay]]
    view_days: frozenset[SiteDay]
    has_come_round: bool

    @property
    def stretch_days(self) -> frozenset[SiteDay]:
        """The local days to which the UTC days of the stretches may belong."""
        return frozenset(
            (site_id, day + distance * DAY)
            for found in self.stretches.values()
            for site_id, day in found
            for distance in (-1, 0, 1)
            if FIRST_DAY < day < LAST_DAY
        )


@dataclass(frozen=True, slots=True)
class CloseLook:
    """What each store has on some local days: ledger and copy up to `position`, the view up to its.

    A site that the view leaves out, or will for a while, has no users there. No `copy` is one that
    does not hold as much.
    """

    ledger: Tallies
    copy: Tallies | None
    view: ViewTally
    position: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the round has come to: the next older stretch of the feed, and older days."""

    older_than: int | None
    days_before: date | None


@dataclass(frozen=True, slots=True)
class _InView:
    compared: int
    days: frozenset[SiteDay]
    days_before: date | None


@dataclass(slots=True)
class Comparison:
    """Where the round through everything has come to, and what must be looked at again.

    A wrong copy is found by the events of a stretch of the feed, which never change once they are
    there; a wrong view by its users up to the very position that it names, as the copy knows what
    arrived after that.
    """

    reads: Reads
    extent: Extent = field(default_factory=Extent)
    _place: _Place = field(default_factory=lambda: _Place(None, None))
    _stretches: set[Stretch] = field(default_factory=set)
    _days: set[SiteDay] = field(default_factory=set)

    async def compare(self, store: DuckDBStore, position: int, today: date) -> Findings:
        """Compare a copy that holds everything up to `position`.

        With one server all along, as another may be behind the first; once more with the other one
        if it fails, or gives a statement up that it must replay away. Raises `LedgerUnavailable`.
        """

        async def compare(replica: Engine) -> tuple[Findings, _Place]:
            return await self._compare(replica, store, position, today)

        findings, self._place = await self.reads.run(compare, seconds=_SECONDS)
        # The newest stretch is another one each time: what was wrong in it is kept in mind, as far
        # as there is room; the round comes by the rest again.
        wrong = sorted(findings.stretches, key=lambda one: one.last)
        self._stretches = set(wrong[-_MOST_STRETCHES:])
        self._days = set(sorted(findings.view_days, key=lambda key: key[1])[-_MOST_DAYS:])
        return findings

    async def _compare(
        self, replica: Engine, store: DuckDBStore, position: int, today: date
    ) -> tuple[Findings, _Place]:
        has_come_round, compared = False, 0
        wrong: dict[Stretch, frozenset[SiteDay]] = {}
        older = await self._older_stretch(replica, position)
        if older is None or older.after == 0:
            has_come_round = True
        newest = await ledger.stretch_up_to(replica, position, self.extent.newest_events)
        for stretch in {*self._stretches, *filter(None, (older, newest))}:
            found = await self._compare_stretch(replica, store, stretch)
            compared += found[0]
            if found[1]:
                wrong[stretch] = found[1]
        found_in_view = await self._compare_view(replica, store, position, today)
        findings = Findings(
            days=compared + found_in_view.compared,
            stretches=wrong,
            view_days=found_in_view.days,
            has_come_round=has_come_round,
        )
        # Below the last stretch nothing is left: the next round begins at the end of the feed.
        older_than = older.after if older is not None and older.after > 0 else None
        return findings, _Place(older_than, found_in_view.days_before)

    async def _older_stretch(self, replica: Engine, position: int) -> Stretch | None:
        older_than = self._place.older_than
        start = position if older_than is None else min(position, older_than)
        return await ledger.stretch_up_to(replica, start, self.extent.older_events)

    async def _compare_stretch(
        self, replica: Engine, store: DuckDBStore, stretch: Stretch
    ) -> tuple[int, frozenset[SiteDay]]:
        in_ledger = await ledger.tally_stretch(replica, stretch)
        in_copy = await store.tally_stretch(stretch)
        return len(in_ledger), frozenset(differing(in_ledger, in_copy))

    async def _compare_view(
        self, replica: Engine, store: DuckDBStore, position: int, today: date
    ) -> _InView:
        older = await self._older_days(replica, store)
        days_before = min(older, default=None)
        days = {day for _, day in self._days} | older
        # Events may be a day ahead of the clock, and clocks more than half a day ahead of UTC.
        newest = [today + timedelta(days=n) for n in range(-self.extent.newest_days, 3)]
        ranges = ranges_around([*days, *newest])
        view = await ledger.tally_view(replica, ranges)
        if view.position > position:
            # The copy is behind the view for once: next time.
            return _InView(0, frozenset(self._days), days_before)
        asked = _asked(view, ranges)
        in_copy = await store.tally_days(asked, view.position)
        known = {one.site_id for one in asked}
        one = {key: tally.users for key, tally in in_copy.items() if tally.users}
        other = {key: users for key, users in view.users.items() if key[0] in known}
        different = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
        # What is being filled anew was not looked at.
        left = {key for key in self._days if key[0] not in known}
        return _InView(len(one.keys() | other.keys()), frozenset(different | left), days_before)

    async def _older_days(self, replica: Engine, store: DuckDBStore) -> set[date]:
        before, most = self._place.days_before or LAST_DAY, self.extent.older_days
        in_view = await ledger.view_days_before(replica, before, most)
        in_copy = await store.days_before(before, most)
        return set(sorted({*in_view, *in_copy}, reverse=True)[:most])


async def look_closely(
    replica: Engine, store: DuckDBStore, days: Iterable[SiteDay], position: int | None = None
) -> CloseLook:
    """What every store has on these local days, up to a position or to that of the view.

    Days are those of the clock by which the view counts; of UTC where it does not know the site.
    Raises `LedgerUnavailable` if reading the ledger takes too long.
    """
    by_site: dict[str, list[date]] = {}
    for site_id, day in days:
        by_site.setdefault(site_id, []).append(day)
    ranges = ranges_around((day for found in by_site.values() for day in found), margin=0)
    view = await ledger.tally_view(replica, ranges)
    asked = [
        SiteDays(site_id, _zone(view, site_id) or _UTC, ranges_around(found, margin=0))
        for site_id, found in by_site.items()
    ]
    at = view.position if position is None else position
    in_ledger = await ledger.tally_days(replica, asked, at)
    return CloseLook(in_ledger, await store.tally_days(asked, at), view, at)


def _asked(view: ViewTally, ranges: list[DateRange]) -> list[SiteDays]:
    zones = {site_id: _zone(view, site_id) for site_id in view.whole_sites}
    return [SiteDays(site_id, zone, ranges) for site_id, zone in zones.items() if zone is not None]


def _zone(view: ViewTally, site_id: str) -> ZoneInfo | None:
    try:
        return zone_of(view.timezones[site_id])
    except (KeyError, UnknownZone):
        return None
