"""Slices of the ledger: a file of events comes into the copy together with its watermark."""

from __future__ import annotations

import os
from pathlib import Path

from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.copy_file import microseconds, read_watermark
from data.duckdb.statements import fetch, statement
from data.event_store import StoreUnavailable
from data.queries import Watermark


def apply_slice(cursor: Cursor, rows: Path, expected: int, watermark: Watermark) -> None:
    """Add the events of a CSV file and move the watermark, in the cursor's transaction.

    Raises `StoreUnavailable` where the file does not hold `expected` rows, or where the copy is
    at the watermark or behind it already; the transaction must then be rolled back.
    """
    present = read_watermark(cursor)
    if present is not None and watermark.position <= present.position:
        raise StoreUnavailable(
            f"the slice ends at position {watermark.position},"
            f" but the copy holds everything up to {present.position}"
        )
    require_complete_lines(rows)
    [(added,)] = fetch(cursor, statement("insert_slice"), {"rows": str(rows.resolve())})
    if added != expected:
        raise StoreUnavailable(f"the slice has {added} rows, {expected} were expected: {rows}")
    fetch(
        cursor,
        statement("move_watermark"),
        {
            "position": watermark.position,
            "batch_id": watermark.batch_id,
            "committed_at": microseconds(watermark.committed_at),
        },
    )


def require_complete_lines(rows: Path) -> None:
    """Raise `StoreUnavailable` if the file is missing or breaks off within a line.

    DuckDB would take a number that lost its last digits for a number.
    """
    try:
        with rows.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            last = file.read()
    except OSError as error:
        raise StoreUnavailable(f"the slice cannot be read: {rows}: {error.strerror}") from error
    if last != b"\n":
        raise StoreUnavailable(f"the slice breaks off within a line: {rows}")
