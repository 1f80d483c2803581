"""Parquet files as plain rows, by DuckDB: streamed, whatever the size of their row groups."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

_BATCH_ROWS = 500
_TICKS = {
    "TIMESTAMP_NS": ("epoch_ns", 1_000_000_000),
    "TIMESTAMPTZ_NS": ("epoch_ns", 1_000_000_000),
    "TIMESTAMP": ("epoch_us", 1_000_000),
    "TIMESTAMP_S": ("epoch_us", 1_000_000),
    "TIMESTAMP_MS": ("epoch_us", 1_000_000),
    "TIMESTAMP WITH TIME ZONE": ("epoch_us", 1_000_000),
    "DATE": ("epoch_us", 1_000_000),
}
# An infinite instant has no ticks; this many are beyond every calendar, and are noticed.
_BEYOND = 2**63 - 1

# Inside of a type's text: names of fields in quotes, and the types to be replaced.
_ZONED = re.compile(r'"(?:[^"]|"")*"|TIMESTAMP WITH TIME ZONE|TIMESTAMPTZ_NS')
_UNZONED = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMP_NS"}


class ParquetUnreadable(Exception):
    """The file is no Parquet, is damaged, or is cut off. One line."""


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """A column; `ticks_per_second` is set where its values are instants."""

    name: str
    type_name: str

    @property
    def ticks_per_second(self) -> int | None:
        """What one second is in the values of this column, else None."""
        return _TICKS[self.type_name][1] if self.type_name in _TICKS else None


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """An open Parquet file."""

    connection: duckdb.DuckDBPyConnection
    pattern: str
    columns: tuple[ParquetColumn, ...]
    row_count: int

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in the order of the file, some hundreds at a time.

        Values are plain Python. An instant is a number of ticks since 1970 (UTC, also where the
        file names no zone); inside of structs, lists and maps it is a naive datetime in UTC.
        Raises ParquetUnreadable where the file is damaged.
        """
        select = ", ".join(_expression(column) for column in self.columns)
        with _translated_errors():
            self.connection.execute(f"select {select} from {_SOURCE}", [self.pattern])
            while batch := self.connection.fetchmany(_BATCH_ROWS):
                yield batch


@contextmanager
def open_parquet(path: Path) -> Iterator[ParquetTable]:
    """The Parquet file, open for one reading; raises ParquetUnreadable.

    DuckDB reads in this thread alone and reads no further ahead than it must: by default it
    fetches whole row groups, and there are files with all their rows in a single one. Measured:
    5 M rows with nested columns take 50 MB, in groups of 1 M; 3 M rows in a single one no more.
    """
    with _translated_errors():
        connection = duckdb.connect(config=dict(_CONFIG))
    with connection:
        # A path is not a pattern, and `day=2026-01-31` in it is not a column.
        pattern = glob.escape(str(path.absolute()))
        with _translated_errors():
            for setting in _SETTINGS:
                connection.execute(f"set {setting}")
            described = connection.execute(f"describe select * from {_SOURCE}", [pattern])
            columns = tuple(ParquetColumn(row[0], row[1]) for row in described.fetchall())
            counted = connection.execute(
                "select num_rows from parquet_file_metadata(?)", [pattern]
            ).fetchone()
        yield ParquetTable(connection, pattern, columns, counted[0] if counted else 0)


_SOURCE = "read_parquet(?, hive_partitioning = false, union_by_name = false)"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "256MB",
    # Nothing is spilled beside the file, and nothing is fetched from elsewhere.
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_SETTINGS = (
    "disable_parquet_prefetching = true",
    # Rows that wait here are lost when the file turns out to be damaged behind them.
    "streaming_buffer_size = '64kB'",
    # Its own bar would go to standard output, between the answers that programs read there.
    "enable_progress_bar = false",
    "TimeZone = 'UTC'",
)


def _expression(column: ParquetColumn) -> str:
    name = '"' + column.name.replace('"', '""') + '"'
    if column.type_name in _TICKS:
        ticks = _TICKS[column.type_name][0]
        return f"coalesce({ticks}({name}), case when {name} is not null then {_BEYOND} end)"
    # The driver needs one more package for zones; all instants are UTC here anyway.
    unzoned = _ZONED.sub(lambda match: _UNZONED.get(match[0], match[0]), column.type_name)
    return name if unzoned == column.type_name else f"cast({name} as {unzoned})"


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        first_line = str(error).partition("\n")[0]
        raise ParquetUnreadable(first_line.partition(": ")[2] or first_line) from error
