"""What an import file gives: rows to take in, rows that cannot be read, rows of other sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

# An event may have 32 KiB; a row far beyond that is damage, and is not held in memory to find out.
MAX_ROW_BYTES = 1024 * 1024
# What is shown of a row that cannot be read.
TEXT_CHARS = 500
# What is quoted of it inside a sentence.
QUOTED_CHARS = 80


class Format(StrEnum):
    """How an import file is written; AUTO finds it out from the content."""

    AUTO = "auto"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    ACCESS_LOG = "access-log"


class Row(msgspec.Struct, frozen=True, gc=False):
    """An event as the file has it, not validated yet.

    `number` is the line where the row begins, from 1, or in Parquet the number of the row.
    `event` has the fields of `EventInput` in snake case; fields without a value are left out.
    `event_id` is always there and a UUID, the same one whenever the file is read again; all else
    is as the file says, any JSON value.
    A msgspec struct and not a dataclass: one is made for every row.
    """

    number: int
    event: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: why, in one line, and how it begins (`TEXT_CHARS` at most)."""

    number: int
    reason: str
    text: str

    @classmethod
    def of(cls, number: int, reason: str, raw: str | bytes) -> BadRow:
        """The bad row that begins like `raw`, of which no more than the beginning is kept."""
        if isinstance(raw, str):
            raw = raw[:TEXT_CHARS].encode("utf-8", "surrogateescape")
        text = raw[: 4 * TEXT_CHARS].decode("utf-8", "replace")
        return cls(number, reason, text[:TEXT_CHARS].rstrip("\r\n"))


@dataclass(frozen=True, slots=True)
class OtherSite:
    """A row that names another site than the one imported into; it is left alone."""

    number: int
    site_id: str


Reading: TypeAlias = Row | BadRow | OtherSite

# Told how many bytes of the file have been read so far, as they lie on the disk.
FollowProgress: TypeAlias = Callable[[int], None]


class ImportFileError(Exception):
    """The file as a whole cannot be read, or not any further. One line for people."""


class RowProblem(Exception):
    """Why the row at hand cannot be read; readers turn it into a `BadRow`."""


def quoted(text: str) -> str:
    """The text in quotes for a message of one line: shortened, nothing unprintable."""
    shown = text if len(text) <= QUOTED_CHARS else f"{text[:QUOTED_CHARS]}..."
    return repr(shown)
