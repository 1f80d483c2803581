"""The embedded PostgreSQL, used by real processes that come, go and get killed."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from data.postgres.embedded import account_for, embedded_server, postgres_bin
from data.postgres.embedded_cluster import MAJOR_VERSION
from tests.data.postgres.embedded_homes import (
    AS_ROOT,
    NAMELESS,
    ORDINARY,
    Launch,
    appeared,
    copy_home,
    gone,
    has_shut_down,
    launcher,
    postmaster,
    query,
    running,
    scratch_folder,
    sleeper,
    template_home,
    way_to_the_programs,
)


@pytest.fixture
def launch() -> Iterator[Launch]:
    with launcher() as start:
        yield start


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A home with a cluster at rest, for tests that leave it as they found it."""
    with template_home() as home:
        yield home


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A home that does not exist yet, in a folder that only we may enter."""
    with scratch_folder() as folder:
        yield folder / "home"


@pytest.fixture
def home(fresh: Path, template: Path) -> Path:
    """A home with a cluster at rest, to be spoilt."""
    return copy_home(template, fresh)


# What it is


def test_the_bundled_programs_have_the_version_that_folders_are_checked_for() -> None:
    said = subprocess.check_output([postgres_bin() / "postgres", "--version"], text=True)

    assert said.startswith(f"postgres (PostgreSQL) {MAJOR_VERSION}.")


async def test_a_home_gets_a_durable_server_with_our_settings(template: Path) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "wal_compression": "pglz",
        "checkpoint_timeout": "15min",
        "max_connections": "100",
        "jit": "off",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
    }
    async with embedded_server(template) as server:
        engine = create_async_engine(server.url("postgres"))
        async with engine.connect() as connection:
            found = {
                name: (await connection.execute(text(f'show "{name}"'))).scalar_one()
                for name in expected
            }
            collation = "select datcollate, datlocale from pg_database where datname = 'footfall'"
            order = (await connection.execute(text(collation))).one()
        await engine.dispose()

    assert found == expected
    assert tuple(order) == ("C", "C.UTF-8")
    assert server.data_dir == template / "postgres"


async def test_every_role_logs_in_by_the_socket_and_nobody_by_tcp(home: Path) -> None:
    async with embedded_server(home) as server:
        query(home, "create role replica_user login")
        engine = create_async_engine(server.url("replica_user", "postgres"))
        async with engine.connect() as connection:
            row = (await connection.execute(text("select current_user, current_database()"))).one()
        await engine.dispose()
        sockets = running(home).net_connections("all")
        socket_file = server.socket_dir / f".s.PGSQL.{server.port}"

        assert tuple(row) == ("replica_user", "postgres")
        assert {item.family for item in sockets} == {socket.AF_UNIX}
        assert socket_file.stat().st_mode & 0o077 == 0
        assert server.socket_dir.stat().st_mode & 0o077 == 0


async def test_a_database_that_is_missing_is_made_again(template: Path) -> None:
    async with embedded_server(template):
        query(template, "drop database footfall", database="postgres")

        async with embedded_server(template):
            assert query(template, "select current_database()") == "footfall"


async def test_a_deep_home_with_odd_characters_works(fresh: Path) -> None:
    odd = fresh / 'it\'s "a" $HOME, é' / ("deep" * 20) / "h"
    async with embedded_server(odd) as server:
        engine = create_async_engine(server.url("postgres"))
        async with engine.connect() as connection:
            answer = (await connection.execute(text("select current_database()"))).scalar_one()
        await engine.dispose()
        mode = server.socket_dir.stat().st_mode & 0o777

    assert answer == "footfall"
    assert mode == 0o700
    assert not server.socket_dir.exists()
    assert has_shut_down(odd)


# Whom it runs as


async def test_the_server_never_runs_as_root_and_reaches_a_private_folder(template: Path) -> None:
    async with embedded_server(template):
        assert template.parent.stat().st_mode & 0o007 == 0
        assert running(template).uids().real == account_for(template).uid != 0

    assert has_shut_down(template)


def test_an_ordinary_user_has_a_server_that_root_may_join_too(launch: Launch) -> None:
    with scratch_folder(ORDINARY) as folder, way_to_the_programs(ORDINARY):
        home = folder / "home"
        first = launch(home, uid=ORDINARY)
        first.joined()
        second = launch(home)
        second.joined()

        assert running(home).uids().real == ORDINARY
        first.leave()
        assert query(home, "select 1") == "1"
        second.leave()
        assert has_shut_down(home)


def test_a_user_without_a_name_gets_a_server_or_is_told_to_get_a_name(launch: Launch) -> None:
    # Root becomes that user; anybody else takes the number inside a user namespace.
    prefix = () if AS_ROOT else ("unshare", "--user", f"--map-user={NAMELESS}", "--")
    become = ("setpriv", f"--reuid={NAMELESS}", "--clear-groups") if AS_ROOT else prefix
    allowed = subprocess.run([*become, "unshare", "--user", "true"], check=False).returncode == 0
    uid = NAMELESS if AS_ROOT else ORDINARY
    with scratch_folder(uid) as folder, way_to_the_programs(uid):
        home = folder / "home"
        command = launch(home, prefix, uid=NAMELESS)
        said = command.said()

        if allowed:
            assert "error" not in said, said
            assert running(home).uids().real == uid
        else:
            assert "add it to /etc/passwd" in said["error"]
        command.leave()
        assert postmaster(home) is None


# Coming and going


def test_three_commands_start_at_once_on_a_fresh_home_and_the_last_one_stops_it(
    fresh: Path, launch: Launch
) -> None:
    commands = [launch(fresh) for _ in range(3)]
    places = {command.joined() for command in commands}
    server = running(fresh)

    assert places == {fresh / "postgres-run"}
    for command in commands[:2]:
        command.leave()
        assert running(fresh) == server
        assert query(fresh, "select 1") == "1"
    commands[2].leave()
    gone(server)
    assert has_shut_down(fresh)


async def test_a_server_whose_only_command_was_killed_serves_the_next_one(
    home: Path, launch: Launch
) -> None:
    killed = launch(home)
    killed.joined()
    server = running(home)
    killed.kill()

    async with embedded_server(home):
        assert running(home) == server
    assert has_shut_down(home)


async def test_a_killed_command_does_not_count_as_a_user(home: Path, launch: Launch) -> None:
    async with embedded_server(home):
        killed = launch(home)
        killed.joined()
        killed.kill()

    assert has_shut_down(home)


async def test_a_command_killed_while_it_makes_the_cluster_leaves_nothing_half_made(
    fresh: Path, launch: Launch
) -> None:
    turn = 0
    while True:
        turn += 1
        assert turn < 10, "it is always done before"
        home = fresh.with_name(f"home-{turn}")
        killed = launch(home)
        appeared(home / "postgres.new/PG_VERSION")
        killed.kill()
        if not (home / "postgres").exists():
            break
        # It was made before the command was killed: once more.
    assert not (home / "postgres").exists()

    async with embedded_server(home):
        assert query(home, "select 1") == "1"
        assert not (home / "postgres.new").exists()


async def test_a_killed_server_recovers_for_whoever_comes_next_without_losing_a_commit(
    home: Path, launch: Launch
) -> None:
    async with embedded_server(home) as before:
        query(home, "create table kept as select 42 as value")
        server = running(home)
        server.kill()
        gone(server)
        second = launch(home)

        # Who was there first finds the new server at the old place, and may leave it alone.
        assert second.joined() == before.socket_dir
        assert query(home, "select value from kept") == "42"

    assert query(home, "select value from kept") == "42"
    second.leave()
    assert has_shut_down(home)


async def test_a_reused_process_id_in_stale_files_neither_blocks_the_start_nor_gets_stopped(
    home: Path, launch: Launch
) -> None:
    killed = launch(home)
    killed.joined()
    server = running(home)
    killed.kill()
    server.kill()
    gone(server)
    # After a reboot the number in the files may be anybody's; here, one of the same user.
    stranger = sleeper(account_for(home))
    try:
        for name in ("postgres/postmaster.pid", "postgres-run/.s.PGSQL.5432.lock"):
            path = home / name
            path.write_text(path.read_text().replace(str(server.pid), str(stranger.pid), 1))
        async with embedded_server(home):
            assert query(home, "select 1") == "1"

        assert has_shut_down(home)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_lock_file_that_a_power_failure_emptied_is_no_obstacle(home: Path) -> None:
    lock_file = home / "postgres/postmaster.pid"
    lock_file.touch()
    os.chown(lock_file, account_for(home).uid, -1)

    async with embedded_server(home):
        assert query(home, "select 1") == "1"


def test_a_signal_to_the_terminals_group_reaches_the_command_and_not_the_server(
    home: Path, launch: Launch
) -> None:
    first, second = launch(home), launch(home)
    first.joined()
    second.joined()
    server = running(home)

    os.killpg(first.process.pid, signal.SIGINT)
    assert first.process.wait() == 0
    assert running(home) == server
    assert query(home, "select 1") == "1"
    os.killpg(second.process.pid, signal.SIGTERM)
    assert second.process.wait() == 0
    assert has_shut_down(home)


async def test_a_cancelled_start_leaves_no_server_behind(home: Path) -> None:
    has_started = asyncio.Event()

    async def use() -> None:
        async with embedded_server(home):
            has_started.set()
            await asyncio.Event().wait()

    for _ in range(10):
        has_started.clear()
        task = asyncio.create_task(use())
        await asyncio.to_thread(appeared, home / "postgres/postmaster.pid")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not has_started.is_set():
            break
        # It had started before it was cancelled: once more.
    assert not has_started.is_set()

    assert has_shut_down(home)
    async with embedded_server(home):
        assert query(home, "select 1") == "1"
