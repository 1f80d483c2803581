"""Memory: a bound that holds however long the file is."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from data.imports.files import open_rows
from data.imports.rows import Format, ImportFileError
from tests.data.imports.reading import HEADER, SITE, VISITOR_KEY

ROWS = 200_000
MIB = 1024 * 1024


def csv_lines() -> Iterator[str]:
    yield HEADER
    for n in range(ROWS):
        yield f'e{n},2026-01-31T12:00:00Z,u{n % 999},purchase,"{{""n"": {n}, ""plan"": ""pro""}}"\n'


def jsonl_lines() -> Iterator[str]:
    for n in range(ROWS):
        yield f'{{"event_id":"e{n}","event_type":"view","properties":{{"n":{n},"plan":"pro"}}}}\n'


def jsonl_lines_without_ids() -> Iterator[str]:
    for n in range(ROWS // 2):
        yield f'{{"event_type":"view","user_id":"u{n % 60_000}","properties":{{"plan":"pro"}}}}\n'


def log_lines() -> Iterator[str]:
    for n in range(ROWS // 4):
        yield (
            f"203.0.{n % 99}.9 - - [17/May/2015:10:{n // 60 % 60:02}:{n % 60:02} +0000]"
            f' "GET /page/{n} HTTP/1.1" 200 {n} "-" "Mozilla/5.0 (X11; Linux x86_64)"\n'
        )


def one_endless_line() -> Iterator[str]:
    for _ in range(50):
        yield "x" * MIB


def an_open_quote() -> Iterator[str]:
    yield HEADER
    for n in range(ROWS):
        yield f'x",,"y{n}\n'


@pytest.mark.parametrize(
    ("lines", "format", "bound"),
    [
        (csv_lines, Format.CSV, 8 * MIB),
        (jsonl_lines, Format.JSONL, 8 * MIB),
        # The filter for rows without ids has a fixed size, and so has what is counted beside it.
        (jsonl_lines_without_ids, Format.JSONL, 16 * MIB + 24 * MIB),
        (log_lines, Format.ACCESS_LOG, 16 * MIB + 8 * MIB),
        (one_endless_line, Format.JSONL, 8 * MIB),
        (one_endless_line, Format.CSV, 8 * MIB),
        (an_open_quote, Format.CSV, 16 * MIB),
    ],
)
def test_a_long_file_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, lines: Callable[[], Iterator[str]], format: Format, bound: int
) -> None:
    path = tmp_path / "file.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(lines())

    # An endless line is no CSV header, and the file is refused: in little memory, too.
    tracemalloc.start()
    with (
        suppress(ImportFileError),
        open_rows(path, format, site_id=SITE, visitor_key=VISITOR_KEY) as rows,
    ):
        for _ in rows:
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < bound, f"{peak / MIB:.1f} MiB"
