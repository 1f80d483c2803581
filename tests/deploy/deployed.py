"""What the compose file describes, started without containers: its scripts, settings and commands.

Each server is real and listens on a loopback port; host names and mounted paths of the compose file
are replaced by these, and nothing else is. PostgreSQL and Redis come out of their wheels, and Vault
is the stand-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from data.postgres.embedded_account import ENVIRONMENT, Account
from data.postgres.embedded_cluster import postgres_bin
from tests.deploy.composition import PLAIN, composition, environment, make_secrets
from tests.fixtures.redis import BINARY
from tests.fixtures.service import CONNECTIONS, ROOT, Service, free_port
from tests.fixtures.standby import DATABASE, PASSWORDS, PostgresServer, _account, _run
from tests.fixtures.vault import VaultServer, certificate_for_loopback, running_vault

SECONDS = 60
# As the image has it.
_PG_HBA = "local all all trust\nhost all all all scram-sha-256\n"


@dataclass(slots=True)
class Deployed:
    """Running servers, and what stands in for the names and paths of the compose file."""

    folder: Path
    secrets: Path
    primary: PostgresServer
    replica: PostgresServer
    redis_port: int
    vault: VaultServer
    files: tuple[str, ...] = PLAIN
    places: dict[str, str] = field(default_factory=dict)

    def replaced(self, text: str) -> str:
        """A text of the compose file with addresses and paths of this machine."""
        for name, place in self.places.items():
            text = text.replace(name, place)
        return text

    def settings(self, service: str, **more: str) -> dict[str, str]:
        """The environment that the compose file gives to a service."""
        found = environment(composition(self.files)["services"][service])
        given = {name: self.replaced(value) for name, value in found.items()}
        return {"PATH": self.path, **given, **more}

    @property
    def path(self) -> str:
        """Where programs are found: `footfall` and `python` are those of this tree."""
        parts = (self.folder / "bin", postgres_bin(), BINARY.parent, os.environ["PATH"])
        return ":".join(str(part) for part in parts)

    async def run(self, service: str, *arguments: str, **more: str) -> str:
        """Run a service of the compose file that ends, to its end; all that it said."""
        script = {"vault-setup": "deploy/vault/prepare"}.get(service, "deploy/api/start")
        return await said(["sh", script, *arguments], self.settings(service, **more))


async def said(command: list[str], environment: Mapping[str, str], **options: Any) -> str:
    """What a command said, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=options.pop("cwd", ROOT),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{command}: {out.decode()}"
    return out.decode()


def make_bin(folder: Path) -> None:
    """Programs by the names that they have in the image."""
    folder.mkdir()
    for name, rest in (("python", ""), ("footfall", ' -c "from server.cli import main; main()"')):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
        (folder / name).chmod(0o755)


@asynccontextmanager
async def running_primary(folder: Path, secrets: Path) -> AsyncIterator[PostgresServer]:
    """A new primary that deploy/postgres/primary has set up, twice."""
    folder.mkdir()
    account = _account(folder)
    shutil.chown(folder, account.uid, account.gid)
    (folder / "password").write_text((secrets / "postgres_password").read_text())
    (folder / "password").chmod(0o644)
    primary = PostgresServer(folder / "primary", account)
    _run(
        account,
        "initdb",
        *("-D", str(primary.data_dir), "--username=postgres", f"--pwfile={folder / 'password'}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        *("--set=shared_buffers=32MB", "--set=unix_socket_directories="),
    )
    (primary.data_dir / "pg_hba.conf").write_text(_PG_HBA)
    await primary.start()
    try:
        connection = await primary.connect(database="postgres")
        await connection.execute(f"create database {DATABASE}")
        await connection.close()
        for _ in range(2):
            await set_up_primary(primary, secrets)
        yield primary
    finally:
        await primary.kill()


async def set_up_primary(primary: PostgresServer, secrets: Path) -> str:
    """Run deploy/postgres/primary as the image does."""
    return await said(
        ["sh", str(ROOT / "deploy/postgres/primary")],
        {
            "PATH": f"{postgres_bin()}:{ENVIRONMENT['PATH']}",
            "SECRETS": str(secrets),
            "PGDATA": str(primary.data_dir),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(primary.port),
            "PGPASSWORD": PASSWORDS["postgres"],
        },
    )


@dataclass(slots=True)
class ScriptedReplica(PostgresServer):
    """A standby that deploy/postgres/replica makes and runs."""

    primary_port: int = 0
    secrets: Path = Path()

    async def start(self) -> None:
        """Run the script, and return when the standby answers."""
        script = (ROOT / "deploy/postgres/replica").open("rb")
        with script, (self.data_dir.parent / "replica.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "/dev/stdin", "-p", str(self.port), "-cunix_socket_directories="],
                # By standard input: another account may not be able to reach the source.
                stdin=script,
                env={
                    "PATH": f"{postgres_bin()}:{ENVIRONMENT['PATH']}",
                    "PGDATA": str(self.data_dir),
                    "SECRETS": str(self.secrets),
                    "PRIMARY_HOST": "127.0.0.1",
                    "PRIMARY_PORT": str(self.primary_port),
                },
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.account.process,
            )
        async with asyncio.timeout(SECONDS):
            while not await self._answers():
                assert self.process.poll() is None, f"the replica ended: see {log.name}"
                await asyncio.sleep(0.05)


def secrets_for(folder: Path, account: Account) -> Path:
    """The secrets of deploy/init, readable to the account of PostgreSQL."""
    folder.mkdir(mode=0o700)
    # Those that the fixtures know by heart; init leaves what is there.
    for name, role in (
        ("postgres_password", "postgres"),
        ("reader_password", "replica_user"),
        ("replicator_password", "replicator"),
    ):
        (folder / name).write_text(PASSWORDS[role])
    make_secrets(folder)
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, account.uid, account.gid)
    return folder


@asynccontextmanager
async def running_redis_script(folder: Path, secrets: Path, port: int) -> AsyncIterator[None]:
    """Redis by deploy/redis/start, with its password and its file of writes in a folder."""
    folder.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *("sh", "deploy/redis/start", "--port", str(port), "--dir", str(folder)),
        cwd=ROOT,
        env={
            "PATH": f"{BINARY.parent}:{os.environ['PATH']}",
            "SECRETS": str(secrets),
            "REDIS_CONF": str(ROOT / "deploy/redis/redis.conf"),
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                assert process.returncode is None, "Redis ended at its start"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        # The script has become Redis, so this is Redis' own process, however it ends.
        process.kill()
        await process.wait()


def redis_client(port: int, secrets: Path) -> Redis:
    """A client that knows the password."""
    return Redis(port=port, password=(secrets / "redis_password").read_text())


@asynccontextmanager
async def running_servers(folder: Path, files: tuple[str, ...] = PLAIN) -> AsyncIterator[Deployed]:
    """All servers of the compose file, set up and migrated by the scripts that it names."""
    account = _account(folder)
    make_bin(folder / "bin")
    secrets = secrets_for(folder / "secrets", account)
    for parent in (folder, folder / "secrets"):
        shutil.chown(parent, account.uid, account.gid)
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(running_primary(folder / "postgres", secrets))
        replica = ScriptedReplica(
            folder / "postgres" / "replica",
            account,
            primary_port=primary.port,
            secrets=secrets,
        )
        stack.push_async_callback(replica.kill)
        await replica.start()
        port = free_port()
        await stack.enter_async_context(running_redis_script(folder / "redis", secrets, port))
        certificate = None if files == PLAIN else certificate_for_loopback(folder)
        vault = await stack.enter_async_context(running_vault(folder / "vault", certificate))
        deployed = Deployed(folder, secrets, primary, replica, port, vault, files)
        _name_places(deployed)
        await _set_up(deployed)
        yield deployed


def _name_places(deployed: Deployed) -> None:
    mounted = deployed.folder / "mounted"
    deployed.places = {
        "/run/secrets": str(mounted),
        "/run/vault-credentials": str(deployed.folder / "vault-credentials"),
        "/run/vault-keys": str(deployed.folder / "vault-keys"),
        "/var/lib/footfall": str(deployed.folder / "home"),
        "/tmp/footfall": str(deployed.folder / "passing"),
        "172.30.99.0/24": "127.0.0.1/32",
        "primary:5432": f"127.0.0.1:{deployed.primary.port}",
        "replica:5432": f"127.0.0.1:{deployed.replica.port}",
        "redis:6379": f"127.0.0.1:{deployed.redis_port}",
        "http://vault:8200": deployed.vault.url,
        "https://vault:8200": deployed.vault.url,
    }
    mounted.mkdir()
    for path in deployed.secrets.iterdir():
        (mounted / path.name).write_text(deployed.replaced(path.read_text()))
    if deployed.vault.certificate is not None:
        # The stand-in has a certificate for its address, and vouches for itself.
        shutil.copy(deployed.vault.certificate, mounted / "authority")


async def _set_up(deployed: Deployed) -> None:
    """What the services do that run to their end: Vault, which is sealed, and migrations."""
    if deployed.files != PLAIN:
        # People have unsealed it, and one of them has a token.
        await deployed.run("vault-setup", VAULT_TOKEN=deployed.vault.root_token)
        assert "is set up" in await deployed.run("vault-setup")
        assert "0001_ledger" in await deployed.run("migrate", "migrate")
        return
    state = deployed.vault.state()
    keys = deployed.folder / "vault-keys"
    keys.mkdir()
    (keys / "unseal-key").write_text(state["unseal_key"])
    (keys / "root-token").write_text(deployed.vault.root_token)
    await deployed.vault.seal()
    for _ in range(2):
        await deployed.run("vault-setup")
    assert "0001_ledger" in await deployed.run("migrate", "migrate")


@asynccontextmanager
async def running_api(deployed: Deployed, **more: str) -> AsyncIterator[Service]:
    """One more API process, as the compose file starts it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("sh", "deploy/api/start", "serve", "--host", "127.0.0.1", "--port", str(port)),
        cwd=ROOT,
        env=deployed.settings("api", LOG_LEVEL="WARNING", **more),
        stdout=subprocess.DEVNULL,
    )
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=30, limits=CONNECTIONS
    ) as client:
        service = Service(deployed.folder / "home", port, process, client)
        try:
            await service.wait_until_ready()
            kv = deployed.vault.root.secrets.kv.v2
            kept = await asyncio.to_thread(
                kv.read_secret_version, "footfall", raise_on_deleted_version=True
            )
            service.admin_key = kept["data"]["data"]["admin_key"]
            yield service
            if process.returncode is None:
                assert await service.stop() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def running_worker(deployed: Deployed, port: int) -> AsyncIterator[None]:
    """The worker, as the compose file starts it, with its metrics on a port."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "deploy/api/start", "worker", "--metrics-port", str(port)),
        cwd=ROOT,
        env=deployed.settings("worker", LOG_LEVEL="WARNING"),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
