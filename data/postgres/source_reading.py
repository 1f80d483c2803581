"""Reading what sources brought: pages of records and audits, and what became of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import ledger_errors
from data.postgres.tables import source_audits, source_records, source_states, sources
from data.sources.records import (
    AuditsQuery,
    ChangeKind,
    FetchOutcome,
    RecordChange,
    RecordsQuery,
    StoredAudit,
    StoredRecord,
)

# A record that is not gone was in the newest refresh that saw the whole set, though it was written
# only when it changed.
_FETCHED_AT = case(
    (
        source_records.c.vanished_at.is_(None),
        func.greatest(source_records.c.seen_at, source_states.c.last_complete_at),
    ),
    else_=source_records.c.seen_at,
)

_HISTORIES = text("""
select asked.record_id, changes.at, changes.kind, changes.data
from unnest(cast(:record_ids as bigint[])) as asked (record_id)
cross join lateral (
    select change_id, at, kind, data::text as data
    from source_changes
    where source_changes.record_id = asked.record_id
    order by change_id desc
    limit :first
) as changes
order by asked.record_id, changes.change_id desc
""")

_LAST_AUDITS = text("""
select audits.*
from unnest(cast(:keys as text[])) as asked (source_key)
cross join lateral (
    select *
    from source_audits
    where source_audits.source_key = asked.source_key
    order by audit_id desc
    limit 1
) as audits
""")


async def records_page(engine: AsyncEngine, query: RecordsQuery) -> list[StoredRecord]:
    """Records, those that changed last first."""
    columns = source_records.c
    statement = _records().order_by(columns.changed_at.desc(), columns.record_id.desc())
    statement = statement.limit(query.first)
    if query.site_id is not None:
        statement = statement.where(columns.source_key.in_(_keys_of(query.site_id)))
    if query.source_key is not None:
        statement = statement.where(columns.source_key == query.source_key)
    if query.external_id is not None:
        statement = statement.where(columns.external_id == query.external_id)
    if query.since is not None:
        statement = statement.where(columns.changed_at >= query.since)
    if query.until is not None:
        statement = statement.where(columns.changed_at < query.until)
    if not query.include_vanished:
        statement = statement.where(columns.vanished_at.is_(None))
    if query.after is not None:
        place = tuple_(query.after.changed_at, query.after.record_id)
        statement = statement.where(tuple_(columns.changed_at, columns.record_id) < place)
    return [_record(row) for row in await _rows(engine, statement)]


async def records_by_ids(
    engine: AsyncEngine, record_ids: Sequence[int], site_id: str | None
) -> dict[int, StoredRecord]:
    """The records of these ids; with a site, those of its sources only."""
    statement = _records().where(source_records.c.record_id.in_(record_ids))
    if site_id is not None:
        statement = statement.where(source_records.c.source_key.in_(_keys_of(site_id)))
    return {row.record_id: _record(row) for row in await _rows(engine, statement)}


async def histories(
    engine: AsyncEngine, record_ids: Sequence[int], first: int
) -> dict[int, list[RecordChange]]:
    """What became of each record, the newest first, `first` changes of each at the most."""
    found: dict[int, list[RecordChange]] = {record_id: [] for record_id in record_ids}
    bound = {"record_ids": list(found), "first": first}
    with ledger_errors():
        async with engine.connect() as connection:
            for row in await connection.execute(_HISTORIES, bound):
                change = RecordChange(row.at, ChangeKind(row.kind), row.data)
                found[row.record_id].append(change)
    return found


async def audits_page(engine: AsyncEngine, query: AuditsQuery) -> list[StoredAudit]:
    """Audits, the newest first."""
    columns = source_audits.c
    statement = select(source_audits).order_by(columns.audit_id.desc()).limit(query.first)
    if query.site_id is not None:
        statement = statement.where(columns.source_key.in_(_keys_of(query.site_id)))
    if query.source_key is not None:
        statement = statement.where(columns.source_key == query.source_key)
    if query.outcome is not None:
        # As a literal, by which the planner knows the index of those that did not go well.
        outcome: ColumnElement[str] = literal_column(f"'{query.outcome.value}'")
        statement = statement.where(columns.outcome == outcome)
    if query.since is not None:
        statement = statement.where(columns.started_at >= query.since)
    if query.until is not None:
        statement = statement.where(columns.started_at < query.until)
    if query.before is not None:
        statement = statement.where(columns.audit_id < query.before)
    return [_audit(row) for row in await _rows(engine, statement)]


async def audits_by_ids(engine: AsyncEngine, audit_ids: Sequence[int]) -> list[StoredAudit]:
    """The audits of these ids, the oldest first."""
    columns = source_audits.c
    statement = select(source_audits).where(columns.audit_id.in_(audit_ids))
    return [_audit(row) for row in await _rows(engine, statement.order_by(columns.audit_id))]


async def last_audits(engine: AsyncEngine, keys: Sequence[str]) -> dict[str, StoredAudit]:
    """The newest audit of each of these sources that has one."""
    with ledger_errors():
        async with engine.connect() as connection:
            rows = await connection.execute(_LAST_AUDITS, {"keys": list(keys)})
            return {row.source_key: _audit(row) for row in rows}


def _records() -> Select[Any]:
    columns = source_records.c
    return select(
        columns.record_id,
        columns.source_key,
        columns.external_id,
        # As its text: numbers keep the digits that the source wrote.
        cast(columns.data, Text).label("data"),
        columns.first_seen_at,
        _FETCHED_AT.label("fetched_at"),
        columns.changed_at,
        columns.vanished_at,
    ).join(source_states, source_states.c.source_key == columns.source_key)


def _keys_of(site_id: str) -> Select[Any]:
    return select(sources.c.source_key).where(sources.c.site_id == site_id)


async def _rows(engine: AsyncEngine, statement: Select[Any]) -> Sequence[Row[Any]]:
    with ledger_errors():
        async with engine.connect() as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
            return rows


def _record(row: Row[Any]) -> StoredRecord:
    return StoredRecord(**row._mapping)


def _audit(row: Row[Any]) -> StoredAudit:
    return StoredAudit(
        audit_id=row.audit_id,
        source_key=row.source_key,
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        tries=row.tries,
        pages=row.pages,
        outcome=FetchOutcome(row.outcome),
        http_status=row.http_status,
        is_complete=row.is_complete,
        seen=row.seen,
        added=row.added,
        changed=row.changed,
        vanished=row.vanished,
        bytes=row.bytes,
        error=row.error,
    )
