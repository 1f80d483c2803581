"""Who may write a target of a run now: claims, which last as long as they are renewed.

As with sources (decision 31), a claim holds its target for some seconds by the ledger's clock. Whoever
is killed leaves nothing but that; whoever was frozen finds another `hold_id` in the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.checking import is_same_place
from data.exports.destination import TargetKind
from data.exports.records import RunProgress, RunStatus, StoredDestination, StoredRun, StoredTarget
from data.postgres.engine import driver_connection, transaction
from data.postgres.export_destinations import destination_of, stored_destinations
from data.postgres.export_pauses import BACKUP_REMOVED
from data.postgres.export_runs import runs_of
from data.postgres.tables import export_destinations

log = structlog.get_logger()

HOLD = timedelta(seconds=15)

# The server ends the session of a process that was frozen with a row in its hands.
SETTINGS = text("""
select
    set_config('lock_timeout', '5s', true),
    set_config('idle_in_transaction_session_timeout', '10s', true)
""")

# Clients come first, so that what has piled up for a backup that rested holds up none of them; and
# what was tried before comes after what was not, so that a bucket that hangs holds up no other.
_DUE = text("""
select targets.run_id, targets.target
from export_targets as targets
join export_runs as runs using (run_id)
join export_destinations as destinations on destinations.destination_id = targets.destination_id
where targets.status in ('PENDING', 'RUNNING', 'FAILED')
    and targets.next_attempt_at <= :now
    and (targets.held_until is null or targets.held_until <= clock_timestamp())
    and destinations.deleted_at is null
    and case targets.target
        when 'client' then destinations.paused_at else destinations.backup_paused_at
    end is null
    and runs.through <= :reached
    and (targets.attempts = 0 or not :only_fresh)
order by targets.target desc, targets.attempts > 0, targets.next_attempt_at, runs.sequence
limit :first
""")

_TAKE = text("""
update export_targets
set status = 'RUNNING', attempts = attempts + 1, hold_id = hold_id + 1,
    held_until = clock_timestamp() + :hold, held_by = :holder,
    started_at = coalesce(started_at, :now), finished_at = null, progress = '{}'
where (run_id, target) = (
    select run_id, target
    from export_targets
    where run_id = :run_id and target = :target
        and status in ('PENDING', 'RUNNING', 'FAILED')
        and next_attempt_at <= :now
        and (held_until is null or held_until <= clock_timestamp())
    for update skip locked
)
returning true
""")

_BURY = text("""
update export_targets
set status = 'DEAD', next_attempt_at = null, held_until = null, held_by = null, progress = null,
    finished_at = :now, reason = :reason, error = :error
where run_id = :run_id and target = :target
""")
_UNREADABLE = {
    "reason": "INVALID",
    "error": "this version of the service cannot read how the run is to be written",
}

_RENEW = """
update export_targets
set held_until = clock_timestamp() + $4, progress = $5
where run_id = $1 and target = $2 and hold_id = $3 and held_until is not null
returning true
"""
_ABANDON = """
update export_targets
set held_until = clock_timestamp(), attempts = greatest(attempts - 1, 0)
where run_id = $1 and target = $2 and hold_id = $3 and held_until > clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class DueTarget:
    """A target that may be taken up."""

    run_id: UUID
    kind: TargetKind


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a target of a run for the time of `HOLD`, unless it is renewed."""

    run: StoredRun
    target: StoredTarget
    stored: StoredDestination

    @property
    def kind(self) -> TargetKind:
        """Which target."""
        return self.target.kind

    @property
    def hold_id(self) -> int:
        """The number of the claim."""
        return self.target.hold_id


async def due_targets(
    engine: AsyncEngine, now: datetime, reached: int, *, only_fresh: bool, first: int
) -> list[DueTarget]:
    """Targets that are due and not held, of runs that end at a position up to `reached`."""
    bound = {"now": now, "reached": reached, "only_fresh": only_fresh, "first": first}
    async with transaction(engine) as connection:
        rows = (await connection.execute(_DUE, bound)).all()
    return [DueTarget(row.run_id, TargetKind(row.target)) for row in rows]


async def claim(engine: AsyncEngine, due: DueTarget, now: datetime, holder: str) -> Claim | None:
    """The right to write a target that is due; None where it is not, or somebody holds it."""
    bound = {
        "run_id": due.run_id,
        "target": due.kind.value,
        "now": now,
        "hold": HOLD,
        "holder": holder,
    }
    async with transaction(engine) as connection:
        await connection.execute(SETTINGS)
        if (await connection.execute(_TAKE, bound)).first() is None:
            return None
        try:
            [run] = await runs_of(connection, [due.run_id])
            target = next(one for one in run.targets if one.kind is due.kind)
            stored = await _destination(connection, run.destination_id)
        except msgspec.ValidationError as error:
            # Of a newer version of the service, say: nobody here can write it.
            log.warning("export.dead", run=str(due.run_id), reason="INVALID", error=str(error))
            await connection.execute(_BURY, bound | _UNREADABLE)
            return None
        if not is_same_place(target.place, stored.destination.place(due.kind)):
            # It was in somebody's hands when the destination was saved with another backup.
            await connection.execute(_BURY, bound | BACKUP_REMOVED)
            return None
        return Claim(run, target, stored)


async def renew(
    engine: AsyncEngine, claimed: Claim, progress: RunProgress, *, seconds: float
) -> bool:
    """Hold a target on and show how far it has come; False where it is ours no more."""
    async with driver_connection(engine, seconds) as connection:
        row = await connection.fetchval(
            _RENEW,
            claimed.run.run_id,
            claimed.kind.value,
            claimed.hold_id,
            HOLD,
            msgspec.json.encode(progress).decode(),
        )
    return row is not None


async def abandon(engine: AsyncEngine, claimed: Claim, *, seconds: float) -> None:
    """Give a claim up unused, so that another process need not wait until it ends by itself."""
    async with driver_connection(engine, seconds) as connection:
        await connection.execute(_ABANDON, claimed.run.run_id, claimed.kind.value, claimed.hold_id)


async def still_held(connection: AsyncConnection, claimed: Claim) -> bool:
    """Whether a claim is still ours; nobody takes it until the transaction ends."""
    bound = {
        "run_id": claimed.run.run_id,
        "target": claimed.kind.value,
        "hold_id": claimed.hold_id,
        "running": RunStatus.RUNNING.value,
    }
    return (await connection.execute(_STILL_HELD, bound)).first() is not None


# Not whether its time is over: as long as nobody else has taken it, it is ours.
_STILL_HELD = text("""
select true
from export_targets
where run_id = :run_id and target = :target and hold_id = :hold_id and status = :running
for update
""")


async def _destination(connection: AsyncConnection, destination_id: UUID) -> StoredDestination:
    statement = stored_destinations().where(export_destinations.c.destination_id == destination_id)
    return destination_of((await connection.execute(statement)).one())
