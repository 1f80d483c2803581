"""Migrations of a ledger that is in use fail nobody's requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import Weekday
from data.events import Event
from data.postgres.append import append
from data.postgres.engine import WRITER
from data.postgres.migrate import migrate, pending
from data.postgres.sites import Site, create_site
from tests.data.postgres.appends_of_before import append_as_before
from tests.data.postgres.test_migrations import SCRIPTS, empty, upgrade
from tests.faults.clients import Tally, sending
from tests.fixtures.ledger import Database, engine_of
from tests.fixtures.service import footfall, running

__all__ = ["empty"]  # a fixture

NOW = datetime.now(UTC)
# What a batch may wait at most, as a service bounds it; the migrations' own locks are bounded by 5 s.
SECONDS = 10.0


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    found = ScriptDirectory.from_config(config).walk_revisions()
    return [one.revision for one in reversed(list(found))]


class Writing:
    """Batches one after another, as the programs wrote them at a revision of the ledger."""

    def __init__(self, engine: AsyncEngine, revision: str) -> None:
        self.engine = engine
        self.has_function = revision >= "0008"
        self.ids: list[UUID] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        while not self.stopping.is_set():
            batch = [
                Event(uuid4(), "shop", "view", NOW, NOW, user_id=f"user {place}")
                for place in range(20)
            ]
            if self.has_function:
                await append(self.engine, batch, [], seconds=SECONDS)
            else:
                await append_as_before(self.engine, batch, seconds=SECONDS)
            self.ids += [one.event_id for one in batch]

    async def went_on(self, batches: int = 5) -> None:
        """Return when so many more have been committed."""
        before = len(self.ids)
        while len(self.ids) < before + batches * 20:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def writing(database: Database, revision: str) -> AsyncIterator[Writing]:
    """Four writers at work; whatever one of them was refused is raised at the end."""
    async with engine_of(database, WRITER) as engine:
        work = Writing(engine, revision)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(work.run())
            try:
                yield work
            finally:
                work.stopping.set()


@pytest.mark.parametrize("place", range(1, len(revisions())), ids=revisions()[1:])
async def test_each_migration_is_applied_while_the_code_of_before_it_takes_events(
    empty: Database, place: int
) -> None:
    before, after = revisions()[place - 1], revisions()[place]
    await upgrade(empty, before)
    async with engine_of(empty, WRITER) as engine, engine.begin() as connection:
        await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), NOW))
    async with writing(empty, before) as work, asyncio.timeout(60):
        await work.went_on()
        await upgrade(empty, after)
        await work.went_on()

    connection = await empty.connect()
    assert await connection.fetchval("select count(*) from events") == len(work.ids)
    await connection.close()
    assert after not in await pending(make_url(empty.url()))


async def test_migrate_beside_a_service_that_has_everything_changes_nothing_and_fails_nobody(
    database: Database, tmp_path: Path
) -> None:
    url = database.url("postgres")
    async with running(tmp_path / "home", DATABASE_URL=url) as service:
        save = 'mutation { saveSite(input: {id: "shop", name: "Shop", timezone: "UTC"}) { id } }'
        await service.data(save)
        tally = Tally()
        async with sending(service, tally, clients=4):
            for _ in range(3):
                await footfall(tmp_path / "other", "migrate", DATABASE_URL=url)
        assert tally.failures == 0
        assert tally.queued == 0
        assert tally.acknowledged
    connection = await database.connect()
    assert await connection.fetchval("select count(*) from events") == len(tally.acknowledged)
    await connection.close()
    assert await migrate(make_url(url)) == []
