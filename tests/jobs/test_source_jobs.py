"""What happens by itself with sources: they are refreshed when due, and old history goes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from data.postgres.engine import transaction
from data.postgres.sources import save_source, source_by_key
from data.sources.source import Source
from jobs.expire_source_history import expire_source_history
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.source_answers import Items
from tests.fixtures.source_server import SourceServer

SECONDS = 30


@pytest_asyncio.fixture
async def app(database: Database, tmp_path: Path) -> AsyncIterator[App]:
    """The application with its jobs, where sources may be on this machine."""
    async with open_app(
        database, tmp_path, outbound_allow_private=True, source_history_days=3, source_audit_days=5
    ) as opened:
        yield opened


async def test_a_source_is_refreshed_again_and_again_and_its_history_goes_when_it_is_old(
    app: App, source_server: SourceServer
) -> None:
    items = source_server.at("/prices", Items([{"id": 1, "price": 1}]))
    source = Source(key="prices", url=source_server.url("/prices"), refresh_seconds=1)
    now, ledger = datetime.now(UTC), app.resources.ledger
    async with transaction(ledger.writer) as connection:
        await save_source(connection, source, now, is_declared=False)

    async with asyncio.timeout(SECONDS):
        while len(source_server.asked) < 3:
            items.records[0]["price"] += 1
            await asyncio.sleep(0.05)

    off = Source(key="prices", url=source.url, enabled=False)
    async with transaction(ledger.writer) as connection:
        await save_source(connection, off, now, is_declared=False)
    async with asyncio.timeout(SECONDS):
        while True:
            stored = await source_by_key(ledger.writer, "prices", now)
            if stored is not None and not stored.state.is_held:
                break
            await asyncio.sleep(0.05)
    assert stored.state.records == 1
    for days, changes, audits in ((2, True, True), (4, False, True), (6, False, False)):
        await expire_source_history(app.resources, now + timedelta(days=days))
        async with transaction(ledger.writer) as connection:
            counted = await connection.exec_driver_sql(
                "select exists (select from source_changes), exists (select from source_audits)"
            )
            assert tuple(counted.one()) == (changes, audits)
