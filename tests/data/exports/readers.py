"""Files of an export, read back by programs that know nothing of us: rows of plain values."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from data.events import Event
from data.exports.layout import FIELDS, Compression, FileFormat, Layout

Values = dict[str, Any]

_MISSING_AND_EMPTY = {"user_id", "visitor_id", "session_id", "url", "path", "referrer"}


def expected(event: Event, fields: tuple[str, ...] = FIELDS) -> Values:
    """The event as every reader must give it: texts, aware times, JSON text, None if missing."""
    values = {name: getattr(event, name) for name in fields}
    return values | {"event_id": str(event.event_id)}


def content(path: Path) -> bytes:
    """The bytes of a file without their compression, by other programs than the one that wrote it."""
    if path.suffix == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            unpacked: bytes = stream.read()
            return unpacked
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def by_python(path: Path, layout: Layout) -> list[Values]:
    """By `json` or `csv`; what is missing in CSV comes as an empty text from it."""
    if layout.format is FileFormat.PARQUET:
        return by_pyarrow(path, layout)
    text = content(path).decode()
    match layout.format:
        case FileFormat.JSON:
            return [_of_json(one) for one in json.loads(text)["events"]]
        case FileFormat.JSONL:
            assert text.endswith("\n")
            return [_of_json(json.loads(line)) for line in text[:-1].split("\n")]
        case _:
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            return [_of_texts(one) for one in reader]


def by_duckdb(path: Path, layout: Layout) -> list[Values]:
    """By DuckDB in a process that has nothing to do with the copy."""
    with duckdb.connect(config={"threads": 1}) as connection:
        names = ", ".join(f"{name}: 'varchar'" for name in layout.fields)
        source = {
            FileFormat.PARQUET: "read_parquet($path)",
            FileFormat.CSV: f"read_csv($path, header = true, columns = {{{names}}},"
            " auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '',"
            " allow_quoted_nulls = false, strict_mode = true, parallel = false)",
            FileFormat.JSONL: f"read_json($path, format = 'newline_delimited',"
            f" columns = {{{names}}})",
            FileFormat.JSON: "(select unnest(events, max_depth := 2) from read_json($path,"
            " format = 'auto', maximum_object_size = 100000000,"
            f" columns = {{events: 'struct({_struct(layout.fields)})[]'}}))",
        }[layout.format]
        texts = ", ".join(f"{name}::varchar as {name}" for name in layout.fields)
        rows = connection.execute(f"select {texts} from {source}", {"path": str(path)}).fetchall()
    return [_of_texts(dict(zip(layout.fields, row, strict=True))) for row in rows]


def by_pyarrow(path: Path, layout: Layout) -> list[Values]:
    """By pyarrow; Parquet and CSV only."""
    if layout.format is FileFormat.PARQUET:
        table = pa.parquet.read_table(path)
        return [dict(row) for row in table.to_pylist()]
    table = pa.csv.read_csv(
        io.BytesIO(content(path)),
        read_options=pa.csv.ReadOptions(block_size=1 << 28),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(layout.fields, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    return [_of_texts(row) for row in table.to_pylist()]


READERS = {
    FileFormat.JSON: (by_python, by_duckdb),
    FileFormat.JSONL: (by_python, by_duckdb),
    FileFormat.CSV: (by_python, by_duckdb, by_pyarrow),
    FileFormat.PARQUET: (by_duckdb, by_pyarrow),
}
LAYOUTS = [Layout(each, compression) for each in FileFormat for compression in Compression]


def as_read(rows: list[Values], reader: object, layout: Layout) -> list[Values]:
    """What a reader can give of such rows at best."""
    if layout.format in (FileFormat.JSON, FileFormat.JSONL):
        return [_with_value(row) for row in rows]
    if reader is by_python and layout.format is FileFormat.CSV:
        return [
            {name: "" if value is None else value for name, value in row.items()} for row in rows
        ]
    return rows


def read_by(reader: Any, path: Path, layout: Layout) -> list[Values]:
    """The rows of a file, with properties as values where the format has them as such."""
    rows: list[Values] = reader(path, layout)
    is_json = layout.format in (FileFormat.JSON, FileFormat.JSONL)
    return [_with_value(row) for row in rows] if is_json else rows


def _with_value(row: Values) -> Values:
    found = row.get("properties")
    return row | {"properties": json.loads(found)} if isinstance(found, str) else row


def _of_json(one: Values) -> Values:
    return _with_instants(one)


def _of_texts(one: Values) -> Values:
    return _with_instants(one)


def _with_instants(one: Values) -> Values:
    found = dict(one)
    for name in ("occurred_at", "received_at"):
        if found.get(name):
            found[name] = _instant(found[name])
    return found


def _instant(text: str) -> datetime:
    # DuckDB writes its own timestamps with a blank and an offset of two digits.
    return datetime.fromisoformat(text.replace("+00", "+00:00").replace(" ", "T")).astimezone(UTC)


def _struct(fields: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {'json' if name == 'properties' else 'varchar'}" for name in fields)
