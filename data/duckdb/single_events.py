"""Single events, newest first."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from duckdb import DuckDBPyConnection as Cursor

from data.calendar import spans_of
from data.duckdb.filters import Condition, condition_of
from data.duckdb.spans import clamped, naive
from data.duckdb.statements import Row, fetch, statement
from data.events import StoredEvent
from data.queries import EventRows, EventsQuery

_EVERYTHING = Condition("true", {})


def events(cursor: Cursor, query: EventsQuery) -> EventRows:
    """The events of one page.

    A statement per query: the first rows in order come from few row groups, and a join that
    answers several queries would have to sort them all.
    """
    conditions = {
        "days": _days(query),
        "actor": _actor(query),
        "after": _after(query),
        "filter": condition_of(query.filter),
    }
    values: dict[str, object] = {"site_id": query.site_id, "first": query.first}
    for condition in conditions.values():
        values |= condition.values
    parts = {name: condition.sql for name, condition in conditions.items()}
    sql = statement("events", columns=event_columns(), **parts)
    return tuple(event_of(row) for row in fetch(cursor, sql, values))


def _days(query: EventsQuery) -> Condition:
    """The instants of the days: one stretch, or several where clocks go back across midnight."""
    if query.days is None:
        return _EVERYTHING
    stretches: list[list[datetime]] = []
    for span in spans_of(clamped(query.days.start, query.days.end), query.zone):
        if stretches and stretches[-1][1] == naive(span.start):
            stretches[-1][1] = naive(span.end)
        else:
            stretches.append([naive(span.start), naive(span.end)])
    values: dict[str, object] = {}
    alternatives = []
    for number, (start, end) in enumerate(stretches):
        values |= {f"days_{number}_start": start, f"days_{number}_end": end}
        alternatives.append(
            f"(events.occurred_at >= $days_{number}_start"
            f" and events.occurred_at < $days_{number}_end)"
        )
    return Condition(f"({' or '.join(alternatives) or 'false'})", values)


def _actor(query: EventsQuery) -> Condition:
    if query.actor is None:
        return _EVERYTHING
    return Condition("events.actor = $actor", {"actor": query.actor})


def _after(query: EventsQuery) -> Condition:
    if query.after is None:
        return _EVERYTHING
    return Condition(
        "events.occurred_at <= $after_occurred_at"
        " and (events.occurred_at < $after_occurred_at or events.arrival < $after_arrival)",
        {
            "after_occurred_at": naive(query.after.occurred_at),
            "after_arrival": query.after.arrival,
        },
    )


def event_columns() -> str:
    """The columns that `event_of` reads, for statements to select."""
    return statement("event_columns")


def event_of(row: Row) -> StoredEvent:
    """The event of a row with the columns of `event_columns`."""
    event_id, site_id, event_type, occurred_at, received_at, *texts, properties, arrival = row
    user_id, visitor_id, session_id, url, path, referrer = texts
    return StoredEvent(
        event_id=event_id,
        site_id=site_id,
        event_type=event_type,
        occurred_at=occurred_at.replace(tzinfo=UTC),
        received_at=received_at.replace(tzinfo=UTC),
        user_id=user_id,
        visitor_id=visitor_id,
        session_id=session_id,
        url=url,
        path=path,
        referrer=referrer,
        properties=None if properties is None else msgspec.json.decode(properties),
        arrival=arrival,
    )
