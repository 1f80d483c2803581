"""How programs of before `append_events` brought events into the ledger; they may still run."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event
from data.postgres.append import make_partitions_ahead
from data.postgres.engine import driver_connection

_APPEND = """
with sent as (
    select *
    from unnest($1::smallint[], $2::text[], $3::uuid[], $4::text[], $5::timestamptz[],
        $6::timestamptz[], $7::text[])
        as sent (ordinal, site_id, event_id, event_type, occurred_at, received_at, user_id)
), claimed as (
    insert into event_ids (event_id, site_id)
    select event_id, site_id from sent order by event_id, site_id
    on conflict do nothing
    returning event_id, site_id
), batch as (
    select nextval('batch_ids') as batch_id where exists (select from claimed)
), added as (
    insert into events
        (batch_id, ordinal, site_id, event_id, event_type, occurred_at, received_at, user_id)
    select batch_id, ordinal, site_id, event_id, event_type, occurred_at, received_at, user_id
    from sent join claimed using (event_id, site_id), batch
    returning batch_id
)
select take_position(batch_id, count(*)::integer) from added group by batch_id
"""


async def append_as_before(
    engine: AsyncEngine, events: Sequence[Event], *, seconds: float | None = None
) -> None:
    """Commit a few events."""
    await make_partitions_ahead(engine, events[0].received_at)
    rows = [
        (n, e.site_id, e.event_id, e.event_type, e.occurred_at, e.received_at, e.user_id)
        for n, e in enumerate(events)
    ]
    async with driver_connection(engine, seconds) as connection:
        await connection.execute(_APPEND, *(list(column) for column in zip(*rows, strict=True)))
