"""Reading runs of exports: pages of them, their manifests, and what was not published yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.destination import Place, RunLayout, TargetKind
from data.exports.manifest import Manifest
from data.exports.records import (
    RunProgress,
    RunsQuery,
    RunStatus,
    StoredRun,
    StoredTarget,
    Trigger,
)
from data.postgres.engine import ledger_errors
from data.postgres.tables import export_destinations, export_runs, export_targets, ingest_batches

_LAST = text("""
select newest.run_id
from unnest(cast(:destination_ids as uuid[])) as asked (destination_id)
cross join lateral (
    select run_id
    from export_runs
    where export_runs.destination_id = asked.destination_id
    order by sequence desc
    limit 1
) as newest
""")

_UNPUBLISHED = text("""
select runs.destination_id, runs.after, runs.through
from export_targets as targets
join export_runs as runs using (run_id)
where targets.destination_id = any (:destination_ids)
    and targets.target = 'client' and targets.status <> 'SUCCEEDED'
    and runs.since is null and runs.until is null
order by runs.destination_id, runs.after, runs.through
""")


async def runs_page(engine: AsyncEngine, query: RunsQuery) -> list[StoredRun]:
    """Runs, newest first; not those of destinations that were deleted."""
    columns = export_runs.c
    is_there = export_destinations.c.deleted_at.is_(None)
    there = select(export_destinations.c.destination_id).where(is_there)
    statement = select(export_runs).where(columns.destination_id.in_(there))
    statement = statement.order_by(columns.sequence.desc()).limit(query.first)
    if query.destination_id is not None:
        statement = statement.where(columns.destination_id == query.destination_id)
    if query.site_id is not None:
        statement = statement.where(columns.site_id == query.site_id)
    if query.before is not None:
        statement = statement.where(columns.sequence < query.before)
    if query.status is not None:
        is_clients = and_(
            export_targets.c.run_id == columns.run_id,
            export_targets.c.target == TargetKind.CLIENT.value,
        )
        status = export_targets.c.status == query.status.value
        statement = statement.join(export_targets, is_clients).where(status)
    with ledger_errors():
        async with engine.connect() as connection:
            return await _runs(connection, statement)


async def runs_by_ids(engine: AsyncEngine, run_ids: Sequence[UUID]) -> dict[UUID, StoredRun]:
    """Those of the runs that there are."""
    with ledger_errors():
        async with engine.connect() as connection:
            return {run.run_id: run for run in await runs_of(connection, run_ids)}


async def last_runs(engine: AsyncEngine, destination_ids: Sequence[UUID]) -> dict[UUID, StoredRun]:
    """The newest run of each of these destinations that has one."""
    with ledger_errors():
        async with engine.connect() as connection:
            found = await connection.execute(_LAST, {"destination_ids": list(destination_ids)})
            run_ids = list(found.scalars())
            return {run.destination_id: run for run in await runs_of(connection, run_ids)}


async def manifests_of(
    engine: AsyncEngine, run_ids: Sequence[UUID]
) -> dict[tuple[UUID, TargetKind], Manifest]:
    """The manifests that targets of these runs have published."""
    columns = export_targets.c
    statement = select(columns.run_id, columns.target, columns.manifest).where(
        columns.run_id.in_(run_ids), columns.manifest.is_not(None)
    )
    with ledger_errors():
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
    return {
        (row.run_id, TargetKind(row.target)): msgspec.convert(row.manifest, Manifest)
        for row in rows
    }


async def unpublished(
    engine: AsyncEngine, destination_ids: Sequence[UUID]
) -> dict[UUID, list[tuple[int, int]]]:
    """Positions (after, through] that were planned and are in no published run, in order.

    Stretches that touch are one; destinations of which everything was published are left out.
    """
    with ledger_errors():
        async with engine.connect() as connection:
            bound = {"destination_ids": list(destination_ids)}
            rows = (await connection.execute(_UNPUBLISHED, bound)).all()
    found: dict[UUID, list[tuple[int, int]]] = {}
    for row in rows:
        stretches = found.setdefault(row.destination_id, [])
        if stretches and row.after <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(row.through, stretches[-1][1]))
        else:
            stretches.append((row.after, row.through))
    return found


async def commit_times(engine: AsyncEngine, positions: Sequence[int]) -> dict[int, datetime]:
    """When the batches at these positions were committed, as far as there are any."""
    columns = ingest_batches.c
    statement = select(columns.position, columns.committed_at).where(
        columns.position.in_(positions)
    )
    with ledger_errors():
        async with engine.connect() as connection:
            rows = await connection.execute(statement)
            return {row.position: row.committed_at for row in rows}


async def runs_of(connection: AsyncConnection, run_ids: Sequence[UUID]) -> list[StoredRun]:
    """The runs of these ids, newest first."""
    columns = export_runs.c
    statement = select(export_runs).where(columns.run_id.in_(run_ids))
    return await _runs(connection, statement.order_by(columns.sequence.desc()))


async def _runs(connection: AsyncConnection, statement: Select[Any]) -> list[StoredRun]:
    rows = (await connection.execute(statement)).all()
    columns = export_targets.c
    is_held = func.coalesce(columns.held_until > func.clock_timestamp(), False)
    every: list[Any] = [column for column in columns if column is not columns.manifest]
    chosen: Select[Any] = (
        select(*every, is_held.label("is_held"))
        .where(columns.run_id.in_([row.run_id for row in rows]))
        .order_by(columns.run_id, columns.target.desc())
    )
    found = await connection.execute(chosen)
    targets: dict[UUID, list[StoredTarget]] = {}
    for row in found:
        targets.setdefault(row.run_id, []).append(_target(row))
    return [_run(row, tuple(targets[row.run_id])) for row in rows]


def _run(row: Row[Any], targets: tuple[StoredTarget, ...]) -> StoredRun:
    return StoredRun(
        run_id=row.run_id,
        sequence=row.sequence,
        destination_id=row.destination_id,
        site_id=row.site_id,
        number=row.number,
        trigger=Trigger(row.trigger),
        after=row.after,
        through=row.through,
        since=row.since,
        until=row.until,
        layout=msgspec.convert(row.layout, RunLayout),
        begun_at=row.begun_at,
        targets=targets,
    )


def _target(row: Row[Any]) -> StoredTarget:
    return StoredTarget(
        kind=TargetKind(row.target),
        place=msgspec.convert(row.place, Place),
        status=RunStatus(row.status),
        attempts=row.attempts,
        hold_id=row.hold_id,
        is_held=row.is_held,
        next_attempt_at=row.next_attempt_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason=row.reason,
        error=row.error,
        progress=msgspec.convert(row.progress, RunProgress) if row.progress else None,
        manifest_name=row.manifest_name,
        events=row.events or 0,
        bytes=row.bytes or 0,
        files=row.files or 0,
    )
