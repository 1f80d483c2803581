"""PostgreSQL out of a wheel, shared by all commands that work on one home folder.

Lock files in `<home>/postgres-run` say who uses the server. The kernel frees a lock when its
holder ends, even by SIGKILL, and cannot take a new process for an old one as lists of pids do.

- `gate`: held by one command at a time, while it starts, joins or stops the server.
- `attached`: shared by everybody who uses the server; who can have it alone is the last one.
- `server`: inherited by the postmaster and its children, so it is free when none of them lives.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import URL

from data.postgres.embedded_account import (
    Account,
    EmbeddedPostgresError,
    account_for,
    make_private,
    open_way,
)
from data.postgres.embedded_cluster import (
    DATABASE,
    POLL_SECONDS,
    PORT,
    Cluster,
    disk_full,
    ensure_cluster,
    ensure_running,
    open_lock,
    postgres_bin,
    stop_if_unused,
    try_exclusive,
)

__all__ = [
    "Account",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "account_for",
    "embedded_server",
    "postgres_bin",
]

log = structlog.get_logger()

T = TypeVar("T")

# Whoever holds the gate longer than this is starting the server, so it will not miss our stop.
_LEAVE_SECONDS = 10.0
# Socket paths end at 107 bytes (103 on macOS), 14 of them the file's name, and stand in lists and
# URLs with quoting rules of their own.
_PLAIN_SOCKET_DIR = re.compile(r"[A-Za-z0-9/._-]{1,88}")


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server; by its socket every role that may log in gets in without a password."""

    socket_dir: Path
    port: int
    data_dir: Path

    def url(self, role: str, database: str = DATABASE) -> str:
        """SQLAlchemy's URL for this role, with the asyncpg driver."""
        query = {"host": str(self.socket_dir), "port": str(self.port)}
        url = URL.create("postgresql+asyncpg", username=role, database=database, query=query)
        return url.render_as_string(hide_password=False)


@asynccontextmanager
async def embedded_server(
    home: Path, *, start_timeout: timedelta = timedelta(minutes=2)
) -> AsyncIterator[EmbeddedPostgres]:
    """The server on `<home>/postgres` with database `footfall`: made, started or joined.

    Who leaves last stops it. Raises `EmbeddedPostgresError`. A server that is still recovering
    after `start_timeout` goes on with that, so that the next attempt finds it further.
    """
    attachment = _Attachment(home, start_timeout.total_seconds())
    try:
        yield await _uninterrupted(attachment.enter)
    finally:
        await _uninterrupted(attachment.leave)


async def _uninterrupted(work: Callable[[], T]) -> T:
    """The result of blocking work; a cancellation waits for its end, so nothing is half done."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # asked for, or asyncio would complain that nobody did
        raise cancelled
    return task.result()


class _Attachment:
    """One use of the server, from joining to leaving."""

    def __init__(self, home: Path, start_seconds: float) -> None:
        self._home = home
        self._start_seconds = start_seconds
        self._joined: tuple[Cluster, int] | None = None

    def enter(self) -> EmbeddedPostgres:
        """Joins the server, and starts it before if nobody has."""
        try:
            cluster = _locate(self._home, self._start_seconds)
            with _gate(cluster, self._start_seconds) as gate:
                ensure_cluster(cluster, gate)
                ensure_running(cluster)
                attached = open_lock(cluster.run_dir / "attached", cluster.account)
                self._joined = (cluster, attached)
                fcntl.flock(attached, fcntl.LOCK_SH)
        except OSError as error:
            raise EmbeddedPostgresError(_explain(error, self._home)) from error
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(
                f"{Path(error.cmd[0]).name} of the embedded PostgreSQL in {self._home} did not end "
                f"within {error.timeout:g} s: the machine is busy or its disk hangs, try again"
            ) from error
        return EmbeddedPostgres(cluster.socket_dir, PORT, cluster.data_dir)

    def leave(self) -> None:
        """Leaves the server and stops it if nobody else uses it; a failure to stop is logged."""
        if self._joined is None:
            return
        cluster, attached = self._joined
        self._joined = None
        try:
            with _gate(cluster, _LEAVE_SECONDS):
                stop_if_unused(cluster, attached)
        except (EmbeddedPostgresError, OSError, subprocess.SubprocessError) as error:
            log.warning("postgres.stop.failed", reason=str(error))
        finally:
            os.close(attached)


def _locate(home: Path, start_seconds: float) -> Cluster:
    """Where everything is, with the folders made and open to PostgreSQL's account."""
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    account = account_for(home)
    run_dir = home / "postgres-run"
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    # Not the caller's TMPDIR, which may be another one in the next command.
    short = Path("/tmp").resolve() / f"footfall-{digest}"  # noqa: S108  made private
    socket_dir = run_dir if _PLAIN_SOCKET_DIR.fullmatch(str(run_dir)) else short
    for folder in (run_dir, socket_dir):
        make_private(folder, account)
    data_dir = (home / "postgres").resolve()
    if account.is_another:
        for path in (data_dir, run_dir, socket_dir, postgres_bin() / "postgres"):
            open_way(path, account)
    return Cluster(data_dir, run_dir, socket_dir, account, start_seconds)


@contextmanager
def _gate(cluster: Cluster, seconds: float) -> Iterator[int]:
    """Holds the gate; waits for it, `seconds` at the most."""
    gate = open_lock(cluster.run_dir / "gate", cluster.account)
    deadline = time.monotonic() + seconds
    try:
        while not try_exclusive(gate):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another command has been starting or stopping PostgreSQL in "
                    f"{cluster.data_dir} for more than {seconds:g} s: wait for it or end it"
                )
            time.sleep(POLL_SECONDS)
        yield gate
    finally:
        os.close(gate)


def _explain(error: OSError, home: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(home)
    return (
        f"{error.filename or home} cannot be used for the embedded PostgreSQL "
        f"({error.strerror or error}): make {home} a writable folder, "
        "or set FOOTFALL_HOME to one that is"
    )
