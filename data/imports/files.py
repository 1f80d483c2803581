"""Import files: opened, their format found out, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.imports.access_log_line import parse_line
from data.imports.access_log_rows import AccessLogReader
from data.imports.blocks import ImportFile, open_import_file
from data.imports.csv_records import delimiter_of
from data.imports.csv_rows import read_csv
from data.imports.jsonl_rows import read_jsonl
from data.imports.parquet_rows import read_parquet
from data.imports.rows import FollowProgress, Format, ImportFileError, Reading, RowProblem
from data.imports.shape import RowShaper

_PARQUET_MAGIC = b"PAR1"
# A log may begin with a broken line.
_LOG_LINES_TRIED = 10
_CHOICES = ", ".join(each for each in Format if each is not Format.AUTO)


def total_bytes(path: Path) -> int:
    """The size of the file as it lies on the disk; raises ImportFileError."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def open_rows(
    path: Path,
    format: Format,
    *,
    site_id: str,
    visitor_key: bytes,
    follow_progress: FollowProgress | None = None,
) -> Iterator[Iterator[Reading]]:
    """The rows of an import file for a site, in the order of the file, in bounded memory.

    `visitor_key` is the service's lasting secret for visitors of access logs (see
    `AccessLogReader`). Raises ImportFileError when the file cannot be opened or its format is not
    known; the rows raise it where the file cannot be read any further, after giving all that
    come before. One bad row is a value and never an error.
    """
    shaper = RowShaper(site_id)
    with open_import_file(path, follow_progress) as file:
        match detected_format(file) if format is Format.AUTO else format:
            case Format.CSV:
                yield read_csv(file, shaper)
            case Format.JSONL:
                yield read_jsonl(file, shaper)
            case Format.ACCESS_LOG:
                yield AccessLogReader(site_id, visitor_key, shaper).read(file)
            case _:
                if file.is_gzip:
                    raise ImportFileError(
                        "Parquet inside of gzip cannot be read in parts; unpack the file first"
                    )
                yield read_parquet(path, shaper, follow_progress)


def detected_format(file: ImportFile) -> Format:
    """The format that the beginning of the file shows; raises ImportFileError when none is."""
    head = file.head
    if head.startswith(_PARQUET_MAGIC):
        return Format.PARQUET
    lines = [line for line in head.splitlines(keepends=True) if line.strip()]
    if not lines:
        raise ImportFileError("the file is empty")
    first = lines[0].lstrip()
    if first.startswith(b"{"):
        return Format.JSONL
    if any(_is_log_line(line) for line in lines[:_LOG_LINES_TRIED]):
        return Format.ACCESS_LOG
    if _is_csv_header(first):
        return Format.CSV
    if first.startswith(b"["):
        raise ImportFileError(
            "the file begins with a JSON array; write one event a line instead (JSON lines)"
        )
    raise ImportFileError(
        "the format of the file is not plain from its beginning; name it with --format, one of"
        f" {_CHOICES} (a CSV file begins with its column names, event_type among them)"
    )


def _is_log_line(line: bytes) -> bool:
    try:
        parse_line(line.decode("utf-8", "backslashreplace"))
    except RowProblem:
        return False
    return True


def _is_csv_header(line: bytes) -> bool:
    text = line.decode("utf-8", "replace")
    try:
        cells = next(csv.reader([text], delimiter=delimiter_of(line)))
    except csv.Error:
        return False
    return any(cell.strip() in {"event_type", "eventType"} for cell in cells)
