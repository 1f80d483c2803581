"""The write: events and rejections of one group into the ledger, in one statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection
from data.postgres.engine import LedgerRefused, driver_connection

MAX_GROUP_EVENTS = 20_000
# migrations/sql/0008_append_events.sql says what it does, and why it is one statement.
_APPEND = """
select taken_position, known_ordinals
from append_events(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20
)
"""
_EVENT_COLUMNS = 13
_REJECTION_COLUMNS = 7


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
    first = _first_of_each(events)
    rows = [_row(ordinal, events[ordinal]) for ordinal in first]
    rejected = [_rejected_row(rejection) for rejection in rejections]
    columns = [*_columns(rows, _EVENT_COLUMNS), *_columns(rejected, _REJECTION_COLUMNS)]
    async with driver_connection(engine, seconds) as connection:
        answer = await connection.fetchrow(_APPEND, *columns)
    assert answer is not None  # a function with OUT parameters gives one row
    fresh = [False] * len(events)
    for ordinal in set(first).difference(answer["known_ordinals"]):
        fresh[ordinal] = True
    return Appended(fresh, answer["taken_position"])


def _first_of_each(events: Sequence[Event]) -> Collection[int]:
    """Where each id stands first."""
    first: dict[tuple[UUID, str], int] = {}
    for index, event in enumerate(events):
        first.setdefault((event.event_id, event.site_id), index)
    return first.values()


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


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


def _rejected_row(rejection: Rejection) -> tuple[object, ...]:
    return (
        rejection.site_id,
        rejection.event_id,
        rejection.code.value,
        rejection.message,
        rejection.payload,
        rejection.payload_bytes,
        rejection.received_at,
    )


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
