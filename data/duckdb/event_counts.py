"""Number of events per period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from duckdb import DuckDBPyConnection as Cursor

from data.calendar import Interval
from data.duckdb.filters import condition_of
from data.duckdb.spans import HOUR, PERIOD, by_shape, scope_spans, span_table, span_values
from data.duckdb.statements import fetch, statement
from data.queries import EventCountsQuery, EventCountsRows


def event_counts(cursor: Cursor, queries: Sequence[EventCountsQuery]) -> list[EventCountsRows]:
    """The answer to each query, in the order asked."""
    counts: list[dict[Any, int]] = [{} for _ in queries]
    for group in by_shape(queries):
        shape = next(iter(group.values()))
        condition = condition_of(shape.scope.filter)
        sql = statement(
            "event_counts",
            spans=span_table("spans"),
            period=HOUR if shape.interval is Interval.HOUR else PERIOD[shape.interval],
            filter=condition.sql,
        )
        spans = [scope_spans(place, query.scope) for place, query in group.items()]
        values = {"week_start": shape.week_start.number}
        rows = fetch(cursor, sql, values | condition.values | span_values("spans", spans))
        for place, period, count in rows:
            counts[place][_key(period)] = count
    return [EventCountsRows(of_query, sum(of_query.values())) for of_query in counts]


def _key(period: date | datetime) -> date | datetime:
    return period.replace(tzinfo=UTC) if isinstance(period, datetime) else period
