"""The write: events and rejections of one group into the ledger, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection
from data.postgres.engine import LedgerRefused, driver_connection

MAX_GROUP_EVENTS = 20_000
FEW_EVENTS = 100

EVENT_COLUMNS = (
    "batch_id",
    "ordinal",
    "site_id",
    "event_id",
    "event_type",
    "occurred_at",
    "received_at",
    "user_id",
    "visitor_id",
    "session_id",
    "url",
    "path",
    "referrer",
    "properties",
)

# Ordered, so that two transactions that bring the same ids wait for one another instead of
# locking each other out.
_CLAIM_IDS = """
with claimed as (
    insert into event_ids (event_id, site_id)
    select event_id, site_id
    from unnest($1::uuid[], $2::text[]) as sent (event_id, site_id)
    order by event_id, site_id
    on conflict do nothing
    returning event_id, site_id
), batch as (
    select nextval('batch_ids') as batch_id where exists (select from claimed)
)
select claimed.event_id, claimed.site_id, batch.batch_id from claimed, batch
"""

# The same for a few events in a single trip to the server, commit included, which halves the time
# of a commit. Not for many: the join would be a loop in a loop. The position comes last here, too:
# it is taken from the count of what was added.
_APPEND_FEW = """
with sent as (
    select *
    from unnest(
        $1::smallint[], $2::text[], $3::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]
    ) as sent (
        ordinal, site_id, event_id, event_type, occurred_at, received_at,
        user_id, visitor_id, session_id, url, path, referrer, properties
    )
), claimed as (
    insert into event_ids (event_id, site_id)
    select event_id, site_id from sent order by event_id, site_id
    on conflict do nothing
    returning event_id, site_id
), batch as (
    select nextval('batch_ids') as batch_id where exists (select from claimed)
), added as (
    insert into events
    select
        batch_id, ordinal, site_id, event_id, event_type, occurred_at, received_at,
        user_id, visitor_id, session_id, url, path, referrer, properties::json
    from sent join claimed using (event_id, site_id), batch
    returning ordinal, batch_id
), placed as (
    select (take_position(batch_id, events)).taken_position
    from (select batch_id, count(*)::integer as events from added group by batch_id) as counted
)
select added.ordinal, placed.taken_position from added, placed
"""

_KEEP_REJECTED = """
insert into rejected_events
    (site_id, event_id, code, message, payload, payload_bytes, received_at)
select *
from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[],
            $7::timestamptz[])
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """What a commit did: which of the events were new, and its place in the change feed.

    `fresh[i]` belongs to event i. `position` is None where no event was new.
    """

    fresh: list[bool]
    position: int | None


# `append` with the engine given, or something like it.
Append = Callable[[Sequence[Event], Sequence[Rejection]], Awaitable[Appended]]


async def append(
    engine: AsyncEngine,
    events: Sequence[Event],
    rejections: Sequence[Rejection],
    *,
    seconds: float | None = None,
) -> Appended:
    """Commit events and rejections together; an id that the ledger knows is not fresh.

    Of several events with one id the first counts. At most `MAX_GROUP_EVENTS` events, and
    `seconds` for the work on a connection. Raises
    `LedgerUnavailable`, in which case the outcome is unknown and sending again is safe, or
    `LedgerRefused`, in which case nothing was stored.
    """
    try:
        return await _append(engine, events, rejections, seconds)
    except LedgerRefused as refused:
        if not isinstance(refused.__cause__, asyncpg.CheckViolationError):
            raise
        # No partition for the month of arrival: the clock is ahead of the job that makes them.
        months = [event.received_at.date() for event in events]
        await make_partitions(engine, min(months), max(months))
        return await _append(engine, events, rejections, seconds)


async def _append(
    engine: AsyncEngine,
    events: Sequence[Event],
    rejections: Sequence[Rejection],
    seconds: float | None,
) -> Appended:
    if 0 < len(events) <= FEW_EVENTS and not rejections:
        return await _append_few(engine, events, seconds)
    async with driver_connection(engine, seconds) as connection, connection.transaction():
        if rejections:
            await connection.execute(_KEEP_REJECTED, *_rejected_columns(rejections))
        if not events:
            return Appended([], None)
        fresh, batch_id = await _claim(connection, events)
        if batch_id is None:
            return Appended(fresh, None)
        rows = [
            (batch_id, *_row(ordinal, event))
            for ordinal, (event, is_fresh) in enumerate(zip(events, fresh, strict=True))
            if is_fresh
        ]
        await connection.copy_records_to_table("events", records=rows, columns=EVENT_COLUMNS)
        # Last before the commit: its lock makes positions follow the order of commits.
        position = await connection.fetchval(
            "select taken_position from take_position($1, $2)", batch_id, len(rows)
        )
        return Appended(fresh, position)


async def _append_few(
    engine: AsyncEngine, events: Sequence[Event], seconds: float | None
) -> Appended:
    first = _first_of_each(events)
    rows = [_row(ordinal, events[ordinal]) for ordinal in first.values()]
    columns = [list(column) for column in zip(*rows, strict=True)]
    async with driver_connection(engine, seconds) as connection:
        added = await connection.fetch(_APPEND_FEW, *columns)
    fresh = [False] * len(events)
    for ordinal, _ in added:
        fresh[ordinal] = True
    return Appended(fresh, added[0][1] if added else None)


def _row(ordinal: int, event: Event) -> tuple[object, ...]:
    return (
        ordinal,
        event.site_id,
        event.event_id,
        event.event_type,
        event.occurred_at,
        event.received_at,
        event.user_id,
        event.visitor_id,
        event.session_id,
        event.url,
        event.path,
        event.referrer,
        event.properties,
    )


def _first_of_each(events: Sequence[Event]) -> dict[tuple[UUID, str], int]:
    """Where each id stands first."""
    first: dict[tuple[UUID, str], int] = {}
    for index, event in enumerate(events):
        first.setdefault((event.event_id, event.site_id), index)
    return first


async def _claim(
    connection: asyncpg.Connection, events: Sequence[Event]
) -> tuple[list[bool], int | None]:
    """For each event whether its id is new to the ledger and to the group so far.

    Also the number of the batch for those that are; None if none is.
    """
    first = _first_of_each(events)
    claimed = await connection.fetch(
        _CLAIM_IDS, [key[0] for key in first], [key[1] for key in first]
    )
    batch_id = claimed[0][2] if claimed else None
    if len(claimed) == len(events):
        return [True] * len(events), batch_id
    fresh = [False] * len(events)
    for event_id, site_id, _ in claimed:
        fresh[first[event_id, site_id]] = True
    return fresh, batch_id


def _rejected_columns(rejections: Sequence[Rejection]) -> tuple[list[object], ...]:
    rows = [
        (r.site_id, r.event_id, r.code.value, r.message, r.payload, r.payload_bytes, r.received_at)
        for r in rejections
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))


async def make_partitions(engine: AsyncEngine, first: date, last: date) -> int:
    """Make the partitions of all months from one day's to another's; how many were missing."""
    async with driver_connection(engine) as connection:
        made: int = await connection.fetchval("select make_event_partitions($1, $2)", first, last)
        return made


async def make_partitions_ahead(engine: AsyncEngine, now: datetime) -> int:
    """Make the partitions from last month's to those of the next three months."""
    return await make_partitions(
        engine, (now - timedelta(days=31)).date(), (now + timedelta(days=93)).date()
    )
