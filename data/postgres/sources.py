"""Sources in the ledger: how each is defined, and how it fares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Row, Select, cast, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.breaker import BreakerState, KeptBreaker
from data.postgres.engine import ledger_errors
from data.postgres.tables import source_states, sources
from data.sources.fetched import Progress
from data.sources.source import Source


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source fares. `is_held`: a refresh is under way, which is `refresh_id`.

    `started_at` is the beginning of the newest refresh, `progress` how far the one under way has
    come. `next_attempt_at` is None while the source is switched off. `last_complete_at` is the
    newest refresh that saw the whole set. `records` have not vanished; `failures` are those in a
    row.
    """

    refresh_id: int
    is_held: bool
    started_at: datetime | None
    progress: Progress | None
    next_attempt_at: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_complete_at: datetime | None
    records: int
    breaker: BreakerState
    failures: int


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source as the ledger knows it; `is_declared`: it stands in the file of sources."""

    source: Source
    is_declared: bool
    version: int
    created_at: datetime
    updated_at: datetime
    state: SourceState


def _stored() -> Select[Any]:
    # A refresh holds its source by the ledger's clock: the only one that all processes share.
    is_held = func.coalesce(source_states.c.held_until > func.clock_timestamp(), False)
    return select(
        sources.c.definition,
        sources.c.is_declared,
        sources.c.version,
        sources.c.created_at,
        sources.c.updated_at,
        source_states,
        is_held.label("is_held"),
    ).join_from(sources, source_states)


def _source_of(row: Row[Any], now: datetime) -> StoredSource:
    source = msgspec.convert(row.definition, Source)
    breaker = KeptBreaker(BreakerState(row.breaker), row.failures, row.opened_at)
    return StoredSource(
        source=source,
        is_declared=row.is_declared,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        state=SourceState(
            refresh_id=row.refresh_id,
            is_held=row.is_held,
            started_at=row.started_at,
            progress=msgspec.convert(row.progress or {}, Progress) if row.is_held else None,
            next_attempt_at=row.next_attempt_at if source.enabled else None,
            last_success_at=row.last_success_at,
            last_failure_at=row.last_failure_at,
            last_complete_at=row.last_complete_at,
            records=row.records,
            breaker=breaker.shown(now, timedelta(seconds=source.breaker_seconds)),
            failures=row.failures,
        ),
    )


async def _read(engine: AsyncEngine, statement: Select[Any], now: datetime) -> list[StoredSource]:
    with ledger_errors():
        async with engine.connect() as connection:
            return [_source_of(row, now) for row in await connection.execute(statement)]


async def all_sources(engine: AsyncEngine, now: datetime) -> list[StoredSource]:
    """Every source, in order of key, with its breaker as it is at `now`."""
    return await _read(engine, _stored().order_by(sources.c.source_key), now)


async def sources_by_keys(
    engine: AsyncEngine, keys: Sequence[str], now: datetime
) -> dict[str, StoredSource]:
    """Those of the sources that there are."""
    statement = _stored().where(sources.c.source_key == func.any(list(keys)))
    return {stored.source.key: stored for stored in await _read(engine, statement, now)}


async def source_by_key(engine: AsyncEngine, key: str, now: datetime) -> StoredSource | None:
    """The source of a key."""
    return (await sources_by_keys(engine, [key], now)).get(key)


async def save_source(
    connection: AsyncConnection, source: Source, now: datetime, *, is_declared: bool
) -> StoredSource:
    """Add a source or change the one of its key; what is new or changed is due at once.

    A change gives it a new version, which ends a refresh that is under way (what was fetched by
    another definition is not kept), and closes its breaker. Saved as it is, nothing changes.
    """
    definition = msgspec.json.decode(msgspec.json.encode(source))
    values = {"site_id": source.site_id, "definition": definition, "is_declared": is_declared}
    known = await connection.execute(
        select(sources.c.definition, sources.c.is_declared)
        .where(sources.c.source_key == source.key)
        .with_for_update(key_share=True)
    )
    row = known.one_or_none()
    if row is None:
        await _add(connection, source.key, values, now)
    elif row.definition != definition or row.is_declared != is_declared:
        is_other = row.definition != definition
        await _change(connection, source.key, values, now, is_other=is_other)
    statement = _stored().where(sources.c.source_key == source.key)
    return _source_of((await connection.execute(statement)).one(), now)


async def _add(
    connection: AsyncConnection, key: str, values: dict[str, Any], now: datetime
) -> None:
    # Somebody else may add the same key at this moment: then this one overwrites it.
    added = insert(sources).values(source_key=key, created_at=now, updated_at=now, **values)
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=["source_key"],
            set_=values | {"version": sources.c.version + 1, "updated_at": now},
        )
    )
    # Beyond the numbers of a source of this key that was deleted: what somebody still fetches for
    # that one is none of this one.
    begun = cast(func.date_part("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
    state = insert(source_states).values(source_key=key, refresh_id=begun, next_attempt_at=now)
    await connection.execute(state.on_conflict_do_nothing())


async def _change(
    connection: AsyncConnection,
    key: str,
    values: dict[str, Any],
    now: datetime,
    *,
    is_other: bool,
) -> None:
    changed = update(sources).where(sources.c.source_key == key)
    if not is_other:
        await connection.execute(changed.values(values))
        return
    await connection.execute(
        changed.values(values | {"version": sources.c.version + 1, "updated_at": now})
    )
    closed = KeptBreaker()
    await connection.execute(
        update(source_states)
        .where(source_states.c.source_key == key)
        .values(
            next_attempt_at=now,
            breaker=closed.state.value,
            failures=closed.failures,
            opened_at=closed.opened_at,
        )
    )


async def delete_source(connection: AsyncConnection, key: str) -> bool:
    """Delete a source with its records and audits; False if there is none."""
    result = await connection.execute(delete(sources).where(sources.c.source_key == key))
    return result.rowcount == 1


async def lock_declarations(connection: AsyncConnection) -> None:
    """Until the end of the transaction no other process brings the file of sources in."""
    await connection.execute(text("select pg_advisory_xact_lock(7077, 6)"))
