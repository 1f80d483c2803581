"""Clients that say no more: what they leave at the server is in nobody's way for long."""

import asyncio
import random
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.append import append
from data.postgres.engine import WRITER, LedgerUnavailable, transaction
from tests.faults.writer_process import BEGUN, groups, rejection
from tests.fixtures.ledger import Database, engine_of

ROOT = Path(__file__).parents[2]
GROUPS = 40
# A session that is idle in its transaction is ended after 10 s; one that is gone within 2.
ENDED_SECONDS = 25

_TAKE = "select pg_advisory_xact_lock(7077, 1)"
_WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


@asynccontextmanager
async def another_writer(database: Database, seed: int) -> AsyncIterator[Process]:
    """A process that writes the groups of a seed; it goes on until it is stopped."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.writer_process"),
        *(database.url(WRITER), str(seed), str(GROUPS)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert (await process.stdout.readline()).decode() == BEGUN
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("seed", range(4))
async def test_what_a_frozen_writer_was_at_can_be_written_by_another(
    database: Database, writer: AsyncEngine, seed: int
) -> None:
    async with another_writer(database, seed) as process:
        await asyncio.sleep(random.Random(seed).uniform(0.02, 0.3))
        process.send_signal(signal.SIGSTOP)
        for group in groups(seed, GROUPS):
            await append(writer, group, [rejection()], seconds=ENDED_SECONDS)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            assert await process.wait() == 0

    looking = await database.connect()
    stored = await looking.fetchval("select count(*) from events")
    different = await looking.fetchval("select count(distinct event_id) from events")
    counted = await looking.fetchval("select sum(events) from ingest_batches")
    await looking.close()
    assert stored == different == counted == sum(map(len, groups(seed, GROUPS)))


async def test_a_transaction_whose_client_is_silent_ends_and_lets_the_next_one_in(
    database: Database,
) -> None:
    let_in = asyncio.Event()

    async def hold(engine: AsyncEngine) -> None:
        async with transaction(engine) as connection:
            await connection.exec_driver_sql(_TAKE)
            async with asyncio.timeout(ENDED_SECONDS), transaction(other) as waiting:
                await waiting.exec_driver_sql(_TAKE)
            let_in.set()
            await connection.exec_driver_sql("select 1")

    async with engine_of(database, WRITER) as silent, engine_of(database, WRITER) as other:
        with pytest.raises(LedgerUnavailable):
            await hold(silent)
        assert let_in.is_set()


async def test_a_client_that_was_cut_off_waits_for_no_lock_any_more(
    database: Database, writer: AsyncEngine
) -> None:
    [group] = groups(1, 1)
    holder = await database.connect()
    holding = holder.transaction()
    await holding.start()
    await holder.execute("lock table event_ids in access exclusive mode")

    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await append(writer, group, [], seconds=0.3)

    looking: asyncpg.Connection = await database.connect()
    async with asyncio.timeout(ENDED_SECONDS):
        while await looking.fetchval(_WAITING):
            await asyncio.sleep(0.1)
    await looking.close()
    await holding.rollback()
    # None of those that were cut off came to its end meanwhile.
    assert await holder.fetchval("select count(*) from events") == 0
    await holder.close()
