"""When keys were last used: noted at once, written now and then, never lost to a newer one."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.key_uses import KeyUses, open_key_uses
from data.postgres.keys import Scope, all_keys
from resolvers.keys import KeyDraft, store_key
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


async def made(writer: AsyncEngine, count: int = 1) -> list[str]:
    return [
        (await store_key(writer, KeyDraft(f"key {n}", (Scope.READ,)), None, NOW)).key_id
        for n in range(count)
    ]


async def used(writer: AsyncEngine) -> dict[str, datetime | None]:
    async with transaction(writer) as connection:
        return {key.key_id: key.last_used_at for key in await all_keys(connection)}


async def test_uses_are_written_together_and_the_latest_stays(writer: AsyncEngine) -> None:
    one, two, never = await made(writer, 3)
    uses, others = KeyUses(writer), KeyUses(writer)
    uses.note(one, NOW)
    uses.note(one, LATER)
    uses.note(two, NOW)
    uses.note("gone", NOW)
    others.note(one, NOW)
    others.note(two, LATER)

    written = [await uses.flush(), await others.flush(), await uses.flush()]

    assert written == [3, 2, 0]
    assert await used(writer) == {one: LATER, two: LATER, never: None}


async def test_an_outage_keeps_them_for_the_next_time(
    writer: AsyncEngine, database: Database
) -> None:
    one, two = await made(writer, 2)
    uses = KeyUses(writer)
    uses.note(one, NOW)
    uses.note(two, NOW)
    admin = await database.server_connection()
    await admin.execute(f"alter database {database.name} allow_connections false")
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name
    )

    with pytest.raises(LedgerUnavailable):
        await uses.flush()
    uses.note(two, LATER)
    await admin.execute(f"alter database {database.name} allow_connections true")
    await admin.close()

    async with asyncio.timeout(60):
        while True:
            try:
                assert await uses.flush() == 2
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
    assert await used(writer) == {one: NOW, two: LATER}


async def test_they_are_written_by_themselves_and_at_the_end(writer: AsyncEngine) -> None:
    one, two = await made(writer, 2)
    async with open_key_uses(writer, every=0.02) as uses:
        uses.note(one, NOW)
        async with asyncio.timeout(60):
            while (await used(writer))[one] is None:
                await asyncio.sleep(0.02)
    async with open_key_uses(writer) as uses:
        uses.note(two, LATER)

    assert await used(writer) == {one: NOW, two: LATER}
