"""What a fetch comes to: a set of records, nothing new, or a failure in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Validators:
    """What a later request can be made conditional with; of sources of one page only."""

    etag: str | None = None
    last_modified: str | None = None


# Of a hundred thousand of them the garbage collector would make pauses; they hold no others.
class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it came, as JSON. `content_hash` is 16 bytes of BLAKE2b over its canonical JSON.

    So it ignores the order of fields, and equal content has equal hashes in every process.
    """

    data: bytes
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Effort:
    """What a fetch cost: requests that were sent, repeats too; pages; bytes, decoded.

    `http_status` is that of the last answer; None where there was none.
    """

    tries: int = 0
    pages: int = 0
    bytes: int = 0
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records by external id, in the order in which they came.

    `is_complete` is false where `max_pages` cut the set: what is missing has not vanished then.
    """

    records: Mapping[str, FetchedRecord]
    is_complete: bool
    effort: Effort
    validators: Validators | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source said (304) that it holds what it held before."""

    effort: Effort


class FetchFailed(Exception):
    """A fetch that came to nothing; the message says why, in plain words and without secrets.

    `retry_after`: the source asked to be left alone for so many seconds.
    """

    def __init__(
        self, message: str, *, effort: Effort | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.effort = effort or Effort()
        self.retry_after = retry_after


@dataclass(slots=True)
class Progress:
    """How far a fetch has come; written by it, read by whoever shows it."""

    tries: int = 0
    pages: int = 0
    records: int = 0
    bytes: int = 0
