"""The end of the admin log as this machine has seen it, kept in a file beside the ledger.

A chain proves that nothing within it was changed. It cannot prove that nothing was cut off its
end: what is left is a whole chain. So every process keeps the newest position and hash that it has
seen where the ledger's administrators need not come by, and looks whether they are still there.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from data.admin_log import NOTHING, Break, Head
from data.postgres.admin_log import prove, prove_head
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from telemetry.admin_metrics import AdminLogMetrics

log = structlog.get_logger()

FILE_NAME = "admin_log.head"
LOOK_EVERY_SECONDS = 10.0


def read_head(file: Path, ledger_id: UUID) -> Head | None:
    """The end of a ledger's log as the file has it; None where it has none.

    Raises OSError where there is a file that cannot be read, ValueError where it is damaged.
    """
    return _read(file).get(str(ledger_id))


def keep_head(file: Path, ledger_id: UUID, head: Head) -> None:
    """Keep an end, unless the file has a later one; for several processes. Raises OSError."""
    with file.with_name(f".{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            heads = _read(file)
        except ValueError:
            heads = {}
        known = heads.get(str(ledger_id), NOTHING)
        if known.position >= head.position > 0:
            return
        heads[str(ledger_id)] = head
        draft = file.with_name(f".{file.name}.draft")
        with draft.open("wb") as target:
            target.write(msgspec.json.encode(heads))
            target.flush()
            os.fsync(target.fileno())
        draft.replace(file)


def _read(file: Path) -> dict[str, Head]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Head])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is damaged") from error


@dataclass(slots=True)
class AdminLogWatch:
    """Proves what is added to the admin log, and keeps its end.

    `seen` is the last entry that was found good; `broken` says where the log is no longer what it
    was, and stays until a look finds it whole.
    """

    engine: Engine
    ledger_id: UUID
    file: Path
    metrics: AdminLogMetrics
    seen: Head = NOTHING
    broken: Break | None = None
    _is_file_trouble_told: bool = field(default=False, init=False)

    async def look(self) -> None:
        """Look once. Raises `LedgerUnavailable`; trouble with the file is logged."""
        self.seen = max(self.seen, self._kept(), key=lambda head: head.position)
        broken = await prove_head(self.engine, self.seen)
        if broken is None:
            proof = await prove(self.engine, self.seen)
            self.seen, broken = proof.newest, proof.broken
        self.metrics.position.set(self.seen.position)
        if broken is None:
            self.broken = None
            await self._keep()
            return
        self.metrics.breaks.inc()
        if broken != self.broken:
            log.error("admin_log.broken", kind=broken.kind, position=broken.position)
        self.broken = broken

    def _kept(self) -> Head:
        try:
            return read_head(self.file, self.ledger_id) or NOTHING
        except (OSError, ValueError) as error:
            self._tell(error)
            return NOTHING

    async def _keep(self) -> None:
        try:
            if self.seen.position and self._kept().position < self.seen.position:
                # It waits for the disk.
                await asyncio.to_thread(keep_head, self.file, self.ledger_id, self.seen)
                self._is_file_trouble_told = False
        except OSError as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_file_trouble_told:
            log.warning("admin_log.head.unusable", file=str(self.file), error=str(error))
        self._is_file_trouble_told = True

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except (LedgerUnavailable, LedgerRefused):
                pass  # those who look after the ledger know by other ways
            except Exception:
                log.exception("admin_log.look.failed")
            await asyncio.sleep(LOOK_EVERY_SECONDS)


@asynccontextmanager
async def watching_admin_log(watch: AdminLogWatch) -> AsyncIterator[AdminLogWatch]:
    """The watch at work, until the block is left."""
    running = asyncio.create_task(watch.run(), name="admin-log")
    try:
        yield watch
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
