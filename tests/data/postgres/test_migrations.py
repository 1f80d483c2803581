"""Migrations of a ledger that is in use: what is there stays, and gets what is new."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest_asyncio
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from data.calendar import Weekday
from data.events import Event
from data.postgres.actor_days import advance
from data.postgres.documents import TrustedDocument, add_documents, documents_version
from data.postgres.embedded import EmbeddedPostgres
from data.postgres.engine import transaction
from data.postgres.keys import DocumentsMode, all_keys
from data.postgres.migrate import differences, migrate
from data.postgres.sites import Site, create_site
from tests.data.postgres.appends_of_before import append_as_before
from tests.fixtures.ledger import Database, engine_of

SCRIPTS = Path(__file__).parents[3] / "migrations"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A database without any table."""
    database = Database(postgres, f"empty_{uuid4().hex}")
    connection = await database.server_connection()
    await connection.execute(f"create database {database.name}")
    yield database
    await connection.execute(f"drop database {database.name} with (force)")
    await connection.close()


async def upgrade(database: Database, revision: str) -> None:
    """Bring a database up to a revision and no further."""

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(make_url(database.url()), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


async def test_a_ledger_of_before_trusted_documents_keeps_its_keys_and_takes_documents(
    empty: Database,
) -> None:
    await upgrade(empty, "0001_ledger")
    old = await empty.connect("footfall_writer")
    await old.execute(
        "insert into sites (site_id, name, timezone, week_start, origins, created_at)"
        " values ('shop', 'Shop', 'UTC', 'MONDAY', '{}', now())"
    )
    await old.execute(
        "insert into api_keys (key_id, secret_hash, name, site_id, scopes, created_at)"
        " values ('k', '\\x00', 'old', 'shop', '{READ}', now())"
    )
    await old.close()

    assert "0002_documents" in await migrate(make_url(empty.url()))

    assert await differences(make_url(empty.url())) == []
    async with engine_of(empty, "footfall_writer") as writer, transaction(writer) as connection:
        (key,) = await all_keys(connection)
        assert (key.name, key.documents) == ("old", DocumentsMode.APQ)
        assert await documents_version(connection) == 0
        document = TrustedDocument("a", "0" * 64, "", "{ a }", "shop", NOW)
        assert await add_documents(connection, [document]) == (1, [])
        assert await documents_version(connection) == 1


async def test_a_ledger_of_before_the_view_has_its_days_counted(empty: Database) -> None:
    await upgrade(empty, "0002_documents")
    async with engine_of(empty, "footfall_writer") as writer:
        async with writer.begin() as connection:
            await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), NOW))
        events = [Event(uuid4(), "shop", "view", NOW, NOW, user_id=who) for who in ("ada", "bob")]
        await append_as_before(writer, events)

        assert "0003_daily_active_users" in await migrate(make_url(empty.url()))

        assert await differences(make_url(empty.url())) == []
        assert await advance(writer)
    looking = await empty.connect("replica_user")
    rows = await looking.fetch("select * from daily_active_users")
    await looking.close()
    assert [tuple(row) for row in rows] == [("shop", NOW.date(), 2)]
