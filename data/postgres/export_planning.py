"""Which runs there shall be: made in the transaction that moves what was planned of a destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.checking import is_same_place
from data.exports.destination import REALTIME, Destination, TargetKind
from data.exports.records import (
    OPEN,
    Planned,
    RunAsked,
    RunStatus,
    StoredDestination,
    StoredRun,
)
from data.exports.schedule import next_run
from data.postgres.engine import ledger_errors
from data.postgres.export_destinations import (
    destination_of,
    give_up_deleted,
    stored_destinations,
)
from data.postgres.export_pauses import make_due_again
from data.postgres.export_runs import runs_of
from data.postgres.tables import export_destinations, export_runs, export_targets

log = structlog.get_logger()

# The newest run of the chain: later ones may only follow once it is done or dead.
_IN_HAND = text("""
select run_id
from export_runs
where destination_id = :destination_id and since is null and until is null
order by sequence desc
limit 1
""")
_SAME_BACKFILL = text("""
select runs.run_id
from export_runs as runs
join export_targets as targets on targets.run_id = runs.run_id and targets.target = 'client'
where runs.destination_id = :destination_id
    and targets.status in ('PENDING', 'RUNNING', 'FAILED')
    and (runs.since, runs.until) is not distinct from
        (cast(:since as timestamptz), cast(:until as timestamptz))
order by runs.sequence desc
limit 1
""")

# What was published last of a chain, and whether the ledger still has the batch that it ended with.
_LAST_PUBLISHED = """
select runs.through, batches.position is not null as is_known
from export_runs as runs
left join ingest_batches as batches
    on batches.position = runs.through and batches.committed_at = runs.through_at
where runs.destination_id = :destination_id
    and runs.since is null and runs.until is null and runs.through_at is not null
    {known}
order by runs.sequence desc
limit 1
"""
_PUBLISHED = text(_LAST_PUBLISHED.format(known=""))
_STILL_KNOWN = text(_LAST_PUBLISHED.format(known="and batches.position is not null"))

# By destination, whether its chain waits for a run that is under way.
_BUSY = text("""
select destinations.destination_id
from export_destinations as destinations
cross join lateral (
    select targets.status
    from export_runs as runs
    join export_targets as targets on targets.run_id = runs.run_id and targets.target = 'client'
    where runs.destination_id = destinations.destination_id
        and runs.since is null and runs.until is null
    order by runs.sequence desc
    limit 1
) as newest
where destinations.deleted_at is null and newest.status in ('PENDING', 'RUNNING', 'FAILED')
""")

_LEFT_OF_DELETED = text("""
select distinct targets.destination_id
from export_targets as targets
join export_destinations as destinations using (destination_id)
where targets.status in ('PENDING', 'RUNNING', 'FAILED') and destinations.deleted_at is not null
""")

_NEWEST = text("select coalesce(max(position), 0) from ingest_batches")


class NoDestination(Exception):
    """There is no such destination, or it was deleted."""


class NoRun(Exception):
    """There is no such run, or its destination was deleted."""


class DestinationPaused(Exception):
    """The destination rests; the message says why."""


class NothingToRetry(Exception):
    """No target of the run has failed or is dead."""


class PlannedMeanwhile(Exception):
    """What was counted is in a run already."""


@dataclass(frozen=True, slots=True)
class Plannable:
    """A destination that does not rest; `is_busy`: a run of its chain is under way."""

    stored: StoredDestination
    is_busy: bool


async def newest_position(engine: AsyncEngine) -> int:
    """The end of the change feed; 0 before the first event."""
    with ledger_errors():
        async with engine.connect() as connection:
            return int((await connection.execute(_NEWEST)).scalar_one())


async def plannable(engine: AsyncEngine) -> list[Plannable]:
    """The destinations for which runs may be planned."""
    columns = export_destinations.c
    statement = stored_destinations().where(
        columns.deleted_at.is_(None), columns.paused_at.is_(None)
    )
    with ledger_errors():
        async with engine.connect() as connection:
            busy = set((await connection.execute(_BUSY)).scalars())
            rows = (await connection.execute(statement)).all()
    found = []
    for row in rows:
        try:
            found.append(destination_of(row))
        except msgspec.ValidationError as error:
            # Of a newer version of the service, say, whose processes plan for it.
            about = str(row.destination_id)
            log.warning("export.destination.unreadable", destination=about, error=str(error))
    return [Plannable(stored, stored.destination_id in busy) for stored in found]


async def plan_run(connection: AsyncConnection, asked: RunAsked, now: datetime) -> Planned:
    """The run that was asked for, or the one that is under way; fixed by this transaction.

    A run of the chain takes everything since the one before it. Raises `NoDestination`,
    `DestinationPaused` and, where it was counted what waits, `PlannedMeanwhile`.
    """
    stored = await _locked(connection, asked.destination_id)
    if stored is None or stored.deleted_at is not None:
        raise NoDestination(f"there is no destination {asked.destination_id}")
    pause = stored.pauses.get(TargetKind.CLIENT)
    if pause is not None:
        raise DestinationPaused(
            f"the destination {stored.destination.name!r} is paused"
            + (f": {pause.reason}" if pause.reason else "")
        )
    if asked.counted_from is not None and asked.counted_from != stored.planned_through:
        raise PlannedMeanwhile(f"it was planned up to position {stored.planned_through}")
    run = await _in_hand(connection, asked)
    if run is not None:
        return Planned(run, is_new=False)
    run_id = await _insert(connection, stored, asked, now)
    [run] = await runs_of(connection, [run_id])
    return Planned(run, is_new=True)


async def retry_run(connection: AsyncConnection, run_id: UUID, now: datetime) -> StoredRun:
    """Have what failed of a run tried anew, also what is dead; pauses for a failure end.

    Raises `NoRun`, `NothingToRetry`, and `DestinationPaused` where somebody has asked for that.
    """
    run = next(iter(await runs_of(connection, [run_id])), None)
    stored = await _locked(connection, run.destination_id) if run is not None else None
    if run is None or stored is None or stored.deleted_at is not None:
        raise NoRun(f"there is no run {run_id}")
    wanted = (RunStatus.FAILED, RunStatus.DEAD)
    # Once more, now that nobody else is at it.
    [run] = await runs_of(connection, [run_id])
    kinds = [
        target.kind
        for target in run.targets
        if target.status in wanted
        # What was for a backup that lies elsewhere by now, or nowhere, stays as it is.
        and is_same_place(target.place, stored.destination.place(target.kind))
    ]
    if not kinds:
        raise NothingToRetry(f"run {run_id} has nothing that failed")
    for kind in kinds:
        pause = stored.pauses.get(kind)
        if pause is not None and pause.reason is None:
            raise DestinationPaused(f"the destination {stored.destination.name!r} is paused")
    await _end_pauses(connection, stored, kinds, now)
    columns = export_targets.c
    await connection.execute(
        update(export_targets)
        .where(
            columns.run_id == run_id,
            columns.target.in_([kind.value for kind in kinds]),
            columns.status.in_([status.value for status in wanted]),
        )
        .values(
            status=RunStatus.PENDING.value,
            attempts=0,
            next_attempt_at=now,
            finished_at=None,
            reason=None,
            error=None,
        )
    )
    [run] = await runs_of(connection, [run_id])
    return run


async def skip_run(connection: AsyncConnection, stored: StoredDestination, now: datetime) -> None:
    """Have a destination wait for its next time, as nothing waits for this one."""
    destination = stored.destination
    columns = export_destinations.c
    await connection.execute(
        update(export_destinations)
        .where(
            columns.destination_id == stored.destination_id,
            columns.next_run_at == stored.next_run_at,
        )
        .values(next_run_at=next_run(destination.schedule, destination.timezone, now))
    )


async def sweep_deleted(connection: AsyncConnection, now: datetime) -> None:
    """End what processes have left of destinations that were deleted under their hands."""
    for destination_id in (await connection.execute(_LEFT_OF_DELETED)).scalars().all():
        await give_up_deleted(connection, destination_id, now)


async def _locked(connection: AsyncConnection, destination_id: UUID) -> StoredDestination | None:
    """The destination, which nobody else plans for until the end of the transaction."""
    statement = stored_destinations().where(export_destinations.c.destination_id == destination_id)
    row = (await connection.execute(statement.with_for_update(key_share=True))).one_or_none()
    return None if row is None else destination_of(row)


async def _in_hand(connection: AsyncConnection, asked: RunAsked) -> StoredRun | None:
    bound: dict[str, Any] = {"destination_id": asked.destination_id}
    if asked.since is None and asked.until is None:
        statement = _IN_HAND
    else:
        statement = _SAME_BACKFILL
        bound |= {"since": asked.since, "until": asked.until}
    run_id = (await connection.execute(statement, bound)).scalar_one_or_none()
    if run_id is None:
        return None
    [run] = await runs_of(connection, [run_id])
    return run if run.status in OPEN else None


async def _insert(
    connection: AsyncConnection, stored: StoredDestination, asked: RunAsked, now: datetime
) -> UUID:
    run_id, number = uuid4(), stored.runs + 1
    newest = int((await connection.execute(_NEWEST)).scalar_one())
    is_backfill = asked.since is not None or asked.until is not None
    after = 0 if is_backfill else await _end_of_chain(connection, stored)
    through = max(newest, after)
    destination = stored.destination
    await connection.execute(
        insert(export_runs).values(
            run_id=run_id,
            destination_id=stored.destination_id,
            site_id=stored.site_id,
            number=number,
            trigger=asked.trigger.value,
            after=after,
            through=through,
            since=asked.since,
            until=asked.until,
            layout=_plain(destination.layout),
            begun_at=now,
        )
    )
    targets = [
        {
            "run_id": run_id,
            "target": kind.value,
            "destination_id": stored.destination_id,
            "place": _plain(place),
            "next_attempt_at": now,
        }
        for kind, place in destination.places.items()
    ]
    await connection.execute(insert(export_targets), targets)
    values: dict[str, Any] = {"runs": number}
    if not is_backfill:
        values |= {"planned_through": through, "next_run_at": _following(stored, now)}
    await connection.execute(
        update(export_destinations)
        .where(export_destinations.c.destination_id == stored.destination_id)
        .values(values)
    )
    return run_id


async def _end_of_chain(connection: AsyncConnection, stored: StoredDestination) -> int:
    """Where the next run begins: behind what was planned, unless the ledger forgot some of that.

    One that was put back to an earlier state gives positions away anew; the chain then goes on
    behind the last run that still holds.
    """
    bound = {"destination_id": stored.destination_id}
    last = (await connection.execute(_PUBLISHED, bound)).one_or_none()
    if last is None or last.is_known:
        return stored.planned_through
    known = (await connection.execute(_STILL_KNOWN, bound)).one_or_none()
    after = known.through if known else 0
    about = str(stored.destination_id)
    log.warning("export.turned_back", destination=about, before=stored.planned_through, after=after)
    return after


def _following(stored: StoredDestination, now: datetime) -> datetime | None:
    """When the chain is due after a run that begins now."""
    destination: Destination = stored.destination
    due = stored.next_run_at
    if due is not None and due > now and destination.schedule != REALTIME:
        return due
    return next_run(destination.schedule, destination.timezone, now)


async def _end_pauses(
    connection: AsyncConnection,
    stored: StoredDestination,
    kinds: Sequence[TargetKind],
    now: datetime,
) -> None:
    values: dict[str, Any] = {}
    if TargetKind.CLIENT in kinds and TargetKind.CLIENT in stored.pauses:
        values |= {"paused_at": None, "paused_reason": None}
    if TargetKind.BACKUP in kinds and TargetKind.BACKUP in stored.pauses:
        values |= {"backup_paused_at": None, "backup_paused_reason": None}
    if not values:
        return
    await connection.execute(
        update(export_destinations)
        .where(export_destinations.c.destination_id == stored.destination_id)
        .values(values)
    )
    await make_due_again(connection, stored.destination_id, kinds, now)


def _plain(struct: msgspec.Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(struct))
