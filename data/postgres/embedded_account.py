"""Whom the embedded PostgreSQL runs as, and that this user reaches its folders.

PostgreSQL refuses to run as root. So that root may use Footfall all the same, the server then runs
as the owner of the home folder, or as a system account of its own.
"""

import errno
import os
import pwd
import stat
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

_SERVICE_ACCOUNT = "footfall"
# All that child processes see: PGOPTIONS, PGDATA and the like of the caller would interfere.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; `message` says in one line why and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system."""

    uid: int
    gid: int

    @property
    def is_named(self) -> bool:
        """Whether the system has a name for it; containers often run as a bare number."""
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return False
        return True

    @property
    def name(self) -> str:
        """Its name, or its number where there is none."""
        return pwd.getpwuid(self.uid).pw_name if self.is_named else str(self.uid)

    @property
    def is_another(self) -> bool:
        """Whether it is not the user of this process."""
        return self.uid != os.geteuid()

    @property
    def process(self) -> dict[str, Any]:
        """What makes `subprocess.run` start a program as this account."""
        if not self.is_another:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(home: Path) -> Account:
    """Who PostgreSQL runs as in this home: the caller, or for root somebody else.

    Root gets the owner of the cluster, else the owner of the home, else the system account
    `footfall`, which is made when it is missing. Raises `EmbeddedPostgresError` if it cannot be.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    owner = _owner(home / "postgres" / "PG_VERSION")
    if owner is not None:
        return owner
    owner = _owner(home)
    # initdb wants a name, so a number that owns a volume will not do for a new cluster.
    return owner if owner is not None and owner.is_named else _service_account()


def _owner(path: Path) -> Account | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if status.st_uid == 0:
        return None
    with suppress(KeyError):
        return Account(status.st_uid, pwd.getpwuid(status.st_uid).pw_gid)
    return Account(status.st_uid, status.st_gid)


def _service_account() -> Account:
    command = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin")
    reason = ""
    # Several commands may try at once: the loser finds the winner's account in the next round.
    for _ in range(5):
        with suppress(KeyError):
            entry = pwd.getpwnam(_SERVICE_ACCOUNT)
            return Account(entry.pw_uid, entry.pw_gid)
        if reason:
            time.sleep(0.2)
        try:
            done = subprocess.run(  # noqa: S603  fixed words
                [*command, _SERVICE_ACCOUNT],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            reason = " ".join(done.stderr.split()) or "useradd failed"
        except FileNotFoundError:
            reason = "there is no useradd"
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and the system account {_SERVICE_ACCOUNT} could not "
        f"be made ({reason}): make it, or run Footfall as an ordinary user"
    )


def make_private(folder: Path, account: Account) -> None:
    """Sees to it that `folder` exists and only the account (and root) can look into it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and account.is_another:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid:
        owner = Account(status.st_uid, status.st_gid).name
        raise EmbeddedPostgresError(
            f"{folder} belongs to {owner}, not to {account.name}: run Footfall as {owner}, "
            "move the folder away, or set FOOTFALL_HOME to a folder of your own"
        )
    folder.chmod(0o700)


def open_way(target: Path, account: Account) -> None:
    """Lets the account pass through the closed folders above `target`, such as /root.

    An access control entry lets this one account pass and not even list; a mode would open the
    folder for everybody.
    """
    for folder in reversed(target.parents):
        status = folder.stat()
        if status.st_mode & stat.S_IXOTH or status.st_uid == account.uid:
            continue
        try:
            if _grant_search(folder, status.st_mode, account.uid):
                log.info("postgres.folder.opened", folder=str(folder), account=account.name)
        except (OSError, AttributeError) as error:  # this file system or this OS has no such entry
            raise EmbeddedPostgresError(
                f"PostgreSQL runs as {account.name}, who cannot pass {folder}: run "
                f"`chmod o+x {folder}`, set FOOTFALL_HOME to a folder outside it, "
                "or run Footfall as an ordinary user"
            ) from error


def _grant_search(folder: Path, mode: int, uid: int) -> bool:
    """Adds `user:UID:--x` to the folder's access list; False when it was there already."""
    name = "system.posix_acl_access"
    owner, user, group, mask, others, no_id = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF
    try:
        packed = os.getxattr(folder, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        packed = b""
    # The kernel's form: a version, then (tag, permissions, id) in order of tag and id. Without a
    # list the mode says the same.
    entries = {(tag, who): bits for tag, bits, who in struct.iter_unpack("<HHI", packed[4:])} or {
        (owner, no_id): mode >> 6 & 7,
        (group, no_id): mode >> 3 & 7,
        (others, no_id): mode & 7,
    }
    # The mask caps all entries but the owner's and the others'.
    wanted = entries | {
        (user, uid): entries.get((user, uid), 0) | 1,
        (mask, no_id): entries.get((mask, no_id), entries[group, no_id]) | 1,
    }
    if wanted == entries:
        return False
    body = (struct.pack("<HHI", tag, bits, who) for (tag, who), bits in sorted(wanted.items()))
    os.setxattr(folder, name, struct.pack("<I", 2) + b"".join(body))
    return True
