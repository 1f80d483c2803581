"""What became of event ids: asked of the ledger itself."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Receipt, ReceiptStatus, RejectionCode
from data.postgres.engine import ledger_errors

_ACCEPTED = """
select event_id from event_ids where site_id = :site_id and event_id = any(:event_ids)
"""

# The last word on an id that was refused more than once.
_REJECTED = """
select distinct on (event_id) event_id, code, message
from rejected_events
where site_id = :site_id and event_id = any(:event_ids)
order by event_id, received_at desc
"""


async def receipts(
    engine: AsyncEngine, site_id: str, event_ids: Sequence[UUID]
) -> dict[UUID, Receipt]:
    """A receipt for each id that the site has accepted or, failing that, refused."""
    bound = {"site_id": site_id, "event_ids": list(event_ids)}
    with ledger_errors():
        async with engine.connect() as connection:
            accepted = (await connection.execute(text(_ACCEPTED), bound)).scalars().all()
            refused = (await connection.execute(text(_REJECTED), bound)).all()
    found = {
        row.event_id: Receipt(
            ReceiptStatus.REJECTED,
            event_id=row.event_id,
            code=RejectionCode(row.code),
            message=row.message,
        )
        for row in refused
    }
    return found | {
        event_id: Receipt(ReceiptStatus.ACCEPTED, event_id=event_id) for event_id in accepted
    }
