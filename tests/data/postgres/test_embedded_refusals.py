"""What may be in the way of the embedded PostgreSQL, and the line that says what to do."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.postgres import embedded
from data.postgres.embedded import (
    EmbeddedPostgresError,
    account_for,
    embedded_server,
)
from data.postgres.embedded_cluster import MAJOR_VERSION, gist
from tests.data.postgres.embedded_homes import (
    AS_ROOT,
    ORDINARY,
    Launch,
    copy_home,
    launcher,
    query,
    running,
    scratch_folder,
    start_by_hand,
    template_home,
)


@pytest.fixture
def launch() -> Iterator[Launch]:
    with launcher() as start:
        yield start


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with template_home() as home:
        yield home


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A home that does not exist yet, in a folder that only we may enter."""
    with scratch_folder() as folder:
        yield folder / "home"


@pytest.fixture
def home(fresh: Path, template: Path) -> Path:
    """A home with a cluster at rest."""
    return copy_home(template, fresh)


async def refusal(home: Path) -> str:
    """The one line that a command is refused with."""
    with pytest.raises(EmbeddedPostgresError) as caught:
        async with embedded_server(home):
            pass
    assert "\n" not in caught.value.message
    return caught.value.message


def put_into_data_folder(home: Path, name: str, content: str) -> None:
    data_dir = home / "postgres"
    data_dir.mkdir(parents=True)
    (data_dir / name).write_text(content)
    os.chown(data_dir, account_for(home).uid, -1)


# The folder


async def test_a_folder_of_another_version_is_refused(fresh: Path) -> None:
    put_into_data_folder(fresh, "PG_VERSION", "16\n")

    message = await refusal(fresh)

    assert f"was made by PostgreSQL 16, and this Footfall brings {MAJOR_VERSION}" in message
    assert "set FOOTFALL_HOME to a new folder" in message


async def test_a_folder_with_other_files_is_refused_and_left_alone(fresh: Path) -> None:
    put_into_data_folder(fresh, "holiday.jpg", "sun")

    message = await refusal(fresh)

    assert "holds files that are not PostgreSQL's (holiday.jpg): move them away" in message
    assert [path.name for path in (fresh / "postgres").iterdir()] == ["holiday.jpg"]


async def test_a_home_that_is_a_file_is_refused(fresh: Path) -> None:
    os.mknod(fresh)

    assert f"{fresh} cannot be used for the embedded PostgreSQL" in await refusal(fresh)


def test_a_folder_that_cannot_be_written_is_refused(launch: Launch) -> None:
    with scratch_folder(ORDINARY) as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o555)
        message = launch(closed / "home", uid=ORDINARY).refused()

    assert "cannot be used for the embedded PostgreSQL (Permission denied)" in message
    assert f"make {closed / 'home'} a writable folder, or set FOOTFALL_HOME" in message


def test_a_folder_of_somebody_else_is_refused(launch: Launch) -> None:
    with scratch_folder(ORDINARY) as folder:
        in_the_way = folder / "postgres-run"
        if AS_ROOT:
            in_the_way.mkdir(mode=0o755)
        else:
            # We cannot give a folder away, but a link to one of root's is as good.
            in_the_way.symlink_to("/")
        message = launch(folder, uid=ORDINARY).refused()
        in_the_way.rmdir() if AS_ROOT else in_the_way.unlink()

    assert f"{in_the_way} belongs to " in message
    assert "set FOOTFALL_HOME to a folder of your own" in message


def test_a_disk_that_takes_no_more_is_told_and_nothing_half_made_stays(
    fresh: Path, launch: Launch
) -> None:
    # Less than one segment of the write-ahead log.
    message = launch(fresh, file_size=2**20).refused()

    assert f"PostgreSQL could not make its folder {fresh / 'postgres'}" in message
    assert sorted(path.name for path in fresh.iterdir()) == ["postgres-run"]


def test_a_full_disk_is_called_by_its_name() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/data/postgres-run/gate")

    assert embedded._explain(error, Path("/data")) == (
        "the disk of /data is full: free some space, "
        "or set FOOTFALL_HOME to a folder on another disk"
    )


# The server


async def test_a_server_that_does_not_start_says_why(home: Path) -> None:
    with (home / "postgres/postgresql.auto.conf").open("a") as settings:
        settings.write("shared_buffers = 'plenty'\n")

    message = await refusal(home)

    assert f"PostgreSQL in {home / 'postgres'} does not start: FATAL: configuration" in message
    assert str(home / "postgres-run/postgres.log") in message


async def test_a_server_that_somebody_else_started_on_the_folder_is_named(home: Path) -> None:
    start_by_hand(home)

    message = await refusal(home)

    assert f"stop it (process {running(home).pid}) and try again" in message


def test_a_start_that_takes_too_long_is_told_with_what_the_server_says_and_goes_on(
    home: Path, launch: Launch
) -> None:
    # Recovery waits for an archive that answers slowly.
    (home / "postgres/recovery.signal").touch()
    with (home / "postgres/postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'sleep 10; false'\n")

    message = launch(home, timeout=4).refused()

    assert "did not answer within 4 s, it says: LOG: " in message
    assert "try again later" in message
    assert running(home).is_running()


def test_a_server_that_hangs_is_named(home: Path, launch: Launch) -> None:
    first = launch(home)
    first.joined()
    server = running(home)
    server.suspend()
    try:
        message = launch(home, timeout=0).refused()
    finally:
        server.resume()

    assert f"stop its process {server.pid} and try again" in message
    first.leave()


def test_a_command_that_does_not_get_its_turn_says_so(home: Path, launch: Launch) -> None:
    first = launch(home)
    first.joined()
    with (home / "postgres-run/gate").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        message = launch(home, timeout=0.1).refused()

    assert "another command has been starting or stopping PostgreSQL" in message
    assert "wait for it or end it" in message
    assert query(home, "select 1") == "1"
    first.leave()


def test_the_gist_of_a_log_is_its_last_complaint_with_the_hint() -> None:
    said = (
        "2026-01-01 00:00:00.000 UTC [7] LOG:  starting PostgreSQL\n"
        '2026-01-01 00:00:00.001 UTC [7] FATAL:  could not create lock file "postmaster.pid"\n'
        "2026-01-01 00:00:00.001 UTC [7] HINT:  Remove it.\n"
        "2026-01-01 00:00:00.002 UTC [7] LOG:  database system is shut down\n"
    )

    assert gist(said) == 'FATAL: could not create lock file "postmaster.pid" HINT: Remove it.'
    assert gist("first\n\nlast words\n") == "last words"
    assert gist("") == "nothing"
