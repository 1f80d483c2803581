"""A run of an export: what it takes, how it is written, and what its objects are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from data.exports.layout import Layout, Selection

# A position has up to 19 digits; with leading zeros, names sort as numbers do.
_POSITION_DIGITS = 19
_ATTEMPT_DIGITS = 3
_PART_DIGITS = 5
_MAX_PREFIX_BYTES = 512
_SEGMENT = re.compile(r"[A-Za-z0-9!_.*'()=+@,:&$ -]+")


class PrefixInvalid(ValueError):
    """A prefix that objects cannot be put under; the message says why, in a line."""


def checked_prefix(prefix: str) -> str:
    """The prefix without slashes at its ends, `""` for none; raises `PrefixInvalid`."""
    plain = prefix.strip("/")
    if not plain:
        return ""
    if len(plain.encode()) > _MAX_PREFIX_BYTES:
        raise PrefixInvalid(f"a prefix has {_MAX_PREFIX_BYTES} bytes at the most")
    for segment in plain.split("/"):
        if segment in (".", ".."):
            raise PrefixInvalid(f"a prefix must not go through {segment!r}: write it out")
        if not segment:
            raise PrefixInvalid("a prefix must not have two slashes in a row")
        if not _SEGMENT.fullmatch(segment) or segment != segment.strip():
            raise PrefixInvalid(
                f"{segment!r:.80} in the prefix has a character that not every tool takes; use"
                " letters, digits and ! _ . * ' ( ) = + @ , : & $ - inside"
            )
    return plain


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run: its id, when it began (aware, UTC), its events, its files, and where they go.

    `attempt` counts its tries from 1. Each writes files of its own names, so that a process that
    wakes up after another has taken over spoils nothing.
    """

    run_id: UUID
    begun_at: datetime
    selection: Selection
    layout: Layout = Layout()  # noqa: RUF009 - frozen
    prefix: str = ""
    attempt: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", checked_prefix(self.prefix))

    def file_name(self, number: int) -> str:
        """What the file of this number, from 1, is called in the bucket."""
        return f"{self.attempt_prefix}{number:0{_PART_DIGITS}}{self.layout.suffix}"

    @property
    def files_prefix(self) -> str:
        """How the names of all files of this run begin, and of no other's."""
        return f"{self._folder('events')}{self._stem}-"

    @property
    def attempt_prefix(self) -> str:
        """How the names of the files of this attempt begin, and of no other's."""
        return f"{self.files_prefix}{self.attempt:0{_ATTEMPT_DIGITS}}-"

    @property
    def manifest_name(self) -> str:
        """What the manifest is called in the bucket."""
        return f"{self._folder('manifests')}{self._stem}.json"

    @property
    def metering_name(self) -> str:
        """What the object is called that says what the run came to."""
        return f"{self._folder('metering')}{self._stem}.json"

    @property
    def _stem(self) -> str:
        return f"{self.selection.through:0{_POSITION_DIGITS}}-{self.run_id}"

    def _folder(self, kind: str) -> str:
        day = self.begun_at.astimezone(UTC).date().isoformat()
        return f"{under(self.prefix, kind)}/day={day}/"


def under(prefix: str, name: str) -> str:
    """A name under a prefix that was checked."""
    return f"{prefix}/{name}" if prefix else name
