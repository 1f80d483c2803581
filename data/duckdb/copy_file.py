"""The file of the columnar copy: made, opened, recognised, thrown away."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import duckdb

from data.duckdb.statements import statement
from data.event_store import StoreUnavailable
from data.queries import Watermark

# Goes up with every change of sql/tables.sql and of what is written there: an older copy is
# rebuilt, never migrated. `copy_state.format_version` must stay readable for ever.
FORMAT_VERSION = 1

Unusable = Literal["format", "damaged", "other_ledger"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What DuckDB says, as it does not tell these errors apart by type.
_DAMAGED = ("checksum", "Corrupt", "not a valid DuckDB", "Could not read enough bytes")
_OTHER_VERSION = ("version number", "storage version", "newer version of DuckDB")
_IN_USE = ("Could not set lock", "different configuration")
# The machine's trouble, not the file's.
_NO_ACCESS = (
    "Cannot open",
    "Could not write",
    "Could not truncate",
    "Could not sync",
    "Permission denied",
    "Input/output error",
    "No space left",
    "Too many open files",
)


class CopyUnusable(Exception):
    """The file cannot serve as a copy of this ledger: throw it away and build a new one."""

    def __init__(self, reason: Unusable, message: str) -> None:
        super().__init__(message)
        self.reason: Unusable = reason


class CopyInUse(Exception):
    """Another process holds the file, or this one does already: DuckDB allows one."""


@dataclass(frozen=True, slots=True)
class CopyFile:
    """Where a copy is, whose it is, and what DuckDB may use for it."""

    path: Path
    ledger_id: str
    memory_limit: str
    threads: int

    def connect(self) -> duckdb.DuckDBPyConnection:
        """The opened copy; a new and empty one where there is no file.

        Raises `CopyUnusable`, `CopyInUse`, or `StoreUnavailable` where the file system refuses.
        """
        is_new = self._is_new()
        connection = self._open()
        try:
            self._lock_down(connection)
            # Only now, with the file locked, is it certain that nobody uses these any more.
            shutil.rmtree(spill_folder(self.path), ignore_errors=True)
            if is_new:
                self._create_tables(connection)
            else:
                self._check(connection)
        except duckdb.Error as error:
            connection.close()
            raise _why_not_opened(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_new(self) -> bool:
        # Asked without opening the file: closing it again would take DuckDB's lock off, should
        # this process hold it.
        try:
            is_folder = stat.S_ISDIR(self.path.stat().st_mode)
        except FileNotFoundError:
            # A log without its file is a remainder, which DuckDB must not find.
            remove_copy(self.path)
            return True
        except OSError as error:
            raise StoreUnavailable(f"{self.path} cannot be opened: {error.strerror}") from error
        if is_folder:
            raise StoreUnavailable(f"{self.path} cannot be opened: it is a folder")
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise StoreUnavailable(f"{self.path} cannot be opened: this user may not write to it")
        return False

    def _open(self) -> duckdb.DuckDBPyConnection:
        folder = self.path.parent.resolve()
        try:
            return duckdb.connect(
                str(folder / self.path.name),
                config={
                    "memory_limit": self.memory_limit,
                    "threads": self.threads,
                    "temp_directory": str(spill_folder(folder / self.path.name)),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,
                },
            )
        except duckdb.Error as error:
            raise _why_not_opened(self.path, error) from error

    def _lock_down(self, connection: duckdb.DuckDBPyConnection) -> None:
        """See to it that no statement reaches beyond the copy's folder, nor the network."""
        # Connections of one process share a database; its settings are locked from the first on.
        if connection.execute("select current_setting('lock_configuration')").fetchall() != [
            (False,)
        ]:
            raise CopyInUse(f"{self.path} is open in this process already")
        folder = str(self.path.parent.resolve())
        connection.execute("set allowed_directories = $folders", {"folders": [folder]})
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")

    def _create_tables(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.begin()
        connection.execute(statement("tables"))
        connection.execute(
            "insert into copy_state (format_version, ledger_id) values ($version, $ledger_id)",
            {"version": FORMAT_VERSION, "ledger_id": self.ledger_id},
        )
        connection.commit()

    def _check(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = connection.execute("select format_version from copy_state").fetchall()
        if found != [(FORMAT_VERSION,)]:
            raise CopyUnusable(
                "format", f"{self.path} has format {found}, expected is {FORMAT_VERSION}"
            )
        [(ledger_id,)] = connection.execute("select ledger_id from copy_state").fetchall()
        if ledger_id != self.ledger_id:
            raise CopyUnusable(
                "other_ledger",
                f"{self.path} is a copy of ledger {ledger_id}, this is {self.ledger_id}",
            )
        read_watermark(connection)
        connection.execute("select occurred_at, arrival from events limit 0")


def read_watermark(cursor: duckdb.DuckDBPyConnection) -> Watermark | None:
    """The last batch that the copy holds, as the cursor's transaction sees it."""
    [(position, batch_id, micros)] = cursor.execute(
        "select position, batch_id, committed_at from copy_state"
    ).fetchall()
    if position is None:
        return None
    return Watermark(position, batch_id, _EPOCH + timedelta(microseconds=micros))


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB complains about what the file holds."""
    return any(sign in str(error) for sign in _DAMAGED)


def _why_not_opened(path: Path, error: duckdb.Error) -> Exception:
    text = str(error)
    if any(sign in text for sign in _IN_USE):
        return CopyInUse(f"{path} is in use: {text}")
    if any(sign in text for sign in _OTHER_VERSION):
        return CopyUnusable("format", f"{path} was written by another version of DuckDB: {text}")
    no_access = isinstance(error, duckdb.OutOfMemoryException) or any(
        sign in text for sign in _NO_ACCESS
    )
    if no_access and not is_damage(error):
        return StoreUnavailable(f"{path} cannot be opened: {text}")
    return CopyUnusable("damaged", f"{path} cannot be opened: {text}")


def spill_folder(path: Path) -> Path:
    """Where DuckDB puts what does not fit into memory; a crash leaves it behind."""
    return path.with_name(f".spill-{path.name}")


def remove_copy(path: Path) -> None:
    """Throw a copy away that nobody has open, with its logs and what else DuckDB put beside it."""
    for name in (path.name, f"{path.name}.wal", f"{path.name}.wal.checkpoint"):
        path.with_name(name).unlink(missing_ok=True)
    path.with_name(f"{path.name}.wal.recovery").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(spill_folder(path))
