"""What the ledger holds of an export: what a run is proved against before anybody can see it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from data.exports.layout import Selection
from data.exports.tally import Proof
from data.postgres.engine import StatementFailed, driver_connection
from data.postgres.feed import feed_state, next_slice

# A statement of a second or so, however long the stretch of the feed is.
_EVENTS_AT_ONCE = 200_000

# The halves of an id as signed numbers of 64 bits, whose bits are what counts.
_PROOF = """
select
    count(*) as events,
    bit_xor(('x' || translate(left(e.event_id::text, 18), '-', ''))::bit(64)::bigint) as upper,
    bit_xor(('x' || translate(right(e.event_id::text, 17), '-', ''))::bit(64)::bigint) as lower
from ingest_batches as b
join events as e on e.batch_id = b.batch_id
where b.position > $1 and b.position <= $2
    and e.site_id = $3
    and ($4::timestamptz is null or e.occurred_at >= $4)
    and ($5::timestamptz is null or e.occurred_at < $5)
"""
_HALF = 2**64


async def ledger_proof(engine: AsyncEngine, selection: Selection) -> Proof:
    """Number and checksum of the events of a selection, whatever its filter says.

    Raises `LedgerUnavailable`, also where a standby has not come as far as the selection goes.
    """
    newest = (await feed_state(engine, selection.through)).newest
    if newest < selection.through:
        # No outage: a replica that is asked right after a commit may be a moment behind.
        raise StatementFailed(
            f"this ledger is at position {newest}, the run goes up to {selection.through}"
        )
    proof, position = Proof(), selection.after
    while position < selection.through:
        piece = await next_slice(engine, position, most_events=_EVENTS_AT_ONCE)
        last = selection.through if piece is None else piece.last.position
        last = min(last, selection.through)
        proof += await _proof(engine, selection, position, last)
        position = last
    return proof


async def _proof(engine: AsyncEngine, selection: Selection, after: int, last: int) -> Proof:
    async with driver_connection(engine) as connection:
        row = await connection.fetchrow(
            _PROOF, after, last, selection.site_id, selection.since, selection.until
        )
    return Proof(row["events"], (row["upper"] or 0) % _HALF * _HALF + (row["lower"] or 0) % _HALF)
