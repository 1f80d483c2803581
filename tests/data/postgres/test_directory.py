"""The directory of sites and keys: what it holds, and from when on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.directory import FRESH_SECONDS, RENEW_SECONDS, Directory
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


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """What a reading asks for last, when it has got the keys already, is not to be had."""
    other = await database.connect()
    try:
        async with other.transaction():
            await other.execute("lock table ledger in access exclusive mode")
            yield
    finally:
        await other.close()


async def until_waiting(database: Database) -> None:
    """Return when somebody waits for what is held up."""
    other = await database.connect()
    try:
        async with asyncio.timeout(60):
            while not await other.fetchval(WAITING):
                await asyncio.sleep(0.01)
    finally:
        await other.close()


async def test_a_change_is_seen_at_once_though_a_reading_was_under_way(
    database: Database, writer: AsyncEngine
) -> None:
    directory = Directory(writer)
    async with transaction(writer) as connection:
        await add_key(connection, KEY)
    async with held_up(database):
        reading = asyncio.create_task(is_good(directory))
        await until_waiting(database)
        async with transaction(writer) as connection:
            assert await revoke_key(connection, KEY.key_id, NOW)
        directory.forget()
        later = asyncio.create_task(is_good(directory))
        await asyncio.sleep(0)

    assert await reading, "it began before the change"
    assert not await later
    assert not await is_good(directory)


async def test_nobody_waits_for_a_reading_while_what_there_is_serves(
    database: Database, writer: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Directory(writer)
    async with transaction(writer) as connection:
        await add_key(connection, KEY)
    assert await is_good(directory)
    async with held_up(database):
        assert directory._content is not None
        # Old enough to be read anew, and not too old to serve, however long all this takes.
        moment = directory._content.read_at + (RENEW_SECONDS + FRESH_SECONDS) / 2
        monkeypatch.setattr("data.postgres.directory.monotonic", lambda: moment)

        assert await is_good(directory)

        # It is being read nevertheless.
        await until_waiting(database)


async def test_all_who_wait_for_a_reading_go_on_at_once(
    database: Database, writer: AsyncEngine
) -> None:
    directory = Directory(writer)
    async with held_up(database):
        asking = [asyncio.create_task(directory.keys()) for _ in range(100)]
        await until_waiting(database)
    await asking[0]
    # Not one after the other, each time around behind everything else that goes on.
    for _ in range(3):
        await asyncio.sleep(0)

    assert all(one.done() for one in asking)
