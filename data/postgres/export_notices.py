"""Notices in the ledger: added with what they tell of, and sent by whoever holds them.

A notice is sent at least once. Who is killed after sending it and before saying so here has it sent
again, under the same id, by which receivers know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.notices import Notice
from data.postgres.engine import driver_connection

# Only where there is somebody to tell.
_ADD = text(
    """
    insert into export_notices (notice_id, destination_id, kind, body, created_at, next_attempt_at)
    select :notice_id, destination_id, :kind, :body, :at, :at
    from export_destinations
    where destination_id = :destination_id
        and deleted_at is null
        and definition->>'webhook_url' is not null
    returning notice_id
    """
)

# One of a destination at a time, so that a webhook that hangs holds up its own notices alone; and
# those that failed come after those that nobody has tried yet.
_CLAIM = """
with due as (
    select distinct on (destination_id) notice_id, attempts, next_attempt_at
    from export_notices as notice
    where next_attempt_at <= $1
        and not exists (
            select from export_notices as held
            where held.destination_id = notice.destination_id
                and held.next_attempt_at is not null
                and held.held_until > clock_timestamp()
        )
    order by destination_id, next_attempt_at
), chosen as (
    select notice_id from due order by attempts > 0, next_attempt_at limit $2
), held as (
    update export_notices as notice
    set hold_id = hold_id + 1, held_until = clock_timestamp() + $3
    from chosen
    where notice.notice_id = chosen.notice_id
        -- Also where another process was faster by a moment.
        and notice.next_attempt_at <= $1
        and (notice.held_until is null or notice.held_until <= clock_timestamp())
    returning notice.*
)
select
    held.notice_id, held.destination_id, held.hold_id, held.kind, held.body, held.created_at,
    held.attempts, definition->>'webhook_url' as url, webhook_secret,
    deleted_at is not null as is_deleted
from held join export_destinations using (destination_id)
"""
# Only by whoever holds it.
_END = """
update export_notices
set held_until = null, attempts = attempts + 1, http_status = $3, error = $4,
    next_attempt_at = $5, delivered_at = $6, given_up_at = $7
where notice_id = $1 and hold_id = $2 and next_attempt_at is not null
returning true
"""
_EXPIRE = """
delete from export_notices
where notice_id = any (
    array (
        select notice_id from export_notices
        where created_at < $1 and next_attempt_at is null
        limit $2
    )
)
"""


@dataclass(frozen=True, slots=True)
class ClaimedNotice:
    """A notice in hand, with where it goes and the sealed secret that it is signed by.

    `attempts` were made before; `url` is None where nobody is to be told any more.
    """

    notice_id: UUID
    destination_id: UUID
    hold_id: int
    kind: str
    body: bytes
    created_at: datetime
    attempts: int
    url: str | None = field(repr=False)
    sealed_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, of which just one moment is given; `error` is a sentence for people."""

    delivered_at: datetime | None = None
    given_up_at: datetime | None = None
    next_attempt_at: datetime | None = None
    http_status: int | None = None
    error: str | None = None


async def add_notice(connection: AsyncConnection, notice: Notice) -> UUID | None:
    """The id of a notice that is told if the transaction is committed.

    None where its destination has no webhook, or is deleted: nobody is told anything then.
    """
    values = {
        "notice_id": uuid4(),
        "kind": notice.kind.value,
        "body": notice.body,
        "at": notice.at,
        "destination_id": notice.told.destination_id,
    }
    added: UUID | None = await connection.scalar(_ADD, values)
    return added


async def claim_notices(
    engine: AsyncEngine, now: datetime, *, limit: int, hold: timedelta
) -> list[ClaimedNotice]:
    """Notices that are due, one of a destination at the most; nobody else has them for `hold`.

    Raises `LedgerUnavailable`.
    """
    async with driver_connection(engine) as connection:
        rows = await connection.fetch(_CLAIM, now, limit, hold)
    return [
        ClaimedNotice(
            notice_id=row["notice_id"],
            destination_id=row["destination_id"],
            hold_id=row["hold_id"],
            kind=row["kind"],
            body=row["body"].encode(),
            created_at=row["created_at"],
            attempts=row["attempts"],
            url=None if row["is_deleted"] else row["url"],
            sealed_secret=row["webhook_secret"],
        )
        for row in rows
    ]


async def end_attempt(engine: AsyncEngine, claimed: ClaimedNotice, end: AttemptEnd) -> bool:
    """Whether it was noted; False where the hold had ended and another one has the notice.

    Raises `LedgerUnavailable`.
    """
    values: Iterable[object] = (
        end.http_status,
        end.error,
        end.next_attempt_at,
        end.delivered_at,
        end.given_up_at,
    )
    async with driver_connection(engine) as connection:
        row: object = await connection.fetchval(_END, claimed.notice_id, claimed.hold_id, *values)
    return row is not None


async def expire_notices(engine: AsyncEngine, before: datetime, *, limit: int) -> int:
    """How many notices of before a moment were deleted just now; not those that still wait."""
    async with driver_connection(engine) as connection:
        tag: str = await connection.execute(_EXPIRE, before, limit)
    return int(tag.rpartition(" ")[2])
