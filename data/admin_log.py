"""The admin log as values: what an entry says, how it is written down, how entries are chained.

An entry's hash covers everything in it, its position, and the hash of the entry before. Whoever
changes, adds or takes away an entry has to change every later hash, and the newest one is kept
outside of the ledger too (`data.admin_log_head`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256

# Stands in every text that is hashed: another way of writing entries down gets another number.
FORMAT = 1


class AdminAction(StrEnum):
    """What administrators do, and what is done in their name. The log keeps the values."""

    SITE_SAVED = "site.saved"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    DOCUMENTS_ADDED = "documents.added"
    DOCUMENTS_REMOVED = "documents.removed"
    COPY_REBUILT = "copy.rebuilt"
    CACHE_INVALIDATED = "cache.invalidated"
    DEAD_LETTERS_REPLAYED = "dead_letters.replayed"
    DEAD_LETTERS_DELETED = "dead_letters.deleted"
    SOURCE_SAVED = "source.saved"
    SOURCE_DELETED = "source.deleted"
    SOURCES_REFRESHED = "sources.refreshed"
    EXPORT_SAVED = "export.saved"
    EXPORT_CREDENTIALS = "export.credentials"
    EXPORT_DELETED = "export.deleted"
    EXPORT_PAUSED = "export.paused"
    EXPORT_RESUMED = "export.resumed"
    EXPORT_RUN = "export.run"
    EXPORT_RETRIED = "export.retried"
    EXPORT_PUBLISHED = "export.published"
    EXPORT_DEAD = "export.dead"
    EXPORT_VERIFIED = "export.verified"
    SECRET_SET = "secret.set"  # noqa: S105 - the name of an action, as the next two are
    SECRET_REMOVED = "secret.removed"  # noqa: S105
    SECRET_ROTATED = "secret.rotated"  # noqa: S105
    EVENTS_ERASED = "events.erased"
    LOGIN_FAILURES = "login.failures"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: the id of an API key, `cli` or `service`, and the name it had at that time."""

    key_id: str
    name: str


SERVICE = Actor("service", "the service itself")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done. `target` names what it was done to: a site's id, a key's id.

    `site_id` None: it concerns no single site. `details` holds JSON values, and never a secret.
    """

    at: datetime
    actor: Actor
    action: AdminAction
    target: str
    site_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry as the ledger keeps it. `details` is canonical JSON; hashes are 64 hex digits.

    `action` is a text, as a newer version of the service may have written it.
    """

    position: int
    at: datetime
    actor: Actor
    site_id: str | None
    action: str
    target: str
    details: str
    previous_hash: str
    hash: str

    @property
    def head(self) -> Head:
        """The end of the log when this was its newest entry."""
        return Head(self.position, self.hash)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: position and hash of its newest entry."""

    position: int
    hash: str


# The end of a log without entries: what the first entry follows.
NOTHING = Head(0, "0" * 64)


def follow(head: Head, entry: Entry) -> LoggedEntry:
    """The entry as the next one behind a head.

    Raises ValueError where its details are no JSON or its time has no zone.
    """
    if entry.at.tzinfo is None:
        raise ValueError("an entry's time needs a zone")
    logged = LoggedEntry(
        position=head.position + 1,
        at=entry.at.astimezone(UTC),
        actor=entry.actor,
        site_id=entry.site_id,
        action=entry.action.value,
        target=entry.target,
        details=canonical(entry.details),
        previous_hash=head.hash,
        hash="",
    )
    return replace(logged, hash=hash_of(logged))


def canonical(value: object) -> str:
    """JSON with sorted keys, no blanks, and nothing escaped that need not be.

    For texts, booleans, null and integers up to 2^53 it is what RFC 8785 prescribes, as long as
    the names of fields are ASCII.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def hashed_text(logged: LoggedEntry) -> str:
    """What an entry's hash is taken of, as UTF-8: everything that is kept of it but the hash."""
    return canonical(
        {
            "action": logged.action,
            "actorKeyId": logged.actor.key_id,
            "actorName": logged.actor.name,
            "at": logged.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            # As the text that is stored, so that nobody's way of printing JSON matters.
            "details": logged.details,
            "format": FORMAT,
            "position": logged.position,
            "previousHash": logged.previous_hash,
            "siteId": logged.site_id,
            "target": logged.target,
        }
    )


def hash_of(logged: LoggedEntry) -> str:
    """The hash that an entry should have: SHA-256 in lower hex digits."""
    return sha256(hashed_text(logged).encode()).hexdigest()


class BreakKind(StrEnum):
    """How a chain is broken."""

    MISSING = "MISSING"
    ALTERED = "ALTERED"
    UNLINKED = "UNLINKED"
    CUT_OFF = "CUT_OFF"
    REPLACED = "REPLACED"


_SENTENCES = {
    BreakKind.MISSING: "entry {position} is missing: where it belongs stands entry {found}",
    BreakKind.ALTERED: "entry {position} was altered: it has the hash {found}, and what it says "
    "gives {expected}",
    BreakKind.UNLINKED: "entry {position} does not follow the entry before it, which has the hash "
    "{expected} and not {found}: one of the two was replaced",
    BreakKind.CUT_OFF: "entry {position} with the hash {expected} was there and is not any more: "
    "the log now ends with entry {found}",
    BreakKind.REPLACED: "entry {position} was replaced: it had the hash {expected} when it was "
    "seen, and now has {found}",
}


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain is broken first; what is expected and found are hashes or positions."""

    kind: BreakKind
    position: int
    expected: str
    found: str

    def __str__(self) -> str:
        return _SENTENCES[self.kind].format(
            position=self.position, expected=self.expected, found=self.found
        )


def break_before(logged: LoggedEntry, head: Head) -> Break | None:
    """What is wrong with an entry as the next one behind a head; None if nothing is."""
    wanted = head.position + 1
    if logged.position != wanted:
        return Break(BreakKind.MISSING, wanted, str(wanted), str(logged.position))
    if (expected := hash_of(logged)) != logged.hash:
        return Break(BreakKind.ALTERED, wanted, expected, logged.hash)
    if logged.previous_hash != head.hash:
        return Break(BreakKind.UNLINKED, wanted, head.hash, logged.previous_hash)
    return None


def break_at(seen: Head, found: Head | None, newest: Head) -> Break | None:
    """Whether a log still holds a head that was seen earlier.

    `found` is the entry at its position now, None if there is none; `newest` the log's end now.
    """
    if seen.position == 0 or seen == found:
        return None
    if found is not None:
        return Break(BreakKind.REPLACED, seen.position, seen.hash, found.hash)
    return Break(BreakKind.CUT_OFF, seen.position, seen.hash, str(newest.position))
