"""The most frequent event types."""

from __future__ import annotations

from collections.abc import Sequence

from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.filters import condition_of
from data.duckdb.spans import by_shape, scope_spans, span_table, span_values
from data.duckdb.statements import fetch, statement
from data.queries import TopEventsQuery, TopEventsRow, TopEventsRows


def top_events(cursor: Cursor, queries: Sequence[TopEventsQuery]) -> list[TopEventsRows]:
    """The answer to each query, in the order asked."""
    first: list[list[TopEventsRow]] = [[] for _ in queries]
    totals = [0] * len(queries)
    for group in by_shape(queries):
        shape = next(iter(group.values()))
        condition = condition_of(shape.scope.filter)
        sql = statement("top_events", spans=span_table("spans"), filter=condition.sql)
        spans = [scope_spans(place, query.scope) for place, query in group.items()]
        values = {"limit": shape.limit}
        rows = fetch(cursor, sql, values | condition.values | span_values("spans", spans))
        for place, event_type, events, users in rows:
            if event_type is None:
                totals[place] = events
            else:
                first[place].append(TopEventsRow(event_type, events, users))
    return [TopEventsRows(tuple(rows), total) for rows, total in zip(first, totals, strict=True)]
