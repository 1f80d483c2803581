"""Reconciliation: what ledger, columnar copy and view disagree on, told and repaired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import structlog

from data.comparison import CloseLook, Comparison, Findings, look_closely
from data.duckdb.store import DuckDBStore
from data.follower import Follower
from data.postgres.actor_days import refill
from data.postgres.engine import LedgerUnavailable
from data.rebuild_requests import request_rebuild
from data.tallies import SiteDay, Tally
from telemetry.view_metrics import ReconcileMetrics

log = structlog.get_logger()

# What is looked at closely, kept, and shown.
MAX_DAYS = 100
_LOGGED_DAYS = 5
_FIRST_WAIT = timedelta(minutes=10)
_LONGEST_WAIT = timedelta(days=1)
_NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class DayDifference:
    """A local day of a site on which a store does not have what the ledger has.

    `ledger` and `copy` are None where there was no time to count, and `copy` where it was not part
    of the comparison; `view`, in users, where it was not, or where the site is being filled anew.
    """

    site_id: str
    day: date
    ledger: Tally | None
    copy: Tally | None
    view: int | None
    is_copy_wrong: bool
    is_view_wrong: bool


@dataclass(slots=True)
class _Patience:
    """When a store may be repaired again: a fault that repairs don't mend is not worth many."""

    attempts: int = 0
    not_before: datetime | None = None

    def allows(self, now: datetime) -> bool:
        return self.not_before is None or now >= self.not_before

    def note(self, now: datetime) -> None:
        wait = min(_FIRST_WAIT * 4 ** min(self.attempts, 5), _LONGEST_WAIT)
        self.attempts, self.not_before = self.attempts + 1, now + wait


@dataclass(slots=True)
class Reconciliation:
    """What was found last, in this process, and whether it has been seen to."""

    follower: Follower
    metrics: ReconcileMetrics
    comparison: Comparison
    differences: tuple[DayDifference, ...] = ()
    compared_at: datetime | None = None
    _suspects: frozenset[SiteDay] = frozenset()
    _copy_repairs: _Patience = field(default_factory=_Patience)
    _view_repairs: _Patience = field(default_factory=_Patience)
    _is_round_clean: bool = False

    @property
    def next_repair(self) -> datetime | None:
        """Before when the copy is not built anew again; None if it may be at once."""
        return self._copy_repairs.not_before

    async def run(self, now: datetime) -> None:
        """Compare, tell and repair; nothing while the copy catches up or is built anew.

        Raises `LedgerUnavailable` or `StoreUnavailable` where there is nothing to compare with.
        """
        if not self.follower.is_caught_up or self.follower.is_rebuilding:
            return
        store = self.follower.copy.store
        watermark = await store.watermark()
        position = watermark.position if watermark else 0
        findings = await self.comparison.compare(store, position, now.date())
        self.differences = await self._judged(findings, store, position, now)
        self.compared_at = now
        self._note_round(findings)
        self._measure(findings, now)
        if self.differences:
            await self._see_to_it(now)

    async def _judged(
        self, findings: Findings, store: DuckDBStore, position: int, now: datetime
    ) -> tuple[DayDifference, ...]:
        """What is wrong where, by the ledger's word."""
        suspects = findings.view_days | findings.stretch_days
        is_waiting = not (self._copy_repairs.allows(now) and self._view_repairs.allows(now))
        if suspects and suspects == self._suspects and is_waiting:
            # Known, and nothing can be done about it for now: no need to read the ledger again.
            return self.differences
        self._suspects = suspects
        try:
            found = [one async for one in _looked_at(findings, self.follower, store, position)]
        except LedgerUnavailable as error:
            log.warning("reconcile.look.failed", error=str(error))
            found = list(_unjudged(findings))
        if findings.stretches and not any(one.is_copy_wrong for one in found):
            # As many events and users, but others: it shows by stretches of the feed alone.
            found += _unjudged(findings, only_stretches=True)
        return tuple(sorted(found, key=_badness, reverse=True)[:MAX_DAYS])

    def _note_round(self, findings: Findings) -> None:
        if findings.stretches or findings.view_days:
            self._is_round_clean = False
        elif findings.has_come_round:
            if self._is_round_clean:
                # All there is was looked at since the last fault.
                self._copy_repairs, self._view_repairs = _Patience(), _Patience()
            self._is_round_clean = True

    def _measure(self, findings: Findings, now: datetime) -> None:
        self.metrics.days.inc(findings.days)
        self.metrics.last_run.set(now.timestamp())
        wrong_in_copy = sum(one.is_copy_wrong for one in self.differences)
        self.metrics.differences["copy"].set(wrong_in_copy)
        self.metrics.differences["view"].set(sum(one.is_view_wrong for one in self.differences))

    async def _see_to_it(self, now: datetime) -> None:
        sites = sorted({one.site_id for one in self.differences if one.is_view_wrong})
        is_copy_wrong = any(one.is_copy_wrong for one in self.differences)
        repairs = []
        if sites and self._view_repairs.allows(now):
            await refill(self.follower.primary, sites)
            self._view_repairs.note(now)
            self.metrics.repairs["view"].inc()
            repairs.append("view")
        if is_copy_wrong and self._copy_repairs.allows(now):
            # In the background, by whoever also serves `footfall rebuild`: one at a time.
            request_rebuild(self.follower.copy.slot)
            self._copy_repairs.note(now)
            self.metrics.repairs["copy"].inc()
            repairs.append("copy")
        log.warning(
            "reconcile.differences",
            days=len(self.differences),
            worst=[_sentence(one) for one in self.differences[:_LOGGED_DAYS]],
            repairs=repairs or "none is due yet",
        )


async def _looked_at(
    findings: Findings, follower: Follower, store: DuckDBStore, position: int
) -> AsyncIterator[DayDifference]:
    """Days on which something is wrong, of those that were found to be suspect.

    By the primary: a replica may be behind the copy. The copy may be behind the primary's view in
    turn, while the replica that it follows lags: then each is compared with the ledger by itself.
    """
    primary, others = follower.reads.primary, findings.stretch_days - findings.view_days
    if findings.view_days:
        days = _newest(findings.view_days)
        look = await look_closely(primary, store, days)
        if look.position > position:
            others = findings.stretch_days | findings.view_days
            look = replace(look, copy=None)
        for one in _differences(look, days, by_view=True):
            yield one
    if others:
        look = await look_closely(primary, store, _newest(others), position)
        for one in _differences(look, _newest(others), by_view=False):
            yield one


def _differences(
    look: CloseLook, days: Collection[SiteDay], *, by_view: bool
) -> Iterator[DayDifference]:
    for key in days:
        in_ledger = look.ledger.get(key, _NOTHING)
        in_copy = None if look.copy is None else look.copy.get(key, _NOTHING)
        is_counted = by_view and key[0] in look.view.whole_sites
        in_view = look.view.users.get(key, 0) if is_counted else None
        one = DayDifference(
            *key,
            ledger=in_ledger,
            copy=in_copy,
            view=in_view,
            is_copy_wrong=in_copy is not None and in_copy != in_ledger,
            is_view_wrong=in_view is not None and in_view != in_ledger.users,
        )
        if one.is_copy_wrong or one.is_view_wrong:
            yield one


def _unjudged(findings: Findings, *, only_stretches: bool = False) -> Iterator[DayDifference]:
    """The suspects without figures: any of the stores may be wrong that were compared."""
    by_feed = frozenset(key for found in findings.stretches.values() for key in found)
    days = by_feed if only_stretches else by_feed | findings.view_days
    for key in _newest(days):
        is_view_suspect = not only_stretches and key in findings.view_days
        # The copy is under suspicion where the feed says so; the view is mended first otherwise.
        yield DayDifference(*key, None, None, None, key in by_feed, is_view_suspect)


def _newest(days: Collection[SiteDay]) -> list[SiteDay]:
    return sorted(days, key=lambda key: (key[1], key[0]), reverse=True)[:MAX_DAYS]


def _badness(one: DayDifference) -> tuple[int, date]:
    """By how much the stores are apart, then how new the day is."""
    users = one.ledger.users if one.ledger else 0
    events = abs(one.ledger.events - one.copy.events) if one.ledger and one.copy else 0
    in_copy = abs(users - one.copy.users) if one.copy else 0
    in_view = abs(users - one.view) if one.view is not None else 0
    return max(events, in_copy, in_view), one.day


def _sentence(one: DayDifference) -> str:
    def told(value: int | None) -> str:
        return "unknown" if value is None else str(value)

    ledger = one.ledger.users if one.ledger else None
    copy = one.copy.users if one.copy else None
    figures = f"ledger {told(ledger)}, copy {told(copy)}, view {told(one.view)}"
    return f"{one.site_id} {one.day}: users {figures}"
