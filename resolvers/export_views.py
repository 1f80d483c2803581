"""Exports as those who may see them see them: without credentials, and with what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from data.exports.destination import Destination, Place, TargetKind
from data.exports.layout import Compression, FileFormat
from data.exports.records import (
    RunProgress,
    RunStatus,
    StoredDestination,
    StoredRun,
    StoredTarget,
    Trigger,
)
from data.queries import EventFilter

MAX_FILES = 10_000
MAX_DAYS = 1_000
MAX_TARGETS = len(TargetKind)
MAX_DESTINATIONS = 1_000

# What is said of a pause that nobody but an administrator has asked for.
_BY_HAND = "it was paused by an administrator"


class LoginKind(StrEnum):
    """How the service gets into a bucket."""

    KEY = "KEY"
    ROLE = "ROLE"


@dataclass(frozen=True, slots=True)
class ShownLogin:
    """How the service gets into a bucket, as far as that is no secret."""

    kind: LoginKind
    role_arn: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class ShownBackup:
    """The second bucket of a destination."""

    bucket: str
    prefix: str
    region: str
    endpoint_url: str | None
    login: ShownLogin
    paused: bool
    paused_reason: str | None


@dataclass(frozen=True, slots=True)
class ShownDestination:
    """A destination; `hook_token` and `webhook_secret` are there when they were just made."""

    destination_id: UUID
    site_id: str
    name: str
    bucket: str
    prefix: str
    region: str
    endpoint_url: str | None
    login: ShownLogin
    format: FileFormat
    compression: Compression
    schedule: str
    timezone: str
    threshold_events: int | None
    max_file_bytes: int
    fields: Sequence[str]
    filter: EventFilter | None
    backup: ShownBackup | None
    webhook_url: str | None
    paused: bool
    paused_reason: str | None
    next_run_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    hook_token: str | None = None
    webhook_secret: str | None = None


@dataclass(frozen=True, slots=True)
class ShownSetup:
    """What has to be known of a site and a service before a destination is saved."""

    external_id: str
    endpoint_url: str | None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """An object of a run."""

    key: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShownDay:
    """A UTC day on which events of a run occurred, and how many."""

    day: date
    events: int


@dataclass(frozen=True, slots=True)
class ShownTarget:
    """What a run came to in one bucket; the numbers are those so far while it is written."""

    kind: TargetKind
    bucket: str
    prefix: str
    status: RunStatus
    attempts: int
    next_attempt_at: datetime | None
    reason: str | None
    error: str | None
    file_count: int
    events: int
    bytes: int
    manifest_key: str | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run; what is not about `targets` is about the first of them, the client's own bucket."""

    run_id: UUID
    destination_id: UUID
    site_id: str
    number: int
    trigger: Trigger
    status: RunStatus
    after: int
    through: int
    is_backfill: bool
    since: datetime | None
    until: datetime | None
    started_at: datetime
    finished_at: datetime | None
    events: int
    bytes: int
    file_count: int
    manifest_key: str | None
    attempts: int
    next_attempt_at: datetime | None
    error: str | None
    targets: Sequence[ShownTarget]


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of runs, newest first; `cursors[i]` belongs to run i."""

    runs: Sequence[ShownRun]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is shown once: the secrets that a saving has made, if any."""

    hook_token: str | None = None
    webhook_secret: str | None = None


def shown_destination(stored: StoredDestination) -> ShownDestination:
    """What may be shown of a destination."""
    known, layout = stored.destination, stored.destination.layout
    paused, reason = _pause(stored, TargetKind.CLIENT)
    return ShownDestination(
        destination_id=known.destination_id,
        site_id=known.site_id,
        name=known.name,
        bucket=known.client.bucket,
        prefix=known.client.prefix,
        region=known.client.region,
        endpoint_url=known.client.endpoint,
        login=_login(known.client),
        format=layout.format,
        compression=layout.compression,
        schedule=known.schedule,
        timezone=known.timezone,
        threshold_events=known.threshold_events,
        max_file_bytes=layout.max_file_bytes,
        fields=layout.layout.fields,
        filter=layout.filter,
        backup=_backup(stored, known),
        webhook_url=known.webhook_url,
        paused=paused,
        paused_reason=reason,
        next_run_at=None if paused else stored.next_run_at,
        version=stored.version,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def with_secrets(shown: ShownDestination, made: Secrets) -> ShownDestination:
    """The destination with what is shown this once."""
    return replace(shown, hook_token=made.hook_token, webhook_secret=made.webhook_secret)


def _backup(stored: StoredDestination, known: Destination) -> ShownBackup | None:
    place = known.backup
    if place is None:
        return None
    paused, reason = _pause(stored, TargetKind.BACKUP)
    return ShownBackup(
        bucket=place.bucket,
        prefix=place.prefix,
        region=place.region,
        endpoint_url=place.endpoint,
        login=_login(place),
        paused=paused,
        paused_reason=reason,
    )


def _pause(stored: StoredDestination, kind: TargetKind) -> tuple[bool, str | None]:
    pause = stored.pauses.get(kind)
    return (False, None) if pause is None else (True, pause.reason or _BY_HAND)


def _login(place: Place) -> ShownLogin:
    if place.role is None:
        return ShownLogin(LoginKind.KEY)
    return ShownLogin(LoginKind.ROLE, place.role.arn, place.role.external_id)


def shown_run(stored: StoredRun) -> ShownRun:
    """What may be shown of a run."""
    targets = [_target(one) for one in stored.targets]
    client = targets[0]
    return ShownRun(
        run_id=stored.run_id,
        destination_id=stored.destination_id,
        site_id=stored.site_id,
        number=stored.number,
        trigger=stored.trigger,
        status=client.status,
        after=stored.after,
        through=stored.through,
        is_backfill=stored.is_backfill,
        since=stored.since,
        until=stored.until,
        started_at=stored.begun_at,
        finished_at=client.finished_at,
        events=client.events,
        bytes=client.bytes,
        file_count=client.file_count,
        manifest_key=client.manifest_key,
        attempts=client.attempts,
        next_attempt_at=client.next_attempt_at,
        error=client.error,
        targets=targets,
    )


def _target(stored: StoredTarget) -> ShownTarget:
    is_done = stored.status is RunStatus.SUCCEEDED
    so_far = stored.progress or RunProgress()
    return ShownTarget(
        kind=stored.kind,
        bucket=stored.place.bucket,
        prefix=stored.place.prefix,
        status=stored.status,
        attempts=stored.attempts,
        next_attempt_at=None if is_done else stored.next_attempt_at,
        reason=None if is_done else stored.reason,
        error=None if is_done else stored.error,
        file_count=stored.files if is_done else so_far.files,
        events=stored.events if is_done else so_far.rows,
        bytes=stored.bytes if is_done else so_far.bytes,
        manifest_key=stored.manifest_name if is_done else None,
        finished_at=stored.finished_at if is_done else None,
    )


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison of a run with its objects and the ledger has found."""

    run_id: UUID
    problems: Sequence[str]
    verified_at: datetime

    @property
    def matches(self) -> bool:
        """Whether nothing differs."""
        return not self.problems
