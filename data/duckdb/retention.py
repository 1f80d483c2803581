"""Cohort retention: who started in a period, and who of them was back k periods later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duckdb import DuckDBPyConnection as Cursor

from data.calendar import spans_of
from data.cohort_periods import PERIOD_DAYS, has_calendar_months, last_day_of, origin_of
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
    RetentionQuery,
    RetentionRows,
    StringFilter,
)

# How many periods after the one that begins with `origins.day` an event lies; no event that is
# asked about lies before. Calendar months have no length.
_BY_LENGTH = f"({LOCAL_DAY} - origins.day) // $period_days::integer"
_BY_MONTH = f"datediff('month', origins.day, {LOCAL_DAY})"


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
    period = _BY_MONTH if has_calendar_months(shape) else _BY_LENGTH
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
        "period_days": PERIOD_DAYS[shape.interval],
        "origin_query": list(group),
        "origin_day": [origin_of(query) for query in group.values()],
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


def _return_spans(place: int, query: RetentionQuery) -> SpansOfQuestion:
    """Whole periods, from the first in which somebody can start to the last that is asked about.

    Without bounds: to the end of time, though nothing after that last one needs a right offset.
    """
    first, last = origin_of(query), last_day_of(query)
    if query.unbounded:
        spans = spans_since(first, last, query.scope.zone)
    else:
        spans = spans_of(clamped(first, last), query.scope.zone)
    return SpansOfQuestion(place, query.scope.site_id, spans)
