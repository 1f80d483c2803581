"""When each key was last used: noted in memory, and written to the ledger now and then.

A request pays for one entry in a dictionary. What the ledger shows is a minute late at most, and
as late as the ledger is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import ARRAY, DateTime, Text, Update, func, literal, or_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from data.background import Loop, in_background
from data.postgres.engine import LedgerRefused, LedgerUnavailable, transaction
from data.postgres.tables import api_keys

log = structlog.get_logger()

FLUSH_SECONDS = 60.0
# At the end of the service, when nobody waits for long.
_LAST_SECONDS = 3.0


@dataclass(slots=True)
class KeyUses:
    """The uses of keys that the ledger has not been told of yet."""

    engine: AsyncEngine
    _noted: dict[str, datetime] = field(default_factory=dict)

    def note(self, key_id: str, now: datetime) -> None:
        """A key was used."""
        self._noted[key_id] = now

    async def flush(self) -> int:
        """Write what was noted, in one statement; how many keys that were.

        Raises `LedgerUnavailable`; then all of it is still noted.
        """
        if not self._noted:
            return 0
        noted, self._noted = self._noted, {}
        try:
            async with transaction(self.engine) as connection:
                # In order, so that two processes never wait for each other.
                await connection.execute(_written(sorted(noted.items())))
        except BaseException:
            self._noted = noted | self._noted
            raise
        return len(noted)

    async def flush_if_possible(self) -> None:
        """Write what was noted, or keep it for the next time."""
        try:
            await self.flush()
        except (LedgerUnavailable, LedgerRefused) as error:
            log.info("keys.uses.kept", reason=str(error))


def _written(noted: list[tuple[str, datetime]]) -> Update:
    """One update for all keys; of several processes the latest use stays."""
    keys, moments = zip(*noted, strict=True)
    used = (
        func.unnest(
            literal(list(keys), ARRAY(Text)), literal(list(moments), ARRAY(DateTime(timezone=True)))
        )
        .table_valued("key_id", "used_at")
        .render_derived("used")
    )
    return (
        update(api_keys)
        .where(
            api_keys.c.key_id == used.c.key_id,
            or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < used.c.used_at),
        )
        .values(last_used_at=used.c.used_at)
    )


@asynccontextmanager
async def open_key_uses(
    engine: AsyncEngine, every: float = FLUSH_SECONDS
) -> AsyncIterator[KeyUses]:
    """Uses of keys, written by themselves, and a last time when the block is left."""
    uses = KeyUses(engine)
    writing = Loop("keys.uses", uses.flush_if_possible, pause=every, waits_first=True)
    try:
        async with in_background(writing):
            yield uses
    finally:
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await uses.flush()
        except (LedgerUnavailable, LedgerRefused, TimeoutError) as error:
            log.info("keys.uses.lost", reason=str(error))
