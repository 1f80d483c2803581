"""The directory of sites and keys: what it holds, and from when on."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.directory import Directory
from data.postgres.engine import transaction
from data.postgres.keys import ApiKey, DocumentsMode, Scope, add_key, revoke_key
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = ApiKey(
    key_id="reader",
    name="reader",
    site_id=None,
    scopes=frozenset({Scope.READ}),
    documents=DocumentsMode.APQ,
    created_at=NOW,
    expires_at=None,
    revoked_at=None,
    secret_hash=b"1" * 32,
)
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"


async def is_good(directory: Directory) -> bool:
    key = await directory.key(KEY.key_id)
    return key is not None and key.is_valid(NOW)


async def test_a_change_is_seen_at_once_though_a_reading_was_under_way(
    database: Database, writer: AsyncEngine
) -> None:
    directory = Directory(writer)
    async with transaction(writer) as connection:
        await add_key(connection, KEY)
    other = await database.connect()
    try:
        # What a reading asks for last, when it has got the keys already.
        barrier = other.transaction()
        await barrier.start()
        await other.execute("lock table ledger in access exclusive mode")
        reading = asyncio.create_task(is_good(directory))
        async with asyncio.timeout(15):
            while not await other.fetchval(WAITING):
                await asyncio.sleep(0.01)
        async with transaction(writer) as connection:
            assert await revoke_key(connection, KEY.key_id, NOW)
        directory.forget()
        await barrier.commit()

        assert await reading, "it began before the change"
        assert not await is_good(directory)
    finally:
        await other.close()
