"""Short ways to write an import file and to read it whole."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from data.imports.files import open_rows
from data.imports.rows import BadRow, Format, Reading, Row

SITE = "shop"
VISITOR_KEY = b"a secret of this service, for tests"
HEADER = "event_id,occurred_at,user_id,event_type,properties_json\n"


def read(
    path: Path,
    format: Format = Format.AUTO,
    *,
    site_id: str = SITE,
    visitor_key: bytes = VISITOR_KEY,
) -> list[Reading]:
    """Everything in the file, in order."""
    with open_rows(path, format, site_id=site_id, visitor_key=visitor_key) as rows:
        return list(rows)


def read_text(
    folder: Path, text: str | bytes, format: Format = Format.AUTO, *, site_id: str = SITE
) -> list[Reading]:
    """Everything in a file with this content."""
    path = folder / "import-file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, format, site_id=site_id)


def rows_of(readings: Iterable[Reading]) -> list[Row]:
    """The rows alone."""
    return [reading for reading in readings if isinstance(reading, Row)]


def bad_rows_of(readings: Iterable[Reading]) -> list[BadRow]:
    """The bad rows alone."""
    return [reading for reading in readings if isinstance(reading, BadRow)]


def events_of(readings: Iterable[Reading]) -> list[dict[str, object]]:
    """The events without the ids, which tests of other things need not know."""
    return [
        {name: value for name, value in row.event.items() if name != "event_id"}
        for row in rows_of(readings)
    ]


def write_gzip(path: Path, *members: str) -> Path:
    """The file, as one gzip member after another."""
    path.write_bytes(b"".join(gzip.compress(member.encode()) for member in members))
    return path
