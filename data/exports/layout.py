"""What an export takes, and how its files are written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from data.queries import EVERYTHING, EventFilter, last_arrival

# Goes up when a field is added, renamed or written otherwise; it stands in every manifest and in the
# metadata of Parquet files.
SCHEMA_VERSION = 1

MEBIBYTE = 1024 * 1024
MIN_FILE_BYTES = 1 * MEBIBYTE
MAX_FILE_BYTES = 4 * 1024 * MEBIBYTE
USUAL_FILE_BYTES = 256 * MEBIBYTE

# In the order of the files, by the names that `footfall import` takes.
FIELDS = (
    "event_id",
    "site_id",
    "event_type",
    "occurred_at",
    "received_at",
    "user_id",
    "visitor_id",
    "session_id",
    "url",
    "path",
    "referrer",
    "properties",
)


class FileFormat(StrEnum):
    """How a file of an export is written."""

    JSON = "JSON"
    JSONL = "JSONL"
    CSV = "CSV"
    PARQUET = "PARQUET"


class Compression(StrEnum):
    """How a file is compressed: as a whole or, in Parquet, page by page by its own codecs."""

    NONE = "NONE"
    GZIP = "GZIP"
    ZSTD = "ZSTD"


_PACKED_SUFFIX = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}
_CONTENT_TYPES = {
    FileFormat.JSON: "application/json",
    FileFormat.JSONL: "application/x-ndjson",
    FileFormat.CSV: "text/csv; charset=utf-8; header=present",
    FileFormat.PARQUET: "application/vnd.apache.parquet",
}
_PACKED_TYPES = {Compression.GZIP: "application/gzip", Compression.ZSTD: "application/zstd"}


class LayoutInvalid(ValueError):
    """Files cannot be written like this; the message says why, in a line."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files of a run are written; raises `LayoutInvalid`.

    `fields` are a choice of `FIELDS`. `event_id` is always among them, as nothing could be proved
    without it, and their order is that of `FIELDS`, whatever order they are given in.
    """

    format: FileFormat = FileFormat.PARQUET
    compression: Compression = Compression.ZSTD
    fields: tuple[str, ...] = FIELDS
    max_file_bytes: int = USUAL_FILE_BYTES

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", chosen_fields(self.fields))
        if not MIN_FILE_BYTES <= self.max_file_bytes <= MAX_FILE_BYTES:
            raise LayoutInvalid(
                f"the maximum file size is from {MIN_FILE_BYTES:,} to {MAX_FILE_BYTES:,} bytes,"
                f" not {self.max_file_bytes:,}"
            )

    @property
    def suffix(self) -> str:
        """The end of a file's name: `.jsonl.gz`; Parquet keeps its own, whatever the codec."""
        if self.format is FileFormat.PARQUET:
            return ".parquet"
        return f".{self.format.lower()}{_PACKED_SUFFIX[self.compression]}"

    @property
    def content_type(self) -> str:
        """What a file is served as.

        Compression is not told as a `Content-Encoding`: clients that undo one would read other
        bytes than those whose SHA-256 stands in the manifest.
        """
        if self.format is FileFormat.PARQUET or self.compression is Compression.NONE:
            return _CONTENT_TYPES[self.format]
        return _PACKED_TYPES[self.compression]


def chosen_fields(names: tuple[str, ...]) -> tuple[str, ...]:
    """The fields in the order of `FIELDS`, `event_id` among them; raises `LayoutInvalid`."""
    unknown = sorted(set(names) - set(FIELDS))
    if unknown:
        raise LayoutInvalid(
            f"there is no field {unknown[0]!r:.80}; the fields of an export are {', '.join(FIELDS)}"
        )
    if len(set(names)) < len(names):
        raise LayoutInvalid("a field is listed twice; list each of them once")
    return tuple(name for name in FIELDS if name in names or name == "event_id")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events a run takes: of one site, whose position in the feed is in (after, through].

    `since` and `until` (aware, UTC, half-open) are set in a backfill, and are about `occurred_at`.
    """

    site_id: str
    after: int
    through: int
    filter: EventFilter = EVERYTHING
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.after <= self.through:
            raise ValueError(f"a run cannot go from position {self.after} to {self.through}")

    @property
    def is_backfill(self) -> bool:
        """Whether the run is about a range of time, beside the runs that follow each other."""
        return self.since is not None or self.until is not None

    @property
    def arrivals(self) -> Arrivals:
        """The places in the order of arrival that belong to the positions."""
        return Arrivals(last_arrival(self.after), last_arrival(self.through))


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Places in the order of arrival: after one, up to and with another."""

    after: int
    through: int

    @property
    def width(self) -> int:
        """How many places there are, each with one event at the most."""
        return self.through - self.after
