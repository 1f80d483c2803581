"""Day versions as the columnar copy knows them: from the events themselves.

There is no table of them that could differ from the events: arrivals only grow, so what has come
since any position is one look at the last row groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from duckdb import DuckDBPyConnection as Cursor

from data.day_versions import Touched
from data.duckdb.copy_file import read_watermark
from data.duckdb.statements import fetch, statement
from data.queries import Watermark, last_arrival


@dataclass(frozen=True, slots=True)
class News:
    """What has come into a copy since some position, and the watermark that it has now."""

    touched: list[Touched]
    watermark: Watermark | None


def touched_since(cursor: Cursor, position: int) -> News:
    """The days on which events have come in behind a position of the feed; -1 for all days."""
    values = {"after": last_arrival(position) if position >= 0 else -1}
    rows = fetch(cursor, statement("touched_days"), values)
    return News([Touched(*row) for row in rows], read_watermark(cursor))
