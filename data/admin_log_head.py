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
from itertools import count
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from data.admin_log import NOTHING, Break, Head
from data.background import Loop, in_background
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
    """Keep an end, unless the file has a later one; for several processes. Raises OSError.

    A file that is damaged is put aside.
    """
    with file.with_name(f".{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            heads = _read(file)
        except ValueError:
            # What it held is for people to look at.
            file.rename(_free_name(file))
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


def set_aside(file: Path) -> list[Path]:
    """The files that were damaged and put aside, until somebody has looked at them."""
    return sorted(file.parent.glob(f"{file.name}.damaged*"))


def _free_name(file: Path) -> Path:
    names = (file.with_name(f"{file.name}.damaged{number or ''}") for number in count())
    return next(name for name in names if not name.exists())


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
    was, and stays until a look finds it whole. `trouble` says what is wrong with the file: then
    nothing tells whether the end was cut off before this process began to look.
    """

    engine: Engine
    ledger_id: UUID
    file: Path
    metrics: AdminLogMetrics
    seen: Head = NOTHING
    broken: Break | None = None
    trouble: str | None = field(default=None, init=False)

    async def look(self) -> None:
        """Look once. Raises `LedgerUnavailable`; trouble with the file is logged."""
        kept, trouble = self._kept()
        self.seen = max(self.seen, kept, key=lambda head: head.position)
        broken = await prove_head(self.engine, self.seen)
        if broken is None:
            proof = await prove(self.engine, self.seen)
            self.seen, broken = proof.newest, proof.broken
        self.metrics.position.set(self.seen.position)
        if broken is None:
            trouble = await self._keep() or trouble
        self._tell(trouble)
        if broken is None:
            self.broken = None
            return
        self.metrics.breaks.inc()
        if broken != self.broken:
            log.error("admin_log.broken", kind=broken.kind, position=broken.position)
        self.broken = broken

    def _kept(self) -> tuple[Head, str | None]:
        """The end in the file, and what is wrong with the file."""
        try:
            head = read_head(self.file, self.ledger_id) or NOTHING
        except (OSError, ValueError) as error:
            return NOTHING, str(error)
        aside = set_aside(self.file)
        return head, f"{aside[0]} was damaged and put aside" if aside else None

    async def _keep(self) -> str | None:
        """Keep the end that was seen; what hinders it."""
        try:
            if self.seen.position and self._kept()[0].position < self.seen.position:
                # It waits for the disk.
                await asyncio.to_thread(keep_head, self.file, self.ledger_id, self.seen)
        except OSError as error:
            return str(error)
        return None

    def _tell(self, trouble: str | None) -> None:
        if trouble and self.trouble is None:
            log.error("admin_log.head.unusable", file=str(self.file), error=trouble)
        self.trouble = trouble

    async def look_if_possible(self) -> None:
        """Look once, unless the ledger is away: those who look after it know by other ways."""
        with suppress(LedgerUnavailable, LedgerRefused):
            await self.look()


@asynccontextmanager
async def watching_admin_log(watch: AdminLogWatch) -> AsyncIterator[AdminLogWatch]:
    """The watch at work, until the block is left."""
    async with in_background(
        Loop("admin_log.look", watch.look_if_possible, pause=LOOK_EVERY_SECONDS)
    ):
        yield watch
