"""The lookout: who asks a ledger that is away, for how long, and what is done without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import Weekday
from data.postgres.directory import FRESH_SECONDS, Directory
from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.lookout import Lookout, LookoutPace, looking_out, require_writable
from data.postgres.salts import SaltKeeper
from data.postgres.sites import Site, create_site
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database, engine_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = LookoutPace(answer_seconds=3, look_seconds=0.02, longest_look_seconds=0.3)


@asynccontextmanager
async def looked_out(engine: AsyncEngine) -> AsyncIterator[Lookout]:
    async with looking_out(Lookout(engine, Metrics.create().ledger, QUICK)) as lookout:
        yield lookout


async def fail() -> None:
    raise LedgerUnavailable("the connection was refused")


async def cut_off(database: Database) -> None:
    admin = await database.server_connection()
    await admin.execute(f"alter database {database.name} allow_connections false")
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name
    )
    await admin.close()


async def let_in(database: Database) -> None:
    admin = await database.server_connection()
    await admin.execute(f"alter database {database.name} allow_connections true")
    await admin.close()


async def test_a_ledger_that_is_away_is_not_asked_until_it_answers(
    writer: AsyncEngine, database: Database
) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await require_writable(writer)
        return 1

    async with looked_out(writer) as lookout:
        assert await lookout.ask(ask()) == 1
        await cut_off(database)
        for _ in range(5):
            with pytest.raises(LedgerUnavailable):
                await lookout.ask(ask())
        assert asked == 2
        assert lookout.is_away()

        await let_in(database)
        async with asyncio.timeout(60):
            await lookout.until_back()
        assert await lookout.ask(ask()) == 1


async def test_one_failure_of_a_ledger_that_answers_is_over_at_once(writer: AsyncEngine) -> None:
    async with looked_out(writer) as lookout:
        with pytest.raises(LedgerUnavailable):
            await lookout.ask(fail())
        async with asyncio.timeout(60):
            await lookout.until_back()
        assert not lookout.is_away()


async def test_what_takes_too_long_is_given_up_and_what_is_cancelled_is_not_held_against_it(
    writer: AsyncEngine,
) -> None:
    async with looked_out(writer) as lookout:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await lookout.ask(asyncio.sleep(60), 60)
        assert not lookout.is_away()
        with pytest.raises(LedgerUnavailable, match=r"did not answer within 0\.01 s"):
            await lookout.ask(asyncio.sleep(60), 0.01)


async def test_a_ledger_that_only_reads_counts_as_away(database: Database) -> None:
    admin = await database.connect()
    await admin.execute(f"alter database {database.name} set default_transaction_read_only to on")
    await admin.close()
    async with engine_of(database, "footfall_writer") as engine:
        with pytest.raises(LedgerUnavailable, match="no writes"):
            await require_writable(engine)


async def test_sites_and_salts_are_at_hand_while_the_ledger_is_away_also_past_midnight(
    writer: AsyncEngine, database: Database
) -> None:
    async with transaction(writer) as connection:
        await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), NOW))
    async with looked_out(writer) as lookout:
        directory, salts = Directory(writer, lookout), SaltKeeper(writer, lookout)
        assert await directory.site("shop") is not None
        today = await salts.salt(NOW)
        await cut_off(database)
        await asyncio.sleep(FRESH_SECONDS + 0.1)

        assert await directory.site("shop") is not None
        assert await salts.salt(NOW) == today
        tomorrow = await salts.salt(NOW + timedelta(days=1))
        assert tomorrow != today
        with pytest.raises(LedgerUnavailable):
            await salts.salt(NOW + timedelta(days=2))

        await let_in(database)
        async with asyncio.timeout(60):
            await lookout.until_back()
        assert await salts.salt(NOW + timedelta(days=1)) == tomorrow
        assert await SaltKeeper(writer).salt(NOW + timedelta(days=1)) == tomorrow
