"""Reading from a real standby, and from the primary while that one is not well."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState
from data.postgres.checkup import can_write
from data.postgres.engine import LedgerUnavailable, driver_connection, ledger_errors, parse_url
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.postgres.reads import MAX_LAG, Replica
from data.postgres.standby import send_heartbeat, standby_state
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database
from tests.fixtures.standby import Replicated


@asynccontextmanager
async def opened(
    pair: Replicated, home: Path, max_lag: timedelta = MAX_LAG, primary: str | None = None
) -> AsyncIterator[tuple[Ledger, Replica, Metrics]]:
    address = LedgerAddress(
        home,
        parse_url(primary or pair.primary.url()),
        parse_url(pair.standby.url("replica_user")),
        max_lag,
    )
    metrics = Metrics.create()
    async with open_ledger(address, metrics=metrics) as ledger:
        assert ledger.reads.replica is not None
        yield ledger, ledger.reads.replica, metrics


@asynccontextmanager
async def beating(ledger: Ledger) -> AsyncIterator[None]:
    """Heartbeats as the leader sends them, only more often."""

    async def beat() -> None:
        while True:
            await send_heartbeat(ledger.writer)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def where(engine: AsyncEngine) -> str:
    """A question whose answer tells which server was asked."""
    with ledger_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(text("select current_user, pg_is_in_recovery()"))).one()
    assert row[0] == "replica_user"
    return "replica" if row[1] else "primary"


async def until(claim: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.02)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_reads_go_to_the_replica_in_a_role_that_cannot_write_even_where_granted(
    replicated: Replicated, tmp_path: Path
) -> None:
    admin = await replicated.primary.connect()
    await admin.execute(
        "grant insert, update, delete on all tables in schema public to replica_user"
    )
    await admin.close()
    await replicated.caught_up()

    async with opened(replicated, tmp_path) as (ledger, replica, metrics):
        assert await ledger.reads.run(where) == "replica"
        assert not await can_write(replica.engine)
        assert (await standby_state(replica.engine)).is_standby
        # On the primary it is the transaction that is read-only: the grant was somebody's mistake.
        with pytest.raises(LedgerUnavailable, match="read-only transaction"):
            async with driver_connection(ledger.reads.primary) as connection:
                await connection.execute("insert into sites select * from sites")

    name = "footfall_replica_reads_total"
    assert value(metrics, name, target="replica", outcome="succeeded") == 1
    assert value(metrics, "footfall_replica_breaker_state", state="closed") == 1


async def test_while_the_standby_is_gone_the_primary_answers_and_it_comes_back_by_itself(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, metrics):
        assert await ledger.reads.run(where) == "replica"
        for _ in range(2):
            await replicated.standby.kill()
            for _ in range(20):
                assert await ledger.reads.run(where) == "primary"
            assert replica.breaker.state is not BreakerState.CLOSED
            await replicated.standby.start()
            # Nobody reads: the trial is not made of anybody's request.
            await until(lambda: replica.breaker.state is BreakerState.CLOSED)
            assert await ledger.reads.run(where) == "replica"

        failed = value(metrics, "footfall_replica_reads_total", target="replica", outcome="failed")
        # One found out, each time, if the look had not done so before.
        assert failed <= 2
        assert value(metrics, "footfall_replica_breaker_transitions_total", state="closed") == 2


async def test_a_standby_that_hangs_is_found_out_and_whoever_waits_is_sent_to_the_primary(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, _):
        assert await ledger.reads.run(where) == "replica"
        replicated.standby.freeze()

        # More than the pool has connections, and allowed to take for ever.
        answers = await asyncio.gather(*(ledger.reads.run(where, seconds=600) for _ in range(12)))
        assert set(answers) == {"primary"}
        assert replica.breaker.state is not BreakerState.CLOSED
        replicated.standby.thaw()

        await until(lambda: replica.breaker.state is BreakerState.CLOSED)
        assert await ledger.reads.run(where) == "replica"


async def test_a_standby_that_is_down_at_the_start_is_done_without(
    replicated: Replicated, tmp_path: Path
) -> None:
    await replicated.standby.stop()

    async with opened(replicated, tmp_path) as (ledger, replica, _):
        assert replica.breaker.state is BreakerState.OPEN
        assert await ledger.reads.run(where) == "primary"
        await replicated.standby.start()
        await until(lambda: replica.breaker.state is BreakerState.CLOSED)
        assert await ledger.reads.run(where) == "replica"


async def test_a_standby_that_lags_is_put_aside_until_it_is_back_below_half_of_the_limit(
    replicated: Replicated, tmp_path: Path
) -> None:
    limit = timedelta(seconds=3)
    async with opened(replicated, tmp_path, limit) as (ledger, replica, metrics), beating(ledger):
        await until(lambda: replica.lag is not None and replica.lag < 1)
        assert ledger.reads.target == "replica"

        await replicated.standby.lag(3600)
        await until(lambda: replica.is_lagging)
        assert replica.breaker.state is BreakerState.CLOSED
        assert await ledger.reads.run(where) == "primary"
        assert value(metrics, "footfall_replica_lag_seconds") > 3

        await replicated.standby.lag(0)
        await until(lambda: not replica.is_lagging)
        assert replica.lag is not None
        assert replica.lag <= 1.5
        assert await ledger.reads.run(where) == "replica"


async def test_a_heartbeat_moves_the_replica_of_an_idle_primary_and_no_table(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, _):
        size = "select pg_database_size(current_database())"
        before = await replicated.primary.value(size)

        for _ in range(5):
            await asyncio.sleep(0.6)
            await send_heartbeat(ledger.writer)
            async with asyncio.timeout(60):
                # Without one the last commit would be as old as the sleep, and older each time.
                while ((await standby_state(replica.engine)).lag or 9.9) > 0.6:
                    await send_heartbeat(ledger.writer)

        assert await replicated.primary.value(size) == before


async def test_a_standby_without_its_primary_is_read_though_it_seems_to_lag(
    replicated: Replicated, tmp_path: Path
) -> None:
    limit = timedelta(seconds=1)
    async with opened(replicated, tmp_path, limit) as (ledger, replica, _):
        await replicated.caught_up()
        await replicated.primary.kill()
        await until(lambda: replica.is_lagging)

        answers = [await ledger.reads.run(where) for _ in range(20)]

        assert set(answers) == {"replica"}


_SLEEPING = """
select exists (
    select from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'
)
"""


async def test_a_statement_that_replaying_gives_up_is_repeated_on_the_primary_and_no_outage(
    replicated: Replicated, tmp_path: Path
) -> None:
    standby = await replicated.standby.connect()
    await standby.execute("alter system set max_standby_streaming_delay = '100ms'")
    await standby.execute("select pg_reload_conf()")
    await standby.close()

    async with opened(replicated, tmp_path) as (ledger, replica, metrics):
        began = asyncio.Event()

        async def slowly(engine: AsyncEngine) -> str:
            if engine is replica.engine:
                async with driver_connection(engine) as connection:
                    began.set()
                    await connection.execute("select pg_sleep(60) from ledger")
            return await where(engine)

        reading = asyncio.create_task(ledger.reads.run(slowly, seconds=60))
        await began.wait()
        async with asyncio.timeout(60):
            # Until it runs on the standby: what was replayed before does not concern it.
            while not await replicated.standby.value(_SLEEPING):
                await asyncio.sleep(0.02)
        admin = await replicated.primary.connect()
        async with admin.transaction():
            await admin.execute("lock table ledger in access exclusive mode")
        await admin.close()

        assert await reading == "primary"
        assert replica.breaker.state is BreakerState.CLOSED
        assert await ledger.reads.run(where) == "replica"
        name = "footfall_replica_reads_total"
        assert value(metrics, name, target="replica", outcome="failed") == 1


async def test_what_a_standby_does_not_have_yet_is_asked_of_the_primary_and_no_outage(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, metrics):
        await replicated.caught_up()
        await replicated.standby.lag(3600)
        admin = await replicated.primary.connect()
        # As a migration does beside processes that go on.
        await admin.execute("create table news (n integer)")
        await admin.execute("grant select on news to replica_user")
        await admin.close()

        async def read_news(engine: AsyncEngine) -> str:
            async with driver_connection(engine) as connection:
                await connection.execute("select from news")
            return await where(engine)

        for _ in range(5):
            assert await ledger.reads.run(read_news) == "primary"
        assert replica.breaker.changes == 0
        name = "footfall_replica_reads_total"
        assert value(metrics, name, target="replica", outcome="failed") == 5


async def test_a_standby_that_cannot_say_how_it_is_is_not_read(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, _):
        admin = await replicated.primary.connect()
        await admin.execute("revoke select on ledger from replica_user")
        await replicated.caught_up()
        await until(lambda: replica.breaker.state is BreakerState.OPEN)
        assert await ledger.reads.run(where) == "primary"

        await admin.execute("grant select on ledger to replica_user")
        await admin.close()
        await until(lambda: replica.breaker.state is BreakerState.CLOSED)


async def test_a_replica_of_another_ledger_is_never_read(
    replicated: Replicated, database: Database, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path, primary=database.url()) as (ledger, replica, _):
        assert replica.breaker.state is BreakerState.OPEN
        assert replica.reason == "it is a replica of another ledger"
        assert await ledger.reads.run(where) == "primary"


async def test_a_standby_that_was_promoted_is_not_read_any_more(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, _):
        assert await ledger.reads.run(where) == "replica"
        await replicated.standby.value("select pg_promote()")
        await until(lambda: replica.breaker.state is BreakerState.OPEN)

        assert replica.reason == "it is no standby"


async def test_when_neither_answers_the_ledger_is_unavailable(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, _, _):
        await replicated.close()

        with pytest.raises(LedgerUnavailable):
            await ledger.reads.run(where)


async def test_one_question_that_takes_too_long_is_asked_of_the_primary_and_no_outage(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, replica, _):

        async def slow_on_the_replica(engine: AsyncEngine) -> str:
            if engine is replica.engine:
                async with driver_connection(engine) as connection:
                    await connection.execute("set statement_timeout = '1s'")
                    await connection.execute("select pg_sleep(60)")
            return await where(engine)

        # Given up by the server, then by us, and once more: nobody else has to do without it.
        assert await ledger.reads.run(slow_on_the_replica) == "primary"
        for _ in range(2):
            assert await ledger.reads.run(slow_on_the_replica, seconds=0.3) == "primary"
        assert await ledger.reads.run(where) == "replica"
        assert replica.breaker.changes == 0

        # In a row they say more than a look that goes well.
        for _ in range(3):
            assert await ledger.reads.run(slow_on_the_replica, seconds=0.3) == "primary"
        assert replica.breaker.changes == 1
        await until(lambda: replica.breaker.state is BreakerState.CLOSED)


async def test_a_server_that_restarted_fails_nobody_who_comes_after_it(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with opened(replicated, tmp_path) as (ledger, _, _):
        await asyncio.gather(*(send_heartbeat(ledger.writer) for _ in range(5)))
        await replicated.primary.restart()

        await asyncio.gather(*(send_heartbeat(ledger.writer) for _ in range(5)))
