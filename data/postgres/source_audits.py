"""Attempts to refresh sources, one row for each, and for how long such rows are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import driver_connection
from data.sources.fetched import Effort
from data.sources.records import FetchOutcome

# The server ends the session of a process that was frozen with a row in its hands, so that nobody
# waits for it. Rows are found by keys; the planner would read whole tables before it knows them.
_SETTINGS = """
select
    set_config('lock_timeout', '5s', true),
    set_config('idle_in_transaction_session_timeout', '10s', true),
    set_config('enable_seqscan', 'off', true)
"""

_AUDIT = """
insert into source_audits (
    source_key, refresh_id, started_at, duration_ms, outcome, error, tries, pages, bytes,
    http_status, is_complete, seen, added, changed, vanished
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
returning audit_id
"""
_MAX_ERROR = 2_000

_OLD_CHANGES = """
delete from source_changes
where change_id = any (array (select change_id from source_changes where at < $1 limit $2))
"""
_OLD_AUDITS = """
delete from source_audits
where audit_id = any (
    array (select audit_id from source_audits where started_at < $1 limit $2)
)
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a refresh found: records seen, and how many of them are new, changed or gone."""

    seen: int = 0
    added: int = 0
    changed: int = 0
    vanished: int = 0
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to refresh a source that has ended; `error` says why, where it failed."""

    key: str
    refresh_id: int
    started_at: datetime
    duration: timedelta
    outcome: FetchOutcome
    error: str | None = None
    effort: Effort = field(default_factory=Effort)
    tally: Tally = field(default_factory=Tally)


@asynccontextmanager
async def source_transaction(
    engine: AsyncEngine, seconds: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """One unit of work on sources, of `seconds` at most. Raises `LedgerUnavailable`."""
    async with driver_connection(engine, seconds) as connection, connection.transaction():
        await connection.fetchrow(_SETTINGS)
        yield connection


async def write_audit(connection: asyncpg.Connection, attempt: Attempt) -> int:
    """The id of the audit of an attempt, which is one row."""
    effort, tally, error = attempt.effort, attempt.tally, attempt.error
    if error is not None:
        # What a source sends may be part of it, and PostgreSQL takes no such characters.
        error = error.replace("\0", "").encode(errors="replace").decode()[:_MAX_ERROR]
    audit_id: int = await connection.fetchval(
        _AUDIT,
        attempt.key,
        attempt.refresh_id,
        attempt.started_at,
        min(attempt.duration // timedelta(milliseconds=1), 2**31 - 1),
        attempt.outcome.value,
        error,
        effort.tries,
        effort.pages,
        effort.bytes,
        effort.http_status,
        tally.is_complete,
        tally.seen,
        tally.added,
        tally.changed,
        tally.vanished,
    )
    return audit_id


async def expire_changes(engine: AsyncEngine, before: datetime, *, limit: int) -> int:
    """How many changes of records, of before a moment, were deleted just now: `limit` at most."""
    return await _expire(engine, _OLD_CHANGES, before, limit)


async def expire_audits(engine: AsyncEngine, before: datetime, *, limit: int) -> int:
    """How many audits of attempts that began before a moment were deleted just now."""
    return await _expire(engine, _OLD_AUDITS, before, limit)


async def _expire(engine: AsyncEngine, statement: str, before: datetime, limit: int) -> int:
    async with source_transaction(engine) as connection:
        status = await connection.execute(statement, before, limit)
    return int(status.rsplit(" ", 1)[1])
