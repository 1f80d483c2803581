"""Keys that are no good: what is counted, what is written of it, and how little it may cost."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from data.admin_log import LoggedEntry
from data.postgres.admin_log import LogQuery, log_page
from resolvers.login_failures import (
    LIMIT,
    MAX_NETWORKS,
    MOST_ENTRIES,
    FailureLog,
    LoginFailures,
    Pace,
    network_of,
    open_login_failures,
)
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OVER = Pace().window + 1


def counting() -> LoginFailures:
    return LoginFailures(Metrics.create().login)


def fail(failures: LoginFailures, address: str, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        failures.note(address, at)


async def entries(writer: AsyncEngine) -> list[LoggedEntry]:
    return (await log_page(writer, LogQuery(first=100)))[::-1]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("testclient", "unknown"),
        ("' or 1 = 1 --", "unknown"),
    ],
)
def test_a_network_stands_for_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_few_failures_are_nothing_and_more_are_one_burst_per_window() -> None:
    failures = counting()
    fail(failures, "198.51.100.1", LIMIT)
    fail(failures, "203.0.113.1", LIMIT)
    fail(failures, "203.0.113.9", 3, at=30)

    assert failures.ended(OVER - 2) == [], "its window is not over"
    [burst] = failures.ended(OVER)
    assert (burst.network, burst.failures, burst.began_at) == ("203.0.113.0/24", LIMIT + 3, 0.0)
    assert len(failures) == 0
    assert failures.ended(2 * OVER) == []

    fail(failures, "203.0.113.1", LIMIT + 1, at=100)
    assert [one.failures for one in failures.ended(100 + OVER)] == [LIMIT + 1]


def test_memory_has_a_bound_and_bursts_are_remembered_beyond_it() -> None:
    failures = counting()
    fail(failures, "203.0.113.1", LIMIT + 5)
    for number in range(3 * MAX_NETWORKS):
        failures.note(f"2001:db8:{number:x}::1" if number < 65_536 else "::", 1.0)
        assert len(failures) <= MAX_NETWORKS

    found = failures.ended(OVER + 1)
    assert [(one.network, one.failures) for one in found] == [("203.0.113.0/24", LIMIT + 5)]


async def test_a_burst_becomes_an_entry_with_its_count_and_no_address(writer: AsyncEngine) -> None:
    failures = counting()
    fail(failures, "203.0.113.77", 37)

    await FailureLog(failures, writer, lambda: NOW).write(OVER)

    [entry] = await entries(writer)
    assert (entry.action, entry.actor.key_id) == ("login.failures", "service")
    assert (entry.target, entry.site_id, entry.at) == ("203.0.113.0/24", None, NOW)
    since = (NOW - timedelta(seconds=OVER)).isoformat()
    assert entry.details == f'{{"failures":37,"since":"{since}"}}'
    assert "203.0.113.77" not in str(entry)
    assert failures.metrics.entries["written"]._value.get() == 1


async def test_a_flood_from_many_networks_makes_a_few_entries(writer: AsyncEngine) -> None:
    failures = counting()
    for number in range(200):
        fail(failures, f"10.0.{number}.1", LIMIT + 1 + number)

    await FailureLog(failures, writer, lambda: NOW).write(OVER)

    found = await entries(writer)
    assert [entry.target for entry in found] == [
        *(f"10.0.{number}.0/24" for number in range(199, 199 - MOST_ENTRIES, -1)),
        "other networks",
    ]
    rest = sum(LIMIT + 1 + number for number in range(200 - MOST_ENTRIES))
    assert found[-1].details == f'{{"failures":{rest},"networks":{200 - MOST_ENTRIES}}}'


async def test_without_the_ledger_entries_are_dropped_and_counted(
    database: Database, writer: AsyncEngine
) -> None:
    failures = counting()
    fail(failures, "203.0.113.1", LIMIT + 1)
    fail(failures, "198.51.100.1", LIMIT + 1)
    server = await database.server_connection()
    await server.execute(f"alter database {database.name} allow_connections false")

    with capture_logs() as said:
        await FailureLog(failures, writer, lambda: NOW).write(OVER)

    # The first that cannot be written ends the writing, and not the telling.
    told = {line["network"] for line in said if line["event"] == "login.failures"}
    assert told == {"203.0.113.0/24", "198.51.100.0/24"}
    await server.execute(f"alter database {database.name} allow_connections true")
    await server.close()
    assert failures.metrics.entries["dropped"]._value.get() == 2
    assert failures.metrics.failures._value.get() == 2 * (LIMIT + 1)
    assert await entries(writer) == []


async def test_bursts_are_written_in_the_background_and_at_the_end(writer: AsyncEngine) -> None:
    metrics = Metrics.create().login
    quick = Pace(window=0.02, sweep=0.01)
    async with open_login_failures(writer, lambda: NOW, metrics, quick) as failures:
        fail(failures, "203.0.113.1", LIMIT + 1, at=monotonic())
        async with asyncio.timeout(60):
            while not await entries(writer):
                await asyncio.sleep(0.01)
    async with open_login_failures(writer, lambda: NOW, metrics) as failures:
        fail(failures, "198.51.100.1", LIMIT + 2, at=monotonic())
        fail(failures, "192.0.2.1", LIMIT, at=monotonic())

    assert [entry.target for entry in await entries(writer)] == [
        "203.0.113.0/24",
        "198.51.100.0/24",
    ]
