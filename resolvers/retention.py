"""Retention: of the users who started in a period, how many came back k periods later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from data.calendar import (
    DAY,
    LAST_DAY,
    DateRange,
    Interval,
    end_of_day,
    period_after,
    periods_of,
)
from data.queries import CohortRule, PeriodRule, RetentionQuery
from resolvers.cached import RETENTION, cached
from resolvers.context import Context
from resolvers.errors import BadUserInput
from resolvers.reports import Asked, Meta, meta_of_kept, prepare

MAX_PERIODS = 1_100
MAX_CELLS = 100_000
MAX_EVENT_TYPES = 100
_RANGE_START_DAYS = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 30}


@dataclass(frozen=True, slots=True)
class RetentionAsked:
    """The arguments of a retention report besides the common ones."""

    interval: Interval = Interval.WEEK
    periods: int = 8
    cohort: CohortRule = CohortRule.FIRST_EVER
    period_rule: PeriodRule = PeriodRule.CALENDAR
    unbounded: bool = False
    start_events: tuple[str, ...] | None = None
    return_events: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RetentionPeriod:
    """How many of a cohort were back in one period; `rate` is a share of the cohort."""

    period: int
    start: date
    users: int
    rate: float
    complete: bool


@dataclass(frozen=True, slots=True)
class RetentionCohort:
    """Users who started in the period that begins on `start`."""

    start: date
    size: int
    periods: list[RetentionPeriod]


@dataclass(frozen=True, slots=True)
class Retention:
    """All cohorts of the range in order, empty ones too."""

    interval: Interval
    cohorts: list[RetentionCohort]
    meta: Meta


async def retention(ctx: Context, asked: Asked, how: RetentionAsked) -> Retention:
    """Cohorts of the range with their periods 0 to `periods`, also those after the range."""
    site, scope = await prepare(ctx, asked)
    query = RetentionQuery(
        scope=scope,
        interval=how.interval,
        week_start=site.week_start,
        periods=how.periods,
        cohort=how.cohort,
        period_rule=how.period_rule,
        unbounded=how.unbounded,
        start_events=how.start_events,
        return_events=how.return_events,
    )
    _require_answerable(query)
    starts = period_starts(query)
    answer = await cached(ctx, RETENTION, query)
    rows, meta = answer.rows, meta_of_kept(answer, scope.zone)
    # Whether a period has ended is asked once per period, not once per cohort and period.
    ended = [end_of_day(end - DAY, scope.zone) <= meta.data_through for end in starts[1:]]
    cohorts = []
    for index in range(len(starts) - 1 - how.periods):
        size = rows.sizes.get(index, 0)
        periods = []
        for k in range(how.periods + 1):
            users = rows.returned.get((index, k), 0)
            rate = users / size if size else 0.0
            at = index + k
            periods.append(RetentionPeriod(k, starts[at], users, rate, ended[at]))
        cohorts.append(RetentionCohort(starts[index], size, periods))
    return Retention(how.interval, cohorts, meta)


def _require_answerable(query: RetentionQuery) -> None:
    if query.interval is Interval.HOUR:
        raise BadUserInput("interval", "retention is counted by DAY, WEEK or MONTH")
    if not 0 <= query.periods <= MAX_PERIODS:
        raise BadUserInput("periods", f"periods takes 0 to {MAX_PERIODS}")
    cohorts = len(_cohort_starts(query))
    cells = cohorts * (query.periods + 1)
    if cells > MAX_CELLS:
        raise BadUserInput(
            "periods",
            f"{cohorts} cohorts with {query.periods + 1} periods each are more than {MAX_CELLS} "
            "numbers; ask for a shorter range or fewer periods",
        )
    for name, types in (("startEvents", query.start_events), ("returnEvents", query.return_events)):
        if types is not None and len(types) > MAX_EVENT_TYPES:
            raise BadUserInput(f"options.{name}", f"takes {MAX_EVENT_TYPES} event types at most")
    if (LAST_DAY - query.scope.days.end).days < 31 * (query.periods + 2):
        raise BadUserInput("periods", "the last period lies beyond the end of the calendar")


def _cohort_starts(query: RetentionQuery) -> list[date]:
    days: DateRange = query.scope.days
    if query.period_rule is PeriodRule.CALENDAR:
        return periods_of(days, query.interval, query.week_start)
    step = timedelta(days=_RANGE_START_DAYS[query.interval])
    count = -(-days.days // step.days)
    return [days.start + step * index for index in range(count)]


def period_starts(query: RetentionQuery) -> list[date]:
    """First days of all periods of a report, those after the range too, and the end of the last."""
    starts = _cohort_starts(query)
    step = timedelta(days=_RANGE_START_DAYS[query.interval])
    for _ in range(query.periods + 1):
        last = starts[-1]
        if query.period_rule is PeriodRule.CALENDAR:
            starts.append(period_after(last, query.interval))
        else:
            starts.append(last + step)
    return starts
