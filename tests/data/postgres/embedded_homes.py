"""Homes to try the embedded PostgreSQL in, and processes that use it as the commands do."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from data.postgres.embedded import Account, account_for, embedded_server, postgres_bin
from data.postgres.embedded_account import open_way

ROOT = Path(__file__).parents[3]
AS_ROOT = os.geteuid() == 0
# Some ordinary user, and somebody without a name: only root may become them.
ORDINARY = pwd.getpwnam("nobody").pw_uid if AS_ROOT else os.geteuid()
NAMELESS = 54321

# Joins the server of a home, tells so in one line, and leaves in an orderly way when its standard
# input ends or a signal asks for it. Everything is imported before it becomes another user, who
# may not be able to read this interpreter's library.
_COMMAND = """
import asyncio, concurrent.futures.thread, json, os, resource, signal, sys
from datetime import timedelta
from pathlib import Path
import structlog
from data.postgres.embedded import EmbeddedPostgresError, embedded_server

async def main(home, timeout):
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, leave.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    try:
        async with embedded_server(Path(home), start_timeout=timedelta(seconds=timeout)) as server:
            print(json.dumps({"socket_dir": str(server.socket_dir)}), flush=True)
            await leave.wait()
    except EmbeddedPostgresError as error:
        print(json.dumps({"error": error.message}), flush=True)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
options = json.loads(sys.argv[2])
if "file_size" in options:
    resource.setrlimit(resource.RLIMIT_FSIZE, (options["file_size"], options["file_size"]))
if options.get("uid", os.geteuid()) != os.geteuid():
    os.setgroups([])
    os.setgid(options["uid"])
    os.setuid(options["uid"])
asyncio.run(main(sys.argv[1], options.get("timeout", 60)))
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A process that uses the server of a home."""

    process: subprocess.Popen[str]

    def said(self) -> dict[str, str]:
        """What it told: `socket_dir` once it has joined, or `error`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the command ended without a word, status {self.process.wait()}"
        answer: dict[str, str] = json.loads(line)
        return answer

    def joined(self) -> Path:
        """The folder of the socket, once it has joined."""
        said = self.said()
        assert "error" not in said, said
        return Path(said["socket_dir"])

    def refused(self) -> str:
        """The one line that it was refused with."""
        message = self.said()["error"]
        assert "\n" not in message
        return message

    def leave(self) -> None:
        """Asks it to leave, and waits for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self.process.kill()
        self.process.wait()


Launch = Callable[..., Command]


@contextmanager
def launcher() -> Iterator[Launch]:
    """A function that starts commands; what still runs in the end is killed.

    Its options: `uid` to run as, `timeout` of the start in seconds, `file_size` in bytes that no
    file may exceed; `prefix` is put before the command.
    """
    commands: list[Command] = []

    def start(home: Path, prefix: tuple[str, ...] = (), **options: Any) -> Command:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", _COMMAND, str(home), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        commands.append(Command(process))
        return commands[-1]

    try:
        yield start
    finally:
        for command in commands:
            command.kill()
            for stream in (command.process.stdin, command.process.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):
                    stream.close()


def _place() -> str:
    """Memory where there is enough of it: dozens of clusters come and go, each synced to disk."""
    memory = "/dev/shm"
    roomy = Path(memory).is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    return memory if roomy else "/tmp"


@contextmanager
def scratch_folder(uid: int | None = None) -> Iterator[Path]:
    """A private folder, of this user if given, that leaves no server behind."""
    # Not tmp_path: another run of pytest closes the folders above it while ours are in use.
    folder = Path(tempfile.mkdtemp(prefix="footfall-test-", dir=_place()))
    if uid is not None:
        os.chown(folder, uid, -1)
    try:
        yield folder
    finally:
        for pid_file in folder.rglob("postmaster.pid"):
            server = postmaster(pid_file.parents[1])
            if server is not None:
                # At once, but not without giving its shared memory back.
                server.send_signal(signal.SIGQUIT)
                gone(server)
        shutil.rmtree(folder)


@contextmanager
def template_home() -> Iterator[Path]:
    """A home with a cluster at rest, to be copied: making one takes seconds."""
    with scratch_folder() as folder:

        async def make() -> None:
            async with embedded_server(folder / "home"):
                pass

        asyncio.run(make())
        yield folder / "home"


def copy_home(template: Path, home: Path) -> Path:
    """Another home with the same cluster, owners and modes."""
    subprocess.run(["cp", "-a", str(template), str(home)], check=True)
    return home


@contextmanager
def way_to_the_programs(uid: int) -> Iterator[None]:
    """A user may pass the folders above the bundled programs, and afterwards as little as before.

    A real one would have a checkout of their own.
    """
    name = "system.posix_acl_access"
    before = {
        folder: os.getxattr(folder, name) if name in os.listxattr(folder) else None
        for folder in postgres_bin().parents
    }
    if AS_ROOT:
        open_way(postgres_bin() / "postgres", Account(uid, uid))
    try:
        yield
    finally:
        for folder, packed in before.items():
            if packed is None and name in os.listxattr(folder):
                os.removexattr(folder, name)
            elif packed is not None and packed != os.getxattr(folder, name):
                os.setxattr(folder, name, packed)


def postmaster(home: Path) -> psutil.Process | None:
    """The server that runs on this home, if any."""
    try:
        process = psutil.Process(int((home / "postgres/postmaster.pid").read_text().split()[0]))
        return process if (home / "postgres").samefile(process.cwd()) else None
    except (OSError, IndexError, psutil.Error):
        return None


def running(home: Path) -> psutil.Process:
    """The server that must be running on this home."""
    server = postmaster(home)
    assert server is not None, "no server runs"
    return server


def gone(process: psutil.Process) -> None:
    """Returns when the process has ended."""
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


def appeared(path: Path) -> None:
    """Returns when the file exists."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.001)


def has_shut_down(home: Path) -> bool:
    """Whether no server runs, and the last one ended in an orderly way."""
    said = (home / "postgres-run/postgres.log").read_text()
    return postmaster(home) is None and "database system is shut down" in said


def start_by_hand(home: Path) -> None:
    """Starts the server as somebody would who knows nothing of us."""
    account, data_dir = account_for(home), home / "postgres"
    if account.is_another:
        open_way(data_dir, account)
    pg_ctl = str(postgres_bin() / "pg_ctl")
    where = ("-D", str(data_dir), "-o", f"-c listen_addresses= -k {home / 'postgres-run'}")
    subprocess.run(
        [pg_ctl, "start", "-w", "-s", "-l", "/dev/null", *where],
        check=True,
        cwd="/",
        env={},
        **account.process,
    )


def sleeper(account: Account) -> subprocess.Popen[bytes]:
    """A process of this account that has nothing to do with PostgreSQL."""
    return subprocess.Popen(["sleep", "600"], **account.process)


def query(home: Path, statement: str, database: str = "footfall") -> str:
    """What psql prints for a statement, run as the superuser."""
    where = ["-h", str(home / "postgres-run"), "-U", "postgres", "-d", database]
    command = [str(postgres_bin() / "psql"), "-XAtq", *where, "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
