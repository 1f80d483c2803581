"""Active users: distinct actors per period, or of the last N days as seen on each day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.filters import condition_of
from data.duckdb.spans import LOCAL_DAY, PERIOD, by_shape, scope_spans, span_table, span_values
from data.duckdb.statements import Row, fetch, statement
from data.queries import ActiveUsersQuery, ActiveUsersRows


def active_users(cursor: Cursor, queries: Sequence[ActiveUsersQuery]) -> list[ActiveUsersRows]:
    """The answer to each query, in the order asked."""
    answers: dict[int, ActiveUsersRows] = {}
    for group in by_shape(queries):
        answers |= _collected(group, _rows(cursor, group))
    return [answers[place] for place in range(len(queries))]


def _rows(cursor: Cursor, group: Mapping[int, ActiveUsersQuery]) -> list[Row]:
    shape = next(iter(group.values()))
    if shape.rolling is not None:
        return _rolling_rows(cursor, group, shape.rolling)
    condition = condition_of(shape.scope.filter)
    sql = statement(
        "active_users",
        spans=span_table("spans"),
        period=PERIOD[shape.interval],
        filter=condition.sql,
    )
    spans = [scope_spans(place, query.scope) for place, query in group.items()]
    values = {"week_start": shape.week_start.number}
    return fetch(cursor, sql, values | condition.values | span_values("spans", spans))


def _rolling_rows(cursor: Cursor, group: Mapping[int, ActiveUsersQuery], window: int) -> list[Row]:
    condition = condition_of(next(iter(group.values())).scope.filter)
    sql = statement(
        "rolling_users", spans=span_table("spans"), local_day=LOCAL_DAY, filter=condition.sql
    )
    spans = [scope_spans(place, query.scope, window - 1) for place, query in group.items()]
    values = {
        "window": window,
        "range_query": list(group),
        "range_first_day": [query.scope.days.start for query in group.values()],
        "range_last_day": [query.scope.days.end for query in group.values()],
    }
    return fetch(cursor, sql, values | condition.values | span_values("spans", spans))


def _collected(
    group: Mapping[int, ActiveUsersQuery], rows: Sequence[Row]
) -> dict[int, ActiveUsersRows]:
    users: dict[int, dict[date, int]] = {place: {} for place in group}
    totals: dict[int, int] = {}
    for place, period, count in rows:
        if period is None:
            totals[place] = count
        elif count:
            users[place][period] = count
    return {place: ActiveUsersRows(users[place], totals.get(place, 0)) for place in group}
