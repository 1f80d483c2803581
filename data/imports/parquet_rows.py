"""Rows of a Parquet file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from data.duckdb.parquet import ParquetColumn, ParquetTable, ParquetUnreadable, open_parquet
from data.imports.rows import BadRow, FollowProgress, ImportFileError, Reading, RowProblem
from data.imports.shape import RowShaper, columns_of, shape_texts

_ID = ("event_id", "UUID")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_FIELDS = frozenset({"event_id", "user_id", "visitor_id", "session_id"})

Convert = Callable[[object], object]


def read_parquet(
    path: Path, shaper: RowShaper, follow_progress: FollowProgress | None
) -> Iterator[Reading]:
    """Every row as a row or a bad row, numbered from 1; nulls are fields without a value.

    How many bytes were read is not known; the progress is the file's size by the share of rows.
    Raises ImportFileError where the file or its columns cannot be read.
    """
    size = path.stat().st_size
    number = 0
    try:
        with open_parquet(path) as table:
            columns = _converters(table)
            for batch in table.batches():
                for values in batch:
                    number += 1
                    yield _reading(number, columns, values, shaper)
                if follow_progress is not None:
                    follow_progress(size * number // max(table.row_count, number))
    except ParquetUnreadable as error:
        raise ImportFileError(
            f"the Parquet file cannot be read after row {number:,}: {error}. Get the complete file"
            " and import it again: rows that are already in are not counted twice"
        ) from None


def _reading(
    number: int,
    columns: list[tuple[str, Convert | None]],
    values: tuple[object, ...],
    shaper: RowShaper,
) -> Reading:
    event: dict[str, object] = {}
    try:
        for (name, convert), value in zip(columns, values, strict=True):
            if value is not None:
                event[name] = value if convert is None else convert(value)
        return shaper.shape(number, shape_texts(event))
    except RowProblem as problem:
        row = {name: value for (name, _), value in zip(columns, values, strict=True)}
        return BadRow.of(number, str(problem), str(row))


def _converters(table: ParquetTable) -> list[tuple[str, Convert | None]]:
    """Per column the field it is for, and what makes JSON values of its values, if they aren't."""
    names = columns_of([column.name for column in table.columns])
    return [
        (name, _converter(name, column)) for name, column in zip(names, table.columns, strict=True)
    ]


def _converter(name: str, column: ParquetColumn) -> Convert | None:
    if column.ticks_per_second is not None:
        ticks_per_microsecond = column.ticks_per_second // 1_000_000
        return lambda ticks: _instant(ticks, ticks_per_microsecond)
    if column.type_name in {"VARCHAR", "JSON", "BOOLEAN"} or (name, column.type_name) == _ID:
        return None
    if name in _TEXT_FIELDS:
        return _identifier
    return plain


def _identifier(value: object) -> object:
    """Whole numbers as text: tables with missing ids often hold the others as floats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else plain(value)


def _instant(ticks: object, ticks_per_microsecond: int) -> str:
    if not isinstance(ticks, int):
        raise TypeError(f"an instant came as {type(ticks)}")
    try:
        # Rounded down: an instant never moves to the next day.
        return (_EPOCH + timedelta(microseconds=ticks // ticks_per_microsecond)).isoformat()
    except OverflowError:
        raise RowProblem("the time is outside of the years 1 to 9999") from None


def plain(value: object) -> object:
    """The JSON value of what DuckDB gives; raises RowProblem for bytes that are not text.

    Whole numbers stay exact. Decimals with a fraction become floats, what is not a number becomes
    null, and what JSON has no type for becomes text. Times without a zone are UTC.
    """
    kind = type(value)
    if kind in _SAME:
        return value
    convert = _BY_TYPE.get(kind)
    if convert is None:
        raise RowProblem(f"a value of type {kind.__name__} is no JSON")
    return convert(value)


def _object(value: dict[object, object]) -> dict[str, object]:
    return {
        key if type(key) is str else str(plain(key)): item if type(item) in _SAME else plain(item)
        for key, item in value.items()
    }


def _array(value: Iterable[object]) -> list[object]:
    return [plain(item) for item in value]


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _decimal(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RowProblem("bytes that are not UTF-8 text") from None


_SAME = frozenset({type(None), str, int, bool})
_BY_TYPE: dict[type, Callable[[Any], object]] = {
    dict: _object,
    list: _array,
    tuple: _array,
    float: _number,
    Decimal: _decimal,
    bytes: _text,
    bytearray: _text,
    datetime: lambda value: value.replace(tzinfo=UTC).isoformat(),
    date: date.isoformat,
    time: time.isoformat,
    timedelta: str,
    UUID: str,
}
