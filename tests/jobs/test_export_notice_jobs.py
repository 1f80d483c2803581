"""Notices of exports go when nobody asks for them any more."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest_asyncio

from data.postgres.engine import driver_connection
from jobs.expire_export_notices import expire_export_notices
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

_DESTINATION = """
insert into export_destinations (
    destination_id, site_id, name, definition, places, created_at, updated_at
) values ($1, 'shop', 'Lake', '{}', '[]', $2, $2)
"""
_NOTICE = """
insert into export_notices (
    notice_id, destination_id, kind, body, created_at, next_attempt_at, delivered_at, given_up_at
) values ($1, $2, 'export.dead', '{}', $3, $4, $5, $6)
"""


@pytest_asyncio.fixture
async def app(database: Database, tmp_path: Path) -> AsyncIterator[App]:
    async with open_app(database, tmp_path) as opened:
        yield opened


async def test_notices_that_were_told_or_given_up_are_kept_for_thirty_days(app: App) -> None:
    await app.site("shop")
    writer, now, destination = app.resources.ledger.writer, datetime.now(UTC), uuid4()
    told, given_up, waiting, fresh = (uuid4() for _ in range(4))
    then, later = now - timedelta(days=31), now + timedelta(days=365)
    async with driver_connection(writer) as ledger:
        await ledger.execute(_DESTINATION, destination, then)
        await ledger.execute(_NOTICE, told, destination, then, None, then, None)
        await ledger.execute(_NOTICE, given_up, destination, then, None, None, then)
        await ledger.execute(_NOTICE, waiting, destination, then, later, None, None)
        await ledger.execute(_NOTICE, fresh, destination, now, None, now, None)

    await expire_export_notices(app.resources, now)

    async with driver_connection(writer) as ledger:
        rows = await ledger.fetch("select notice_id from export_notices")
    left: set[UUID] = {row["notice_id"] for row in rows}
    assert left == {waiting, fresh}
