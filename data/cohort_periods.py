"""The periods of a retention report: where the first begins, and which day is the last looked at."""

from __future__ import annotations

from datetime import date, timedelta

from data.calendar import Interval, period_after, period_start
from data.queries import PeriodRule, RetentionQuery

# Calendar months have no length; months that are counted from the start of the range do.
PERIOD_DAYS = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 30}


def has_calendar_months(query: RetentionQuery) -> bool:
    """Whether periods are months of the calendar, with 28 to 31 days."""
    return query.interval is Interval.MONTH and query.period_rule is PeriodRule.CALENDAR


def origin_of(query: RetentionQuery) -> date:
    """The first day of period 0, the one that the range begins in or with."""
    if query.period_rule is PeriodRule.RANGE_START:
        return query.scope.days.start
    return period_start(query.scope.days.start, query.interval, query.week_start)


def last_day_of(query: RetentionQuery) -> date:
    """The last day of the last period in which somebody of the last cohort can be back."""
    return _day_before_period(query, _period_of(query, query.scope.days.end) + query.periods + 1)


def _period_of(query: RetentionQuery, day: date) -> int:
    origin = origin_of(query)
    if has_calendar_months(query):
        return (day.year - origin.year) * 12 + day.month - origin.month
    return (day - origin).days // PERIOD_DAYS[query.interval]


def _day_before_period(query: RetentionQuery, number: int) -> date:
    origin = origin_of(query)
    try:
        if has_calendar_months(query):
            return period_after(origin, Interval.MONTH, number) - timedelta(days=1)
        return origin + timedelta(days=number * PERIOD_DAYS[query.interval] - 1)
    except (OverflowError, ValueError):
        return date.max
