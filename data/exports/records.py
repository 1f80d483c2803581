"""Destinations and their runs as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from data.exports.destination import Destination, Place, RunLayout, TargetKind
from data.exports.layout import Selection
from data.exports.orders import RunOrder


class Trigger(StrEnum):
    """Why a run was made."""

    SCHEDULE = "SCHEDULE"
    THRESHOLD = "THRESHOLD"
    REQUEST = "REQUEST"
    HOOK = "HOOK"
    COMMAND = "COMMAND"


class RunStatus(StrEnum):
    """How far a target of a run is; that of the client's is the run's own.

    FAILED: it is tried again, by itself or once the target is not paused any more. DEAD: only when
    somebody asks for it.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DEAD = "DEAD"


# Something still happens with them.
OPEN = frozenset({RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED})


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a target rests, and why, as a sentence; None: an administrator asked for it."""

    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class StoredDestination:
    """A destination as the ledger knows it.

    `planned_through` is the position up to which runs were planned, `runs` how many there are.
    `pauses` has the targets that rest. `*_at` say when secrets were saved; None: there is none.
    """

    destination: Destination
    planned_through: int
    runs: int
    next_run_at: datetime | None
    pauses: dict[TargetKind, Pause]
    credentials_at: datetime | None
    webhook_secret_at: datetime | None
    hook_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def destination_id(self) -> UUID:
        """Its id."""
        return self.destination.destination_id

    @property
    def site_id(self) -> str:
        """Whose events it gets."""
        return self.destination.site_id


@dataclass(slots=True)
class RunProgress:
    """How far an attempt has come; `of` is how many events there are before the filter.

    `rows` are in files that are in the bucket, `written` are in files at all.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    of: int | None = None
    written: int = 0


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """A target of a run. `events`, `bytes`, `files` and `manifest_name` are there once it succeeded.

    `error` is a sentence for people, `reason` a word for programs. `next_attempt_at` is None where
    nothing happens by itself. `progress` is that of the attempt under way. `is_held`: a process is
    at it.
    """

    kind: TargetKind
    place: Place
    status: RunStatus
    attempts: int
    hold_id: int
    is_held: bool
    next_attempt_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    error: str | None
    progress: RunProgress | None
    manifest_name: str | None
    events: int
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run, and how it fares. `sequence` orders the runs of all destinations.

    `since` and `until` are set in a backfill, which stands beside the chain.
    """

    run_id: UUID
    sequence: int
    destination_id: UUID
    site_id: str
    number: int
    trigger: Trigger
    after: int
    through: int
    since: datetime | None
    until: datetime | None
    layout: RunLayout
    begun_at: datetime
    targets: tuple[StoredTarget, ...]

    @property
    def client(self) -> StoredTarget:
        """The target whose status is the run's."""
        return self.targets[0]

    @property
    def status(self) -> RunStatus:
        """How far the run is for its client."""
        return self.client.status

    @property
    def is_backfill(self) -> bool:
        """Whether it is about a range of time."""
        return self.since is not None or self.until is not None

    @property
    def selection(self) -> Selection:
        """What it takes."""
        wanted = self.layout.wanted
        return Selection(self.site_id, self.after, self.through, wanted, self.since, self.until)

    def order(self, place: Place, attempt: int) -> RunOrder:
        """What it writes to a place; raises `LayoutInvalid` and `PrefixInvalid`."""
        layout, prefix = self.layout.layout, place.prefix
        return RunOrder(self.run_id, self.begun_at, self.selection, layout, prefix, attempt)


@dataclass(frozen=True, slots=True)
class RunAsked:
    """A run that somebody asks for; with `since` and `until` (aware, half-open) a backfill.

    `counted_from` is given by whoever has counted what waits behind that position.
    """

    destination_id: UUID
    trigger: Trigger
    since: datetime | None = None
    until: datetime | None = None
    counted_from: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A run, and whether it was made just now; else it is the one that was under way."""

    run: StoredRun
    is_new: bool


@dataclass(frozen=True, slots=True)
class RunsQuery:
    """Which runs are asked for, newest first; None leaves a bound out; `before` is a sequence."""

    first: int
    site_id: str | None = None
    destination_id: UUID | None = None
    status: RunStatus | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """Events of the site that no published run of the chain has, and since when the first waits."""

    events: int
    since: datetime | None


class Metering(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to, as it stands in the backup bucket."""

    run_id: UUID
    site_id: str
    destination_id: UUID
    number: int
    trigger: Trigger
    events: int
    bytes: int
    files: int
    after: int
    through: int
    finished_at: datetime
