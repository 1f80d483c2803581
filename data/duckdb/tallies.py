"""Tallies of the columnar copy, to be compared with those of the ledger and of the view."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from duckdb import DuckDBPyConnection as Cursor

from data.calendar import spans_of
from data.duckdb.spans import LOCAL_DAY, SpansOfQuestion, span_table, span_values
from data.duckdb.statements import fetch, statement
from data.queries import last_arrival
from data.tallies import SiteDays, Stretch, Tallies, Tally


def tally_days(cursor: Cursor, asked: Sequence[SiteDays], position: int) -> Tallies:
    """Events and users of local days, of what the feed holds up to a position."""
    sql = statement("tally_days", spans=span_table("spans"), local_day=LOCAL_DAY)
    spans = [
        SpansOfQuestion(place, one.site_id, spans_of(days, one.zone))
        for place, one in enumerate(asked)
        for days in one.days
    ]
    values = {"last_arrival": last_arrival(position)}
    rows = fetch(cursor, sql, values | span_values("spans", spans))
    return {(asked[place].site_id, day): Tally(events, users) for place, day, events, users in rows}


def tally_stretch(cursor: Cursor, stretch: Stretch) -> Tallies:
    """Events and users of UTC days, of a stretch of the feed alone."""
    rows = fetch(
        cursor,
        statement("tally_stretch"),
        {
            "first_arrival": last_arrival(stretch.after),
            "last_arrival": last_arrival(stretch.last),
        },
    )
    return {(site_id, day): Tally(events, users) for site_id, day, events, users in rows}


def days_before(cursor: Cursor, day: date, most: int) -> list[date]:
    """The last UTC days before a day on which anything happened, newest first."""
    rows = fetch(cursor, statement("days_before"), {"before": day, "most": most})
    return [found for (found,) in rows]
