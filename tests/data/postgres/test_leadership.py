"""One process leads: until it ends, hangs or loses its server, and never beside another."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import URL, make_url

from data.postgres.engine import WRITER, Login, parse_url
from data.postgres.leadership import LeaderPace, Leadership, open_leadership
from data.postgres.migrate import migrate
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database
from tests.fixtures.service import ROOT
from tests.fixtures.standby import Replicated

# How soon somebody else leads; what is waited for at the most, on a busy machine.
SECONDS = 60
# More than this process may be held up while it waits for an answer.
PATIENT = LeaderPace(answer=5, silence=8)


@pytest.fixture
def url(database: Database) -> URL:
    return make_url(database.url("footfall_writer"))


@asynccontextmanager
async def candidate(url: URL, name: str) -> AsyncIterator[tuple[Leadership, Metrics]]:
    metrics = Metrics.create()
    async with open_leadership(Login(url, WRITER), metrics.leader, PATIENT, name) as leadership:
        yield leadership, metrics


async def until_leads(leadership: Leadership) -> None:
    async with asyncio.timeout(SECONDS):
        while not await leadership.leads():
            await asyncio.sleep(0.05)


def gauge(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("footfall_leader")


async def test_the_first_one_leads_from_the_start_and_the_others_know_who_it_is(url: URL) -> None:
    async with candidate(url, "first") as (first, counted), candidate(url, "second") as (second, _):
        assert (await first.leads(), await second.leads()) == (True, False)
        assert (first.leader, second.leader) == ("first", "first")
        assert gauge(counted) == 1


async def test_whoever_leaves_in_an_orderly_way_is_replaced_at_once(url: URL) -> None:
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(candidate(url, "first"))
        async with candidate(url, "second") as (second, counted):
            elected = asyncio.Event()
            second.on_elected = elected.set
            assert await first.leads()
            await stack.aclose()

            async with asyncio.timeout(SECONDS):
                await elected.wait()
            assert await second.leads()
            assert gauge(counted) == 1


async def test_a_leader_whose_session_the_server_ends_knows_it_before_its_next_job(
    url: URL, database: Database
) -> None:
    async with candidate(url, "only") as (leadership, counted):
        assert await leadership.leads()
        admin = await database.connect()
        ended = await admin.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'only'"
        )
        await admin.close()

        assert ended == 1
        assert not await leadership.leads()
        assert gauge(counted) == 0
        await until_leads(leadership)


async def test_whoever_hears_of_an_election_and_fails_does_not_end_the_watch(
    url: URL, database: Database
) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(candidate(url, "first"))
        async with candidate(url, "second") as (second, counted):
            heard = asyncio.Event()

            def fail() -> None:
                heard.set()
                raise RuntimeError("it did not hear well")

            second.on_elected = fail
            await stack.aclose()
            async with asyncio.timeout(SECONDS):
                await heard.wait()
            heard.clear()

            admin = await database.connect()
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'second'"
            )
            await admin.close()
            # Nobody else asks: only the watch can find out and have it elected anew.
            async with asyncio.timeout(SECONDS):
                await heard.wait()
            assert counted.registry.get_sample_value("footfall_leader_elections_total") == 2


async def test_a_lock_that_is_gone_is_noticed_though_the_session_lives(url: URL) -> None:
    async with candidate(url, "only") as (leadership, _):
        assert leadership._session is not None
        await leadership._session.execute("select pg_advisory_unlock_all()")

        assert not await leadership.leads()
        await until_leads(leadership)


async def test_migrations_go_on_while_somebody_leads(database: Database, url: URL) -> None:
    async with candidate(url, "only") as (leadership, _), asyncio.timeout(SECONDS):
        assert await migrate(make_url(database.url())) == []
        assert await leadership.leads()


def test_a_pace_by_which_two_would_lead_is_refused() -> None:
    with pytest.raises(ValueError, match="still believes"):
        LeaderPace(look_every=2, answer=3, silence=5)


async def test_a_leader_whose_primary_hangs_or_restarts_leads_no_more_until_it_is_back(
    replicated: Replicated,
) -> None:
    url = parse_url(replicated.primary.url())
    async with candidate(url, "only") as (leadership, _):
        assert await leadership.leads()
        replicated.primary.freeze()
        assert not await leadership.leads()
        assert leadership.leader is None
        replicated.primary.thaw()
        await until_leads(leadership)

        await replicated.primary.kill()
        assert not await leadership.leads()
        await replicated.primary.start()
        await until_leads(leadership)


class Processes:
    """Processes that lead in turn, and what they wrote in the meantime."""

    def __init__(self, database: Database, admin: asyncpg.Connection) -> None:
        self.database, self.admin = database, admin
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self.running[name] = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.data.postgres.leader_process"),
                *(self.database.url("footfall_writer"), name),
            ],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
        )

    async def rows(self) -> list[str]:
        return [row["name"] for row in await self.admin.fetch("select name from led order by row")]

    async def until_wrote(self, name: str, more_than: int = 0) -> None:
        async with asyncio.timeout(SECONDS):
            while (await self.rows()).count(name) <= more_than:
                await asyncio.sleep(0.05)

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest_asyncio.fixture
async def processes(database: Database) -> AsyncIterator[Processes]:
    admin = await database.connect()
    await admin.execute(
        "create table led (row bigint generated always as identity, name text);"
        "grant insert on led to footfall_writer"
    )
    started = Processes(database, admin)
    try:
        started.start("first")
        await started.until_wrote("first")
        started.start("second")
        await asyncio.sleep(1)
        yield started
    finally:
        started.end()
        await admin.close()


async def test_a_leader_that_is_killed_is_replaced(processes: Processes) -> None:
    assert set(await processes.rows()) == {"first"}
    processes.running["first"].send_signal(signal.SIGKILL)

    await processes.until_wrote("second", more_than=3)

    rows = await processes.rows()
    assert rows == sorted(rows)


async def test_a_leader_that_is_frozen_is_replaced_and_does_nothing_when_it_wakes_up(
    processes: Processes,
) -> None:
    assert set(await processes.rows()) == {"first"}
    processes.running["first"].send_signal(signal.SIGUSR1)
    await processes.until_wrote("second")
    processes.running["first"].send_signal(signal.SIGCONT)
    await processes.until_wrote("second", more_than=20)

    # Whoever wrote after the other had begun would stand on the wrong side of it.
    rows = await processes.rows()
    assert rows == sorted(rows)

    processes.running["second"].send_signal(signal.SIGKILL)
    before = rows.count("first")
    await processes.until_wrote("first", more_than=before)
    rows = await processes.rows()
    # And again, after the second one: "first", "second", "first".
    assert sum(one != other for one, other in pairwise(rows)) == 2
