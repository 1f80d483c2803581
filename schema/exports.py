"""Exports: where a site's events are taken, the runs that take them, and what each has left there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, NamedTuple, TypeAlias, cast

import strawberry
from strawberry import ID

from resolvers import export_runs, exports
from resolvers.export_views import (
    MAX_DAYS,
    MAX_FILES,
    MAX_TARGETS,
    RunPage,
    ShownDay,
    ShownDestination,
    ShownFile,
    ShownRun,
)
from schema.arguments import Info
from schema.directives import Cost, ListSize
from schema.export_enums import (
    Compression,
    FileFormat,
    LoginKind,
    RunStatus,
    TargetKind,
    Trigger,
)
from schema.fields import field
from schema.filters import filter_shown
from schema.pagination import PageInfo, page_info
from schema.scalars import JSON, BigInt

FirstFiles: TypeAlias = Annotated[
    int, strawberry.argument(f"How many files to list at most: 1 to {MAX_FILES:,}.")
]

FirstDays: TypeAlias = Annotated[
    int, strawberry.argument(f"How many days to list at most: 1 to {MAX_DAYS:,}.")
]

# Beside the statement that many of them share.
_SHARED = Cost(weight="5")
_FILTER = Cost(weight="20")
_FILES = ListSize(assumed_size=MAX_FILES, slicing_arguments=["first"])
_TARGETS = ListSize(assumed_size=MAX_TARGETS)
_DAYS = ListSize(assumed_size=MAX_DAYS, slicing_arguments=["first"])


@strawberry.type
class ExportLogin:
    """How the service gets into a bucket. A key and its secret are never shown."""

    kind: LoginKind = strawberry.field(description="By a key of the bucket's owner, or by a role.")
    role_arn: str | None = strawberry.field(
        description="The role that is assumed; null where a key is used."
    )
    external_id: str | None = strawberry.field(
        description=(
            "What the role's trust policy must ask for as `sts:ExternalId`; null where a key is "
            "used. It is no secret."
        )
    )


@strawberry.type
class ExportBackup:
    """The second bucket of a destination, which fails by itself."""

    bucket: str = strawberry.field(description="The bucket.")
    prefix: str = strawberry.field(description="What the names of all objects begin with.")
    region: str = strawberry.field(description="The region of the bucket.")
    endpoint_url: str | None = strawberry.field(
        description="The service that has the bucket; null for AWS."
    )
    login: ExportLogin = strawberry.field(description="How the service gets in.")
    paused: bool = strawberry.field(description="Nothing is written there until it is resumed.")
    paused_reason: str | None = strawberry.field(
        description="Why nothing is written there, as a sentence; null where something is."
    )


@strawberry.type
class ExportDestination:
    """A bucket that a site's events are taken to, and when."""

    destination_id: ID = strawberry.field(name="id", description="The destination's id.")
    site_id: ID = strawberry.field(description="The site whose events are taken.")
    name: str = strawberry.field(description="What it is called.")
    bucket: str = strawberry.field(description="The bucket.")
    prefix: str = strawberry.field(description="What the names of all objects begin with.")
    region: str = strawberry.field(description="The region of the bucket.")
    endpoint_url: str | None = strawberry.field(
        description="The service that has the bucket; null for AWS."
    )
    login: ExportLogin = strawberry.field(description="How the service gets into the bucket.")
    format: FileFormat = strawberry.field(description="How its files are written.")
    compression: Compression = strawberry.field(description="How its files are compressed.")
    schedule: str = strawberry.field(
        description="HOURLY, DAILY, REALTIME, MANUAL, or five cron fields."
    )
    timezone: str = strawberry.field(
        description="IANA name of the time zone of DAILY and of cron fields."
    )
    threshold_events: int | None = strawberry.field(
        description="A run begins as soon as so many events wait; null: by its schedule alone."
    )
    max_file_bytes: BigInt = strawberry.field(description="The most bytes that a file has.")
    fields: list[str] = strawberry.field(description="The fields of each event, in their order.")
    backup: ExportBackup | None = strawberry.field(
        description="The second bucket; null where there is none."
    )
    webhook_url: str | None = strawberry.field(
        description="The address that is told what becomes of runs; null where nobody is."
    )
    paused: bool = strawberry.field(description="No runs are begun until it is resumed.")
    paused_reason: str | None = strawberry.field(
        description="Why no runs are begun, as a sentence; null where they are."
    )
    next_run_at: datetime | None = strawberry.field(
        description=(
            "When a run is due by the schedule; null for MANUAL and while it is paused. For "
            "REALTIME a run begins when events wait."
        )
    )
    version: BigInt = strawberry.field(description="Goes up whenever it is changed.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")
    hook_token: str | None = strawberry.field(
        description=(
            "The secret in `POST /hooks/export/TOKEN`, which begins a run. It is shown once, by the "
            "`saveExportDestination` that made it; null everywhere else."
        )
    )
    webhook_secret: str | None = strawberry.field(
        description=(
            "The key by which the signatures of notices are checked. It is shown once, by the "
            "`saveExportDestination` that made it; null everywhere else."
        )
    )

    @field(
        "The filter that events have to pass, as the input has it; null: every event.",
        JSON | None,
        directives=[_FILTER],
    )
    @staticmethod
    def filter(destination: strawberry.Parent[ShownDestination]) -> dict[str, object] | None:
        return None if destination.filter is None else filter_shown(destination.filter)

    @field(
        "Events of the site that are in no published run of the destination yet, whether or not "
        "they pass its filter.",
        BigInt,
        directives=[_SHARED],
    )
    @staticmethod
    async def lag_events(destination: strawberry.Parent[ShownDestination], info: Info) -> int:
        return await exports.lag_events(info.context, destination)

    @field("The run that was begun last; null where there was none.", directives=[_SHARED])
    @staticmethod
    async def last_run(
        destination: strawberry.Parent[ShownDestination], info: Info
    ) -> ExportRun | None:
        return cast("ExportRun | None", await exports.last_run(info.context, destination))


@strawberry.type
class ExportFile:
    """A file of a run, as the manifest has it."""

    key: str = strawberry.field(description="The object's name in the bucket.")
    rows: BigInt = strawberry.field(description="Events in it.")
    bytes: BigInt = strawberry.field(description="Its size.")
    sha256: str = strawberry.field(description="SHA-256 of its bytes, in hex.")


@strawberry.type
class ExportDay:
    """A UTC day on which events of a run occurred."""

    day: date = strawberry.field(description="The day.")
    events: BigInt = strawberry.field(description="Events of the run that occurred on it.")


@strawberry.type
class ExportTarget:
    """What a run came to in one of the buckets of its destination."""

    kind: TargetKind = strawberry.field(description="Which of the buckets it is.")
    bucket: str = strawberry.field(description="The bucket.")
    prefix: str = strawberry.field(description="What the names of all objects begin with.")
    status: RunStatus = strawberry.field(description="How far it is.")
    attempts: int = strawberry.field(description="How often it was begun.")
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is tried again; null where nothing is to be tried by itself."
    )
    reason: str | None = strawberry.field(
        description="What went wrong last, in a word for programs, such as NO_PERMISSION."
    )
    error: str | None = strawberry.field(
        description="What went wrong last, as a sentence; null where nothing did."
    )
    file_count: int = strawberry.field(
        description="Files that are in the bucket; while it runs, so far."
    )
    events: BigInt = strawberry.field(description="Events in these files; while it runs, so far.")
    bytes: BigInt = strawberry.field(description="Bytes of these files; while it runs, so far.")
    manifest_key: str | None = strawberry.field(
        description="The name of the manifest; null until it is there."
    )
    finished_at: datetime | None = strawberry.field(
        description="When the manifest was written; null until it is there."
    )


@strawberry.type
class ExportRun:
    """A stretch of the change feed on its way into the buckets of a destination.

    What it says of status, events, files and errors is about the client's own bucket; `targets`
    has both.
    """

    run_id: ID = strawberry.field(
        name="id", description="The run's id, also in its objects' names."
    )
    number: BigInt = strawberry.field(description="1, 2, 3 and so on in its destination.")
    trigger: Trigger = strawberry.field(description="Why it was begun.")
    status: RunStatus = strawberry.field(description="How far it is.")
    after: BigInt = strawberry.field(
        description="The position in the change feed behind which its events begin."
    )
    through: BigInt = strawberry.field(
        description="The position in the change feed up to and with which its events go."
    )
    is_backfill: bool = strawberry.field(
        description="It was asked for by time, and stands beside the runs that follow each other."
    )
    since: datetime | None = strawberry.field(
        description="Of a backfill: its events occurred then or later."
    )
    until: datetime | None = strawberry.field(
        description="Of a backfill: its events occurred before that."
    )
    started_at: datetime = strawberry.field(description="When it was begun.")
    finished_at: datetime | None = strawberry.field(
        description="When its manifest was written; null until it is there."
    )
    events: BigInt = strawberry.field(description="Events in its files; while it runs, so far.")
    bytes: BigInt = strawberry.field(description="Bytes of its files; while it runs, so far.")
    file_count: int = strawberry.field(description="Files; while it runs, so far.")
    manifest_key: str | None = strawberry.field(
        description="The name of its manifest in the bucket; null until it is there."
    )
    attempts: int = strawberry.field(description="How often it was begun to be written.")
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is tried again; null where nothing is to be tried by itself."
    )
    error: str | None = strawberry.field(
        description="What went wrong last, as a sentence; null where nothing did."
    )
    targets: list[ExportTarget] = strawberry.field(
        description="The client's own bucket and, where there is one, the backup.",
        directives=[_TARGETS],
    )

    @field("The destination, as it is now.", ExportDestination, directives=[_SHARED])
    @staticmethod
    async def destination(run: strawberry.Parent[ShownRun], info: Info) -> ShownDestination:
        return await exports.destination_of(info.context, run)

    @field(
        "The first of its files, as the manifest lists them; none until it is there. `fileCount` "
        "says how many there are.",
        list[ExportFile],
        directives=[_SHARED, _FILES],
    )
    @staticmethod
    async def files(
        run: strawberry.Parent[ShownRun], info: Info, first: FirstFiles = 100
    ) -> Sequence[ShownFile]:
        return await export_runs.files(info.context, run, first)

    @field(
        "The latest of the UTC days on which its events occurred, in order; none until its "
        "manifest is there.",
        list[ExportDay],
        directives=[_SHARED, _DAYS],
    )
    @staticmethod
    async def days(
        run: strawberry.Parent[ShownRun], info: Info, first: FirstDays = 31
    ) -> Sequence[ShownDay]:
        return await export_runs.days(info.context, run, first)


class _Edge(NamedTuple):
    cursor: str
    node: ShownRun


@strawberry.type
class ExportRunEdge:
    """A run and its place in the order."""

    cursor: str = strawberry.field(description="The run's place, for `after`.")
    node: ExportRun = strawberry.field(description="The run.")


@strawberry.type
class ExportRunConnection:
    """A page of runs, those that were begun last first."""

    @field("The runs of the page with their cursors.", list[ExportRunEdge])
    @staticmethod
    def edges(page: strawberry.Parent[RunPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.runs))

    @field("The runs of the page.", list[ExportRun])
    @staticmethod
    def nodes(page: strawberry.Parent[RunPage]) -> list[ShownRun]:
        return list(page.runs)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[RunPage]) -> PageInfo:
        return page_info(page)


@strawberry.type
class ExportSetup:
    """What has to be known before a destination of a site is saved."""

    external_id: str = strawberry.field(
        description=(
            "What the trust policy of a role must ask for as `sts:ExternalId`, so that exports of "
            "this site, and of no other one, can assume it. It is no secret."
        )
    )
    endpoint_url: str | None = strawberry.field(
        description="The service that is meant where a destination names none; null for AWS."
    )


@strawberry.type
class ExportVerification:
    """Whether what a run has left in the buckets is still what the ledger holds."""

    run_id: ID = strawberry.field(description="The run.")
    matches: bool = strawberry.field(description="Nothing differs.")
    problems: list[str] = strawberry.field(
        description="What differs, a sentence each, with the names of objects."
    )
    verified_at: datetime = strawberry.field(description="When it was found out.")
