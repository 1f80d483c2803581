"""Records and audits of sources as the ledger keeps them, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FetchOutcome(StrEnum):
    """What an attempt to refresh a source came to."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    SKIPPED_BREAKER_OPEN = "SKIPPED_BREAKER_OPEN"


class ChangeKind(StrEnum):
    """What became of a record."""

    ADDED = "added"
    CHANGED = "changed"
    VANISHED = "vanished"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """The newest content of a record; `data` is its JSON text.

    `changed_at` is when the content came to be as it is, `fetched_at` when it was last seen so.
    """

    record_id: int
    source_key: str
    external_id: str
    data: str
    first_seen_at: datetime
    fetched_at: datetime
    changed_at: datetime
    vanished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecordChange:
    """Something that became of a record; `data` is the JSON text from then on, None if it vanished."""

    at: datetime
    kind: ChangeKind
    data: str | None


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """One attempt to refresh a source. `added` are new records, `changed` others with new content.

    `is_complete`: the whole set was seen, so that what was not in it has vanished.
    """

    audit_id: int
    source_key: str
    started_at: datetime
    duration_ms: int
    tries: int
    pages: int
    outcome: FetchOutcome
    http_status: int | None
    is_complete: bool
    seen: int
    added: int
    changed: int
    vanished: int
    bytes: int
    error: str | None


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A place in the order of records: by the time of the last change, then by id."""

    changed_at: datetime
    record_id: int


@dataclass(frozen=True, slots=True)
class RecordsQuery:
    """Which records are asked for, the newest change first; None leaves a condition out.

    `site_id`: of the sources of this site. `since` is in, `until` is not.
    """

    first: int
    site_id: str | None = None
    source_key: str | None = None
    external_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    include_vanished: bool = False
    after: RecordPlace | None = None


@dataclass(frozen=True, slots=True)
class AuditsQuery:
    """Which audits are asked for, the newest first; None leaves a condition out.

    `site_id`: of the sources of this site. `since` is in, `until` is not; `before` is an audit's id.
    """

    first: int
    site_id: str | None = None
    source_key: str | None = None
    outcome: FetchOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
