"""The change feed: which batches the ledger holds after a watermark, and their events as a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import driver_connection, ledger_errors
from data.queries import Watermark

MAX_BATCHES = 2_000

# Times travel as microseconds since 1970: exact, and quick to read.
_EVENTS = """
select
    e.event_id,
    e.site_id,
    e.event_type,
    (extract(epoch from e.occurred_at) * 1000000)::bigint,
    (extract(epoch from e.received_at) * 1000000)::bigint,
    e.user_id,
    e.visitor_id,
    e.session_id,
    e.url,
    e.path,
    e.referrer,
    e.properties::text,
    b.position,
    e.ordinal
from ingest_batches as b
join events as e on e.batch_id = b.batch_id
where b.position > $1 and b.position <= $2
order by b.position, e.ordinal
"""

# Always quoted, so that the mark for a missing value can never be mistaken for a text.
_TEXTS = (
    "site_id",
    "event_type",
    "user_id",
    "visitor_id",
    "session_id",
    "url",
    "path",
    "referrer",
    "properties",
)

# `now()` is taken before the statement's snapshot, so everything committed before it is seen. On
# a standby the word is the last replayed commit's: what came after it is not here yet. That one is
# looked up after the snapshot, so it holds for the next statement's.
_STATE = """
select
    pg_is_in_recovery() as is_standby,
    case
        when pg_is_in_recovery() then coalesce(pg_last_xact_replay_timestamp(), to_timestamp(0))
        else now()
    end as through,
    (select max(position) from ingest_batches) as newest,
    known.batch_id as known_batch_id,
    known.committed_at as known_committed_at
from (select 1) as one
left join ingest_batches as known on known.position = $1
"""

_BATCHES = """
select position, batch_id, events, committed_at
from ingest_batches
where position > $1
order by position
limit $2
"""


@dataclass(frozen=True, slots=True)
class FeedState:
    """The feed as a connection sees it.

    Every event committed before `through` belongs to a position up to `newest` (0: none yet).
    `known` is what the feed has at the position that was asked about, None if it has nothing.
    """

    is_standby: bool
    through: datetime
    newest: int
    known: Watermark | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Complete batches in a row: after `after`, up to and with `last`; `events` in all."""

    after: int
    last: Watermark
    events: int


async def ledger_id(engine: AsyncEngine) -> UUID:
    """Which ledger this is; another database has another id."""
    with ledger_errors():
        async with engine.connect() as connection:
            found: UUID = (
                await connection.execute(text("select ledger_id from ledger"))
            ).scalar_one()
            return found


async def feed_state(engine: AsyncEngine, position: int) -> FeedState:
    """The feed's end, and what it holds at `position`."""
    async with driver_connection(engine) as connection:
        row = await connection.fetchrow(_STATE, position)
        through = row["through"]
        if row["is_standby"]:
            row = await connection.fetchrow(_STATE, position)
    known = None
    if row["known_batch_id"] is not None:
        known = Watermark(position, row["known_batch_id"], row["known_committed_at"])
    return FeedState(row["is_standby"], through, row["newest"] or 0, known)


async def next_slice(engine: AsyncEngine, after: int, *, most_events: int) -> Slice | None:
    """The batches after a position, as many as hold `most_events`; at least one if there is any."""
    async with driver_connection(engine) as connection:
        batches = await connection.fetch(_BATCHES, after, MAX_BATCHES)
    if not batches:
        return None
    events, last = 0, batches[0]
    for batch in batches:
        if events and events + batch["events"] > most_events:
            break
        events, last = events + batch["events"], batch
    watermark = Watermark(last["position"], last["batch_id"], last["committed_at"])
    return Slice(after, watermark, events)


async def copy_slice(engine: AsyncEngine, piece: Slice, target: Path) -> None:
    r"""Write the events of a slice to a CSV file, in order of arrival.

    Columns: event_id, site_id, event_type, occurred_at, received_at, user_id, visitor_id,
    session_id, url, path, referrer, properties, position, ordinal. Times are microseconds since
    1970 in UTC; a missing value is an unquoted \N; there is no header.
    """
    async with driver_connection(engine) as connection:
        with target.open("wb") as file:
            await connection.copy_from_query(
                _EVENTS,
                piece.after,
                piece.last.position,
                output=file,
                format="csv",
                null=r"\N",
                force_quote=_TEXTS,
            )
