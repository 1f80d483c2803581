"""Who may refresh a source now: claims, which last as long as they are renewed (decision 31).

A claim holds its source for some seconds by the ledger's clock. Whoever is killed leaves nothing
but that; whoever was frozen finds another `refresh_id` in the row, and may not write any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState, KeptBreaker
from data.postgres.engine import driver_connection
from data.postgres.source_audits import Attempt, source_transaction, write_audit
from data.sources.fetched import Progress, Validators
from data.sources.records import FetchOutcome
from data.sources.schedule import next_due
from data.sources.source import Source

HOLD = timedelta(seconds=15)

_DUE = """
with due as (
    select source_key, failures > 0 as is_failing, next_attempt_at
    from source_states join sources using (source_key)
    where next_attempt_at <= $1
        and source_key <> all($2::text[])
        and (held_until is null or held_until <= clock_timestamp())
        and coalesce((definition->>'enabled')::boolean, true)
)
(select * from due where not is_failing order by next_attempt_at, source_key limit $3)
union all
(select * from due where is_failing order by next_attempt_at, source_key limit $4)
"""

# Nobody waits for a row that is being written, which may take as long as a large set does: what is
# held is under way, and whoever has another one in hand is about to begin a refresh, or have it due.
_MAKE_DUE = """
with named as (
    select source_key, refresh_id, held_until is not null as is_held, failures > 0 as is_failing
    from source_states join sources using (source_key)
    where ($1::text[] is null or source_key = any($1))
        and coalesce((definition->>'enabled')::boolean, true)
), free as (
    select
        source_key, refresh_id, coalesce(held_until > clock_timestamp(), false) as is_held
    from source_states
    where source_key in (select source_key from named)
    for update skip locked
), moved as (
    update source_states set next_attempt_at = least(next_attempt_at, $2)
    from free
    where source_states.source_key = free.source_key and not free.is_held
), found as (
    select
        source_key, is_failing,
        coalesce(free.is_held, named.is_held) as is_held,
        coalesce(free.refresh_id, named.refresh_id) as refresh_id
    from named left join free using (source_key)
)
select
    source_key, is_held, is_failing,
    refresh_id + case when is_held then 0 else 1 end as refresh_id
from found
order by source_key
"""

# Of the refresh that was waited for, once nothing newer is under way, or of a newer one: where a
# process died, what the next one came to. A source that is gone or switched off has no answer.
_ANSWERS = """
select asked.source_key, audit.audit_id, state.source_key is null as is_gone
from unnest($1::text[], $2::bigint[]) as asked (source_key, refresh_id)
left join (
    select source_states.*
    from source_states join sources using (source_key)
    where held_until is not null or coalesce((definition->>'enabled')::boolean, true)
) as state on state.source_key = asked.source_key
left join lateral (
    select audit_id, refresh_id
    from source_audits
    where source_audits.source_key = asked.source_key
    order by audit_id desc
    limit 1
) as audit
    on audit.refresh_id > asked.refresh_id
    or (audit.refresh_id = asked.refresh_id and audit.refresh_id = state.refresh_id)
where audit.audit_id is not null or state.source_key is null
"""

# A source before its state, as everybody does who locks both.
_SOURCE = "select definition, version from sources where source_key = $1 for key share"
_TAKE = """
select *, held_until is not null as was_abandoned, held_until - started_at as held_for
from source_states
where source_key = $1
    and next_attempt_at <= $2
    and (held_until is null or held_until <= clock_timestamp())
for update skip locked
"""
_HOLD = """
update source_states
set refresh_id = refresh_id + 1, held_until = clock_timestamp() + $2, held_by = $3,
    started_at = $4, progress = '{}', breaker = $5
where source_key = $1
"""
_SKIP = """
update source_states
set refresh_id = refresh_id + 1, held_until = null, held_by = null, progress = null,
    started_at = $2, next_attempt_at = $3
where source_key = $1
"""
_RENEW = """
update source_states
set held_until = clock_timestamp() + $4, progress = $5
from sources
where source_states.source_key = $1
    and source_states.refresh_id = $2
    and sources.source_key = source_states.source_key
    and sources.version = $3
returning true
"""
# Not as one that came to its end: the next claim tells that nothing came of it.
_ABANDON = """
update source_states set held_until = clock_timestamp()
where source_key = $1 and refresh_id = $2 and held_until > clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to refresh a source, as it was defined by `version`, for the time of `HOLD`.

    `due_at` is when this was to begin, `records` how many the source had.
    """

    source: Source
    version: int
    refresh_id: int
    due_at: datetime
    started_at: datetime
    breaker: BreakerState
    validators: Validators | None
    records: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A refresh that was due while the breaker of its source was open."""

    key: str
    audit_id: int


@dataclass(frozen=True, slots=True)
class Due:
    """A source that is to be refreshed; `is_failing`: its last refresh failed."""

    key: str
    is_failing: bool


@dataclass(frozen=True, slots=True)
class Awaited(Due):
    """A source that is due or held, and the number of the refresh that is to be waited for."""

    refresh_id: int
    is_held: bool


@dataclass(frozen=True, slots=True)
class Room:
    """How many sources may be taken up: of those that did well the last time, and of the others.

    `taken` are the keys of those that are in hand already.
    """

    well: int
    failing: int
    taken: Sequence[str] = ()


async def due_sources(engine: AsyncEngine, now: datetime, room: Room) -> list[Due]:
    """Sources that are due and not held: those that did well, and then those that failed.

    Of each those that are due longest first, as far as there is room for them.
    """
    wanted = (list(room.taken), room.well, room.failing)
    async with driver_connection(engine) as connection:
        rows = await connection.fetch(_DUE, now, *wanted)
    return [Due(row["source_key"], row["is_failing"]) for row in rows]


async def make_due(engine: AsyncEngine, keys: Sequence[str] | None, now: datetime) -> list[Awaited]:
    """Make sources (None: all) due at once, but for those that are held, and name them.

    Those that are switched off, or that there are not, are left out.
    """
    async with source_transaction(engine) as connection:
        rows = await connection.fetch(_MAKE_DUE, None if keys is None else list(keys), now)
    return [
        Awaited(row["source_key"], row["is_failing"], row["refresh_id"], row["is_held"])
        for row in rows
    ]


async def answers_of(engine: AsyncEngine, awaited: Sequence[Awaited]) -> dict[str, int | None]:
    """The audits of those that have ended, by key; None for a source that is no more refreshed."""
    keys, numbers = [one.key for one in awaited], [one.refresh_id for one in awaited]
    async with driver_connection(engine) as connection:
        rows = await connection.fetch(_ANSWERS, keys, numbers)
    return {row["source_key"]: row["audit_id"] for row in rows}


async def claim(
    engine: AsyncEngine, key: str, now: datetime, holder: str
) -> Claim | Skipped | None:
    """The right to refresh a source that is due; None where it is not, or somebody holds it."""
    async with source_transaction(engine) as connection:
        defined = await connection.fetchrow(_SOURCE, key)
        state = await connection.fetchrow(_TAKE, key, now) if defined else None
        if defined is None or state is None:
            return None
        source = msgspec.convert(defined["definition"], Source)
        if not source.enabled:
            return None
        if state["was_abandoned"]:
            await write_audit(connection, _abandoned(key, state))
        kept = KeptBreaker(BreakerState(state["breaker"]), state["failures"], state["opened_at"])
        begun = kept.begun(now, timedelta(seconds=source.breaker_seconds))
        refresh_id = state["refresh_id"] + 1
        if begun is None:
            await connection.execute(_SKIP, key, now, next_due(source, now))
            skipped = FetchOutcome.SKIPPED_BREAKER_OPEN
            attempt = Attempt(key, refresh_id, now, timedelta(0), skipped)
            return Skipped(key, await write_audit(connection, attempt))
        await connection.execute(_HOLD, key, HOLD, holder, now, begun.state.value)
    is_same = state["validators"] and state["validators_version"] == defined["version"]
    return Claim(
        source=source,
        version=defined["version"],
        refresh_id=refresh_id,
        due_at=state["next_attempt_at"],
        started_at=now,
        breaker=begun.state,
        validators=msgspec.convert(state["validators"], Validators) if is_same else None,
        records=state["records"],
    )


def _abandoned(key: str, state: asyncpg.Record) -> Attempt:
    started_at, held_for = state["started_at"], state["held_for"]
    return Attempt(
        key,
        state["refresh_id"],
        started_at,
        max(held_for, timedelta(0)),
        FetchOutcome.FAILURE,
        "nothing came of it: the process at work ended, or could not reach the ledger any more",
    )


async def renew(engine: AsyncEngine, claimed: Claim, progress: Progress, *, seconds: float) -> bool:
    """Hold a source on and show how far the refresh has come.

    False where it is ours no more: another process has it, or it was changed or deleted.
    """
    async with driver_connection(engine, seconds) as connection:
        row: Any = await connection.fetchval(
            _RENEW,
            claimed.source.key,
            claimed.refresh_id,
            claimed.version,
            HOLD,
            msgspec.json.encode(progress).decode(),
        )
    return row is not None


async def abandon(engine: AsyncEngine, claimed: Claim, *, seconds: float) -> None:
    """Give a claim up, so that another process need not wait until it ends by itself."""
    async with driver_connection(engine, seconds) as connection:
        await connection.execute(_ABANDON, claimed.source.key, claimed.refresh_id)
