"""The admin log in the ledger: adding to it, reading it, and proving its chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.admin_log import (
    NOTHING,
    Actor,
    Break,
    Entry,
    Head,
    LoggedEntry,
    break_at,
    break_before,
    follow,
)
from data.postgres.engine import ledger_errors, transaction
from data.postgres.tables import admin_log

# One adds at a time, until its transaction has ended: the next one sees this entry, so positions
# follow the order of commits and have no gaps. (4 is the lock of the leader, who holds it on.)
_LOCK = text("select pg_advisory_xact_lock(7077, 5)")
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which entries are asked for, newest first; None leaves a bound out.

    `since` is in, `until` is not, `before` is a position.
    """

    first: int
    site_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What walking a log found: so many entries, the last good one, and the break behind it."""

    entries: int
    newest: Head
    broken: Break | None


async def record(connection: AsyncConnection, entry: Entry) -> LoggedEntry:
    """Add an entry; it stands or falls with the connection's transaction.

    It must be the transaction's last step: who adds next waits for the end of this transaction.
    """
    await connection.execute(_LOCK)
    logged = follow(await newest_head(connection), entry)
    await connection.execute(
        insert(admin_log).values(
            position=logged.position,
            at=logged.at,
            actor_key_id=logged.actor.key_id,
            actor_name=logged.actor.name,
            site_id=logged.site_id,
            action=logged.action,
            target=logged.target,
            details=logged.details,
            previous_hash=logged.previous_hash,
            hash=logged.hash,
        )
    )
    return logged


async def record_alone(engine: AsyncEngine, entry: Entry) -> LoggedEntry:
    """Add an entry of something that was done outside of the ledger.

    Raises `LedgerUnavailable` or `LedgerRefused`.
    """
    async with transaction(engine) as connection:
        return await record(connection, entry)


async def newest_head(connection: AsyncConnection) -> Head:
    """The end of the log; `NOTHING` where it has no entries."""
    columns = admin_log.c
    statement = select(columns.position, columns.hash).order_by(columns.position.desc()).limit(1)
    row = (await connection.execute(statement)).one_or_none()
    return Head(row.position, row.hash) if row else NOTHING


async def log_page(engine: AsyncEngine, query: LogQuery) -> list[LoggedEntry]:
    """Entries, newest first."""
    columns = admin_log.c
    statement = select(admin_log).order_by(columns.position.desc()).limit(query.first)
    if query.site_id is not None:
        statement = statement.where(columns.site_id == query.site_id)
    if query.action is not None:
        statement = statement.where(columns.action == query.action)
    if query.since is not None:
        statement = statement.where(columns.at >= query.since)
    if query.until is not None:
        statement = statement.where(columns.at < query.until)
    if query.before is not None:
        statement = statement.where(columns.position < query.before)
    with ledger_errors():
        async with engine.connect() as connection:
            return [_entry(row) for row in await connection.execute(statement)]


async def prove(
    engine: AsyncEngine,
    start: Head = NOTHING,
    progress: Callable[[int], None] = lambda _: None,
) -> Proof:
    """Walk the log behind a head that is trusted, to its end or to the first break.

    `progress` is called with the number of entries walked. What is added meanwhile may be walked,
    too. Raises `LedgerUnavailable`.
    """
    head, entries = start, 0
    while page := await _next_page(engine, head):
        for logged in page:
            broken = break_before(logged, head)
            if broken is not None:
                return Proof(entries, head, broken)
            head = logged.head
            entries += 1
        progress(entries)
    return Proof(entries, head, None)


async def prove_head(engine: AsyncEngine, seen: Head) -> Break | None:
    """Whether the log still holds an entry that was its newest once; raises `LedgerUnavailable`."""
    columns = admin_log.c
    statement = select(columns.position, columns.hash).where(columns.position == seen.position)
    with ledger_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
            found = Head(row.position, row.hash) if row else None
            newest = NOTHING if found else await newest_head(connection)
    return break_at(seen, found, newest)


async def _next_page(engine: AsyncEngine, head: Head) -> Sequence[LoggedEntry]:
    columns = admin_log.c
    statement = (
        select(admin_log)
        .where(columns.position > head.position)
        .order_by(columns.position)
        .limit(_PAGE)
    )
    with ledger_errors():
        async with engine.connect() as connection:
            return [_entry(row) for row in await connection.execute(statement)]


def _entry(row: Row[Any]) -> LoggedEntry:
    return LoggedEntry(
        position=row.position,
        at=row.at,
        actor=Actor(row.actor_key_id, row.actor_name),
        site_id=row.site_id,
        action=row.action,
        target=row.target,
        details=row.details,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
