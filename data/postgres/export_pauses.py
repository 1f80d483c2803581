"""Targets of destinations that rest, and what becomes of the runs that wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.destination import TargetKind
from data.postgres.engine import ledger_errors
from data.postgres.tables import export_destinations

# The columns of each target.
PAUSES = {
    TargetKind.CLIENT: ("paused_at", "paused_reason"),
    TargetKind.BACKUP: ("backup_paused_at", "backup_paused_reason"),
}

# What is said of what was for a backup bucket that is not there any more.
BACKUP_REMOVED = {
    "reason": "BACKUP_REMOVED",
    "error": "the bucket is not the destination's backup any more",
}

_DUE_AGAIN = text("""
update export_targets
set next_attempt_at = :now, attempts = 0
where destination_id = :destination_id and target = any (:targets)
    and status = 'FAILED' and next_attempt_at is null
""")

_STANDING = text("""
select
    count(*) as destinations,
    array_agg(name order by name) filter (
        where paused_reason is not null or backup_paused_reason is not null
    ) as resting,
    (
        select count(*)
        from export_targets join export_destinations as alive using (destination_id)
        where status <> 'SUCCEEDED' and status = 'DEAD' and alive.deleted_at is null
            -- Nobody can have that tried again.
            and reason is distinct from 'BACKUP_REMOVED'
    ) as dead
from export_destinations
where deleted_at is null
""")

# Those that a process is at come to their end; the planner comes back to what it leaves.
_GIVE_UP = text("""
update export_targets
set status = 'DEAD', next_attempt_at = null, held_until = null, progress = null,
    finished_at = :now, reason = :reason, error = :error
where destination_id = :destination_id and target = any (:targets)
    and status in ('PENDING', 'RUNNING', 'FAILED')
    and (held_until is null or held_until <= clock_timestamp())
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """How exports are: destinations, names of those that rest for a failure, and dead targets."""

    destinations: int
    resting: Sequence[str]
    dead: int


async def standing(engine: AsyncEngine) -> Standing:
    """How all exports are, in one look."""
    with ledger_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(_STANDING)).one()
    return Standing(row.destinations, row.resting or (), row.dead)


async def pause_target(
    connection: AsyncConnection,
    destination_id: UUID,
    target: TargetKind,
    reason: str,
    now: datetime,
) -> bool:
    """Have a target rest for a failure; False where it rests already."""
    at_name, reason_name = PAUSES[target]
    columns = export_destinations.c
    statement = (
        update(export_destinations)
        .where(columns.destination_id == destination_id, columns[at_name].is_(None))
        .values({at_name: now, reason_name: reason})
    )
    return (await connection.execute(statement)).rowcount == 1


async def make_due_again(
    connection: AsyncConnection, destination_id: UUID, targets: Sequence[TargetKind], now: datetime
) -> None:
    """Have runs tried again that rested with their target."""
    names = [target.value for target in targets]
    bound = {"destination_id": destination_id, "targets": names, "now": now}
    await connection.execute(_DUE_AGAIN, bound)


async def give_up(
    connection: AsyncConnection,
    destination_id: UUID,
    targets: Sequence[TargetKind],
    why: tuple[str, str],
    now: datetime,
) -> None:
    """End what waits for these targets, for a reason, as a word and as a sentence."""
    bound = {
        "destination_id": destination_id,
        "targets": [target.value for target in targets],
        "now": now,
        "reason": why[0],
        "error": why[1],
    }
    await connection.execute(_GIVE_UP, bound)
