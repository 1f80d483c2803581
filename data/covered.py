"""What a question covers: the stretch of time whose events can make a difference to its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from data.calendar import FIRST_DAY, LAST_DAY, DateRange, spans_of
from data.cohort_periods import last_day_of, origin_of
from data.day_versions import DayVersions
from data.queries import (
    ActiveUsersQuery,
    CohortRule,
    EventCountsQuery,
    RetentionQuery,
    TopEventsQuery,
)

# No event ever occurs there.
_NOTHING = (datetime(9999, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))

Report = ActiveUsersQuery | TopEventsQuery | EventCountsQuery | RetentionQuery


@dataclass(frozen=True, slots=True)
class Covered:
    """UTC instants of one site from `start` up to, not including, `end`.

    None is the beginning or the end of time.
    """

    site_id: str
    start: datetime | None
    end: datetime | None

    def reaches(self, moment: datetime) -> bool:
        """Whether it goes on at this moment, so that events of now belong to it."""
        return self.end is None or self.end > moment

    def version(self, versions: DayVersions) -> int:
        """The last position of the feed that can have made a difference."""
        if self.start is not None and self.start == self.end:
            return 0
        return versions.of(self.site_id, self.start, self.end)


def covered(query: Report) -> Covered:
    """What a question covers.

    A report counts on the days of its range alone, also where a week or month sticks out of it;
    rolling ones look some days back. Retention looks on to the end of its last period, and where
    somebody's first event ever decides, back to the beginning.
    """
    scope = query.scope
    first, last = scope.days.start, scope.days.end
    if isinstance(query, ActiveUsersQuery) and query.rolling is not None:
        first = _days_before(first, query.rolling - 1)
    elif isinstance(query, RetentionQuery):
        first, last = min(first, origin_of(query)), max(last, last_day_of(query))
    start, end = _instants(max(first, FIRST_DAY), min(last, LAST_DAY), scope.zone)
    what = Covered(scope.site_id, start, end)
    if isinstance(query, RetentionQuery):
        if query.cohort is CohortRule.FIRST_EVER:
            what = replace(what, start=None)
        if query.unbounded:
            what = replace(what, end=None)
    return what


def _days_before(day: date, days: int) -> date:
    return max(day, FIRST_DAY + timedelta(days=days)) - timedelta(days=days)


@lru_cache(maxsize=4096)
def _instants(first: date, last: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first and the end of all instants of these local days."""
    spans = spans_of(DateRange(first, last), zone)
    if not spans:  # a day that clocks skip as a whole
        return _NOTHING
    return spans[0].start, spans[-1].end
