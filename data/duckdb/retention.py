"""Cohort retention: who started in a period, and who of them was back k periods later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from duckdb import DuckDBPyConnection as Cursor

from data.calendar import Interval, period_after, period_start, spans_of
from data.duckdb.filters import Condition, condition_of
from data.duckdb.spans import (
    LOCAL_DAY,
    SpansOfQuestion,
    by_shape,
    clamped,
    scope_spans,
    span_table,
    span_values,
    spans_since,
)
from data.duckdb.statements import Row, fetch, statement
from data.queries import (
    CohortRule,
    EventFilter,
    Field,
    PeriodRule,
    RetentionQuery,
    RetentionRows,
    StringFilter,
)

# How many periods after the one that begins with `origins.day` an event lies; no event that is
# asked about lies before. Calendar months have no length.
_BY_LENGTH = f"({LOCAL_DAY} - origins.day) // $period_days::integer"
_BY_MONTH = f"datediff('month', origins.day, {LOCAL_DAY})"
_DAYS = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 30}


def retention(cursor: Cursor, queries: Sequence[RetentionQuery]) -> list[RetentionRows]:
    """The answer to each query, in the order asked."""
    answers = [RetentionRows({}, {}) for _ in queries]
    for group in by_shape(queries):
        for place, period, k, users in _rows(cursor, group):
            if k is None:
                answers[place].sizes[period] = users
            else:
                answers[place].returned[period, k] = users
    return answers


def _rows(cursor: Cursor, group: Mapping[int, RetentionQuery]) -> list[Row]:
    shape = next(iter(group.values()))
    starting = _matching(shape.scope.filter, shape.start_events, "starting")
    returning = _matching(shape.scope.filter, shape.return_events, "returning")
    period = _BY_MONTH if _has_calendar_months(shape) else _BY_LENGTH
    starts = "starts_first_ever" if shape.cohort is CohortRule.FIRST_EVER else "starts_recurring"
    sql = statement(
        "retention_unbounded" if shape.unbounded else "retention",
        range_spans=span_table("range_spans"),
        return_spans=span_table("return_spans"),
        origins=statement("origins"),
        starts=statement(starts, period=period, filter=starting.sql),
        period=period,
        returning=returning.sql,
    )
    in_range = [scope_spans(place, query.scope) for place, query in group.items()]
    returns = [_return_spans(place, query) for place, query in group.items()]
    values = {
        "periods": shape.periods,
        "period_days": _DAYS[shape.interval],
        "origin_query": list(group),
        "origin_day": [_origin(query) for query in group.values()],
        **starting.values,
        **returning.values,
        **span_values("range_spans", in_range),
        **span_values("return_spans", returns),
    }
    return fetch(cursor, sql, values)


def _matching(
    event_filter: EventFilter, event_types: tuple[str, ...] | None, prefix: str
) -> Condition:
    if event_types is not None:
        of_types = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(in_=event_types)),))
        event_filter = EventFilter(all_of=(event_filter, of_types))
    return condition_of(event_filter, prefix)


def _has_calendar_months(query: RetentionQuery) -> bool:
    return query.interval is Interval.MONTH and query.period_rule is PeriodRule.CALENDAR


def _origin(query: RetentionQuery) -> date:
    """The first day of period 0, the one that the range begins in or with."""
    if query.period_rule is PeriodRule.RANGE_START:
        return query.scope.days.start
    return period_start(query.scope.days.start, query.interval, query.week_start)


def _return_spans(place: int, query: RetentionQuery) -> SpansOfQuestion:
    """Whole periods, from the first in which somebody can start to the last that is asked about.

    Without bounds: to the end of time, though nothing after that last one needs a right offset.
    """
    first = _origin(query)
    last = _day_before_period(query, _period_of(query, query.scope.days.end) + query.periods + 1)
    if query.unbounded:
        spans = spans_since(first, last, query.scope.zone)
    else:
        spans = spans_of(clamped(first, last), query.scope.zone)
    return SpansOfQuestion(place, query.scope.site_id, spans)


def _period_of(query: RetentionQuery, day: date) -> int:
    origin = _origin(query)
    if _has_calendar_months(query):
        return (day.year - origin.year) * 12 + day.month - origin.month
    return (day - origin).days // _DAYS[query.interval]


def _day_before_period(query: RetentionQuery, number: int) -> date:
    origin = _origin(query)
    try:
        if _has_calendar_months(query):
            return period_after(origin, Interval.MONTH, number) - timedelta(days=1)
        return origin + timedelta(days=number * _DAYS[query.interval] - 1)
    except (OverflowError, ValueError):
        return date.max
