"""What attempts at targets of runs come to, written with all that follows from it at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.admin_log import SERVICE, AdminAction, Entry
from data.exports.destination import TargetKind
from data.exports.manifest import Manifest
from data.exports.notices import Notice, NoticeKind, Told
from data.exports.records import RunStatus
from data.postgres.admin_log import record
from data.postgres.engine import transaction
from data.postgres.export_claims import SETTINGS, Claim, still_held
from data.postgres.export_notices import add_notice
from data.postgres.export_pauses import pause_target
from data.postgres.tables import export_targets

_MAX_ERROR = 2_000
# The first failure is mostly over with the next attempt, and every one would be too many to hear of.
_TELL_AT = 2

_DATE = text("""
update export_runs
set through_at = (select committed_at from ingest_batches where position = export_runs.through)
where run_id = :run_id
""")

_VERSION = text("""
select version
from export_destinations
where destination_id = :destination_id
for no key update
""")


class After(StrEnum):
    """What follows a failure: another try, a pause of the target, the end, or both of these."""

    RETRY = "RETRY"
    PAUSE = "PAUSE"
    DEATH = "DEATH"
    DEATH_AND_PAUSE = "DEATH_AND_PAUSE"


_PAUSES = frozenset({After.PAUSE, After.DEATH_AND_PAUSE})
_DEATHS = frozenset({After.DEATH, After.DEATH_AND_PAUSE})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing: a word for programs, a sentence for people."""

    reason: str
    error: str
    after: After
    # Of a retry.
    next_attempt_at: datetime | None = None


async def write_success(
    engine: AsyncEngine, claimed: Claim, manifest: Manifest, now: datetime
) -> bool:
    """Commit that a target was published; False, and nothing written, if the claim is lost."""
    async with transaction(engine) as connection:
        await connection.execute(SETTINGS)
        if not await still_held(connection, claimed):
            return False
        await _end(
            connection,
            claimed,
            {
                "status": RunStatus.SUCCEEDED.value,
                "next_attempt_at": None,
                "finished_at": now,
                "reason": None,
                "error": None,
                "manifest_name": manifest.name,
                "events": manifest.taken.events,
                "bytes": manifest.bytes,
                "files": len(manifest.files),
                "manifest": msgspec.to_builtins(manifest),
            },
        )
        # Of its backup the owner hears when something is wrong with it.
        if claimed.kind is TargetKind.CLIENT:
            await connection.execute(_DATE, {"run_id": claimed.run.run_id})
            told = _told(claimed, manifest=manifest)
            await add_notice(connection, Notice(NoticeKind.SUCCEEDED, now, told))
        details = {"events": manifest.taken.events, "manifest": manifest.name}
        await record(connection, _entry(AdminAction.EXPORT_PUBLISHED, claimed, now, details))
    return True


async def write_failure(
    engine: AsyncEngine, claimed: Claim, failure: Failure, now: datetime
) -> bool:
    """Commit a failure and what follows from it; False if the claim is lost."""
    async with transaction(engine) as connection:
        await connection.execute(SETTINGS)
        # A destination before its targets, as everybody does who locks both.
        version = (await connection.execute(_VERSION, _ids(claimed))).scalar_one()
        if not await still_held(connection, claimed):
            return False
        if failure.after in _PAUSES and version != claimed.stored.version:
            # It was saved meanwhile, with other credentials maybe.
            failure = replace(failure, after=After.RETRY, next_attempt_at=now)
        is_dead = failure.after in _DEATHS
        await _end(
            connection,
            claimed,
            {
                "status": (RunStatus.DEAD if is_dead else RunStatus.FAILED).value,
                "next_attempt_at": failure.next_attempt_at,
                "finished_at": now if is_dead else None,
                "reason": failure.reason,
                "error": failure.error[:_MAX_ERROR],
            },
        )
        await _follow(connection, claimed, failure, now)
    return True


async def _follow(
    connection: AsyncConnection, claimed: Claim, failure: Failure, now: datetime
) -> None:
    """Pause, tell and log what has to be."""
    told = _told(claimed, failure=failure)
    actions = []
    if failure.after is After.RETRY and claimed.target.attempts == _TELL_AT:
        await add_notice(connection, Notice(NoticeKind.FAILED, now, told))
    if failure.after in _DEATHS:
        await add_notice(connection, Notice(NoticeKind.DEAD, now, told))
        actions.append(AdminAction.EXPORT_DEAD)
    if failure.after in _PAUSES:
        destination_id, kind = claimed.run.destination_id, claimed.kind
        if await pause_target(connection, destination_id, kind, failure.error, now):
            await add_notice(connection, Notice(NoticeKind.PAUSED, now, told))
            actions.append(AdminAction.EXPORT_PAUSED)
    details: dict[str, object] = {"reason": failure.reason, "error": failure.error[:_MAX_ERROR]}
    for action in actions:
        await record(connection, _entry(action, claimed, now, details))


async def _end(connection: AsyncConnection, claimed: Claim, values: dict[str, Any]) -> None:
    columns = export_targets.c
    statement = update(export_targets).where(
        columns.run_id == claimed.run.run_id, columns.target == claimed.kind.value
    )
    ended = {"held_until": None, "held_by": None, "progress": None}
    await connection.execute(statement.values(values | ended))


def _told(
    claimed: Claim, *, manifest: Manifest | None = None, failure: Failure | None = None
) -> Told:
    destination = claimed.stored.destination
    return Told(
        destination_id=destination.destination_id,
        destination=destination.name,
        site_id=destination.site_id,
        export_id=claimed.run.run_id,
        target=claimed.kind.value,
        bucket=claimed.target.place.bucket,
        manifest=manifest.name if manifest else None,
        events=manifest.taken.events if manifest else None,
        bytes=manifest.bytes if manifest else None,
        files=len(manifest.files) if manifest else None,
        attempts=claimed.target.attempts,
        reason=failure.reason if failure else None,
        error=failure.error if failure else None,
    )


def _entry(action: AdminAction, claimed: Claim, now: datetime, details: dict[str, object]) -> Entry:
    run = claimed.run
    about = {"destination": str(run.destination_id), "target": claimed.kind.value}
    return Entry(now, SERVICE, action, str(run.run_id), run.site_id, about | details)


def _ids(claimed: Claim) -> dict[str, object]:
    return {"destination_id": claimed.run.destination_id}
