"""Kept results: what is kept of an answer, how long it serves, and the room for them in a process.

Nothing here knows what is asked. A question brings its key, the version of what it covers (the
last position of the change feed that can have made a difference), and how its rows are written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

# One answer may take no more than this part of the room.
_LARGEST_PART = 8
# What an entry takes beside its rows.
_OVERHEAD = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class CacheStatus(StrEnum):
    """Where an answer came from: kept, kept but old, computed, or computed without asking."""

    HIT = "HIT"
    STALE = "STALE"
    MISS = "MISS"
    BYPASS = "BYPASS"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how long an answer that is not the newest any more serves, in seconds.

    `stale`: since it was last known to be exact, while a newer one is being computed. One that took
    long is not computed anew before `rest` times that long has passed, `most_rest` at the most:
    else a slow question would be computed without a pause while events come in. `patience` is how
    long to wait for a newer answer where there is an older one, None for what the process has.
    """

    stale: float
    rest: float
    most_rest: float
    patience: float | None = None


# Events of now belong to the answer: it is out of date after every slice.
OF_NOW = Lifetimes(stale=60, rest=4, most_rest=2)
# Only late events change it.
OF_THE_PAST = Lifetimes(stale=3_600, rest=10, most_rest=5)


def position_at(moment: datetime) -> int:
    """The position of a moment, in place of one of the feed, for questions that no feed tells of.

    Such an answer has the position at which it was begun. A question whose version is that of a
    second ago takes what is no older than a second; it has no position of its own, as time alone
    confirms nothing.
    """
    return (moment - _EPOCH) // _MILLISECOND


NO_POSITION = -1


@dataclass(frozen=True, slots=True)
class Codec:
    """How rows are written for other processes, read again, and how many bytes they take here."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    size: Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class Question:
    """Something to be answered: `asked` is for whoever computes, the rest is for the cache.

    `version` is the last position that can have made a difference to the answer, `position` how far
    in the feed that is certain, and `through` the moment up to which data is complete there.
    """

    asked: Any
    key: bytes
    site_id: str
    version: int
    position: int
    through: datetime | None
    lifetimes: Lifetimes
    codec: Codec


@dataclass(slots=True)
class Entry:
    """A kept answer.

    It rests on everything up to `position` in the feed, where data was complete `through` a moment;
    `exact_at` is when that was last known to be all there is. `seconds` is what it took to compute.
    """

    rows: Any
    site_id: str
    position: int
    through: datetime | None
    computed_at: datetime
    exact_at: datetime
    seconds: float
    size: int

    def is_exact(self, question: Question) -> bool:
        """Whether nothing that the question covers has changed since, as far as is known here."""
        return self.position >= question.version

    def confirm(self, question: Question, now: datetime) -> None:
        """Note that it was found exact: it holds as far as the question's process has followed."""
        self.exact_at = now
        if question.position >= self.position:
            self.position = question.position
            self.through = _later(self.through, question.through)

    def is_resting(self, lifetimes: Lifetimes, now: datetime, patience: float) -> bool:
        """Whether it took long, and that not long ago: it is not to be computed anew yet."""
        if self.seconds <= patience:
            return False
        rest = min(lifetimes.rest * self.seconds, lifetimes.most_rest)
        # Another machine's clock may be ahead: what was computed in the future is not resting.
        return 0 <= (now - self.computed_at).total_seconds() < rest

    def may_serve(self, lifetimes: Lifetimes, now: datetime) -> bool:
        """Whether it may still be shown although it is out of date."""
        return (now - self.exact_at).total_seconds() < lifetimes.stale


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment), default=None)


@dataclass(slots=True)
class Room:
    """Entries, those that were used last kept, with no more than `most_bytes` altogether."""

    most_bytes: int
    size: int = 0
    _entries: OrderedDict[bytes, Entry] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """The entry of a key, used now."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, unless there is one that rests on more, or it is too large."""
        kept = self._entries.get(key)
        if kept is not None and kept.position > entry.position:
            return
        self._remove(key)
        if _taken(entry) * _LARGEST_PART > self.most_bytes:
            return
        self._entries[key] = entry
        self.size += _taken(entry)
        while self.size > self.most_bytes:
            self._remove(next(iter(self._entries)))

    def drop(self, site_id: str | None) -> set[bytes]:
        """Forget what is kept of a site, or of all; the keys of it."""
        keys = {
            key
            for key, entry in self._entries.items()
            if site_id is None or entry.site_id == site_id
        }
        for key in keys:
            self._remove(key)
        return keys

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= _taken(entry)


def _taken(entry: Entry) -> int:
    return entry.size + _OVERHEAD
