"""What live subscriptions ask: events that have just arrived, and who is active now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.copy_file import read_watermark
from data.duckdb.filters import condition_of
from data.duckdb.single_events import event_columns, event_of
from data.duckdb.spans import naive
from data.duckdb.statements import Row, Values, fetch, statement
from data.events import StoredEvent
from data.queries import (
    ACTIVITY_WINDOW,
    TOP_PATHS,
    Activity,
    ActivityChanges,
    KnownActivity,
    NewEvents,
    NewEventsQuery,
    last_arrival,
)

# The whole second in which an event occurred, named by its end: 12:00:00.000001 to 12:00:01 is
# 12:00:01.
_SECOND = "(epoch_us(events.occurred_at) + 999999) // 1000000"

# A row of several millions of them becomes Python objects in pieces, between which other threads
# have their turn.
_ROWS_AT_ONCE = 2_000


def new_events(cursor: Cursor, queries: Sequence[NewEventsQuery], most: int) -> NewEvents:
    """What has arrived behind each question's place, `most` different events at most."""
    watermark = read_watermark(cursor)
    through = last_arrival(watermark.position) if watermark else -1
    flags = []
    values: dict[str, object] = {"after": min(query.after for query in queries), "most": most}
    for number, query in enumerate(queries):
        condition = condition_of(query.filter, f"filter_{number}")
        values |= condition.values
        values |= {f"site_{number}": query.site_id, f"after_{number}": query.after}
        flags.append(
            f"events.site_id = $site_{number} and events.arrival > $after_{number}"
            f" and {condition.sql} as answers_{number}"
        )
    any_of = " or ".join(f"answers_{number}" for number in range(len(queries)))
    slots = {"columns": event_columns(), "flags": ",\n        ".join(flags), "any": any_of}
    sql = statement("new_events", **slots)
    rows = fetch(cursor, sql, values)
    found: list[list[StoredEvent]] = [[] for _ in queries]
    for row in rows:
        event = event_of(row[: -len(queries)])
        for place, passes in enumerate(row[-len(queries) :]):
            if passes:
                found[place].append(event)
    is_all = len(rows) < most
    if not is_all:
        through = rows[-1][-len(queries) - 1]
    return NewEvents([tuple(events) for events in found], through, is_all)


def activity(cursor: Cursor, at: datetime, site_ids: Sequence[str]) -> list[Activity]:
    """Actors, events and paths of the minutes up to `at`, counted from the events themselves."""
    values = {**_stretch(at), "site_ids": list(site_ids), "most_paths": TOP_PATHS}
    totals = dict.fromkeys(site_ids, (0, 0))
    paths: dict[str, list[str]] = {site_id: [] for site_id in site_ids}
    for site_id, rank, path, events, users in fetch(cursor, statement("activity"), values):
        if rank is None:
            totals[site_id] = (users, events)
        else:
            paths[site_id].append(path)
    return [Activity(at, *totals[site_id], tuple(paths[site_id])) for site_id in site_ids]


def activity_changes(
    cursor: Cursor, at: datetime, known: Sequence[KnownActivity]
) -> list[ActivityChanges]:
    """What the minutes up to `at` hold beyond what is known of each site."""
    values = _stretch(at) | _known_values(known)
    slots = {"known": statement("known_activity"), "second": _SECOND}
    actors: list[list[tuple[str, int]]] = [[] for _ in known]
    for place, actor, second in _each(cursor, statement("activity_actors", **slots), values):
        actors[place].append((actor, second))
    paths: list[list[tuple[int, str | None, int]]] = [[] for _ in known]
    for place, second, path, events in _each(cursor, statement("activity_paths", **slots), values):
        paths[place].append((second, path, events))
    return list(map(ActivityChanges, actors, paths))


def _stretch(at: datetime) -> dict[str, object]:
    return {"since": naive(at - ACTIVITY_WINDOW), "at": naive(at)}


def _known_values(known: Sequence[KnownActivity]) -> dict[str, object]:
    moments = [naive(datetime.fromtimestamp(one.at, UTC)) for one in known]
    arrivals = [one.arrival for one in known]
    return {
        "known_query": list(range(len(known))),
        "known_site_id": [one.site_id for one in known],
        "known_arrival": arrivals,
        "known_at": moments,
        # Before the join, so that nearly all events are left out there.
        "least_arrival": min(arrivals, default=0),
        "least_at": min(moments, default=datetime.min),  # noqa: DTZ901 - as the copy stores times
    }


def _each(cursor: Cursor, sql: str, values: Values) -> Iterator[Row]:
    cursor.execute(sql, dict(values))
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from rows
