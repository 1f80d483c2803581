"""An answer as records: as JSON, as NDJSON, as CSV."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import jmespath

from data.sources.extraction import NotAsExpected, RecordReader, parsed
from data.sources.source import Format, Source

DELIMITERS = (",", ";", "\t")

_NDJSON = {"application/jsonl", "application/jsonlines", "application/x-jsonlines"} | {
    "application/ndjson",
    "application/x-ndjson",
    "text/x-ndjson",
}
_CSV = {"text/csv", "application/csv", "text/tab-separated-values"}
_HTML = {"text/html", "application/xhtml+xml"}
_BY_ENDING = {
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
}
# Those in which data is still found, and which are the same in every version of Python.
_CHARSETS = {"iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "utf-16le", "utf-16be"}
_MOST_COLUMNS = 10_000
_LINE = re.compile(rb"[^\n]+")


@dataclass(frozen=True, slots=True)
class Page:
    """The body of an answer, and what was said about it."""

    url: str
    content_type: str
    body: bytearray


def read_page(source: Source, page: Page, reader: RecordReader) -> bytearray | None:
    """Add the records of a page to those in `reader`; its JSON, where it is that.

    Raises `NotAsExpected`.
    """
    body = as_utf8(page)
    kind = format_of(source, page)
    if kind is Format.JSON:
        if source.records_query is not None:
            reader.take_found(body, jmespath.compile(source.records_query))
        else:
            reader.take_list(body, source.records_at or "")
        return body
    if source.records_at is not None or source.records_query is not None:
        raise NotAsExpected(f"the answer is {kind}; recordsAt and recordsQuery are for JSON")
    if kind is Format.NDJSON:
        _read_lines(body, reader)
    else:
        _read_csv(body, reader)
    return None


def format_of(source: Source, page: Page) -> Format:
    """What the answer is: as the source says, or else as the answer does."""
    if source.format is not Format.AUTO:
        return source.format
    kind = page.content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return Format.JSON
    if kind in _NDJSON:
        return Format.NDJSON
    if kind in _CSV:
        return Format.CSV
    if kind in _HTML:
        raise NotAsExpected(f"the answer is a web page ({kind}), no data")
    # Files are often served as text/plain or application/octet-stream.
    path = urlsplit(page.url).path.lower()
    for ending, found in _BY_ENDING.items():
        if path.endswith(ending):
            return found
    if re.match(rb"\s*+[\[{]", page.body):
        return Format.JSON
    raise NotAsExpected(
        f"the answer is {kind[:60] or 'of no type'}; say by the source's format what it is"
    )


def as_utf8(page: Page) -> bytearray:
    """The body in UTF-8 without a byte order mark; raises `NotAsExpected`."""
    found = re.search(r"charset\s*=\s*\"?([\w-]+)", page.content_type, re.IGNORECASE)
    charset = found[1].lower() if found else "utf-8"
    body = page.body
    if charset in _CHARSETS:
        try:
            body = bytearray(body.decode(charset), "utf-8")
        except UnicodeDecodeError:
            raise NotAsExpected(f"the answer is not {charset}, though it says so") from None
    if body.startswith(codecs.BOM_UTF8):
        del body[: len(codecs.BOM_UTF8)]
    return body


def _read_lines(body: bytearray, reader: RecordReader) -> None:
    for number, line in enumerate(_LINE.finditer(body), start=1):
        if line[0].isspace():
            continue
        try:
            content = parsed(bytes(line[0]))
        except NotAsExpected as error:
            raise NotAsExpected(f"line {number}: {error}") from None
        reader.take(content)


def _read_csv(body: bytearray, reader: RecordReader) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise NotAsExpected("the answer is not UTF-8") from None
    first = text.partition("\n")[0]
    if first.lstrip().startswith("<"):
        raise NotAsExpected("the answer is HTML or XML, not CSV")
    delimiter = max(DELIMITERS, key=first.count)
    if first.count(delimiter) >= _MOST_COLUMNS:
        raise NotAsExpected(f"the header has more than {_MOST_COLUMNS:,} columns")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in rows:
            if not cells:
                continue
            if names is None:
                names = _checked_names(cells)
            elif len(cells) != len(names):
                raise NotAsExpected(
                    f"line {rows.line_num}: {len(cells)} cells where the header has {len(names)}"
                )
            else:
                reader.take(dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise NotAsExpected(f"line {rows.line_num}: not CSV: {error}") from None
    if names is None:
        raise NotAsExpected("the answer is empty; the first line of a CSV file names the columns")


def _checked_names(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "" in names:
        raise NotAsExpected(f"column {names.index('') + 1} of the header has no name")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise NotAsExpected(f"two columns of the header are called {name[:60]!r}")
        seen.add(name)
    return names
