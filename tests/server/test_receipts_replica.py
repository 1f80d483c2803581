"""Receipts where the ledger is read from a standby: the newest word is the primary's."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from uuid import uuid4

from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.standby import Replicated

RECEIPTS = 'query ($ids: [UUID!]!) { receipts(siteId: "shop", eventIds: $ids) { status code } }'
REFUSED = {"status": "REJECTED", "code": "INVALID_TIMESTAMP"}
TAKEN = {"status": "ACCEPTED", "code": None}


async def refuse(app: App, event_id: str) -> None:
    """Send an event that cannot be taken."""
    event = {"eventId": event_id, "eventType": "view", "occurredAt": "9000-01-01T00:00:00Z"}
    assert await app.ingest("shop", event) == ["REJECTED"]


async def receipts(app: App, *event_ids: str) -> object:
    return (await app.data(RECEIPTS, {"ids": list(event_ids)}))["receipts"]


async def test_what_was_refused_and_then_taken_is_told_to_be_taken(
    replicated: Replicated, tmp_path: Path
) -> None:
    # A ledger by its URL, as any.
    primary = cast("Database", replicated.primary)
    standby = replicated.standby.url("replica_user")
    async with open_app(primary, tmp_path, replica_database_url=standby) as app:
        await app.site("shop")
        mended, left = str(uuid4()), str(uuid4())
        for event_id in (mended, left):
            await refuse(app, event_id)
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        assert await app.ingest("shop", {"eventId": mended, "eventType": "view"}) == ["ACCEPTED"]

        assert await receipts(app, mended, left) == [TAKEN, REFUSED]

        await replicated.standby.lag(0)
        await replicated.caught_up()
        await replicated.primary.kill()
        # Nobody can tell more than the standby then.
        assert await receipts(app, mended, left) == [TAKEN, REFUSED]
