"""Salts from which visitor ids are derived: one for each UTC day, destroyed after 48 hours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.lookout import Lookout
from data.postgres.tables import visitor_salts

LIFETIME = timedelta(hours=48)


async def salt_of(connection: AsyncConnection, day: date) -> bytes:
    """The day's salt, the same for every process; made by whoever asks first."""
    made = insert(visitor_salts).values(day=day, salt=secrets.token_bytes(32))
    await connection.execute(made.on_conflict_do_nothing())
    statement = select(visitor_salts.c.salt).where(visitor_salts.c.day == day)
    salt: bytes = (await connection.execute(statement)).scalar_one()
    return salt


async def destroy_salts(connection: AsyncConnection, now: datetime) -> int:
    """Delete salts whose day began 48 hours ago or more; how many there were."""
    statement = delete(visitor_salts).where(visitor_salts.c.day <= (now - LIFETIME).date())
    result = await connection.execute(statement)
    return result.rowcount


@dataclass(slots=True)
class SaltKeeper:
    """The salts of the current day and of the next, held in memory.

    The next one is there before it is needed, so that a ledger that is away at midnight keeps
    nobody from sending events.
    """

    engine: AsyncEngine
    lookout: Lookout | None = None
    _day: date | None = None
    _salts: dict[date, bytes] = field(default_factory=dict, repr=False)

    async def salt(self, now: datetime) -> bytes:
        """The salt of the UTC day of `now`; raises `LedgerUnavailable` where it is not at hand."""
        day = now.date()
        if day != self._day:
            try:
                reading = self._fetched(day)
                salts = await (self.lookout.ask(reading) if self.lookout else reading)
            except LedgerUnavailable:
                if day not in self._salts:
                    raise
            else:
                self._day, self._salts = day, salts
        return self._salts[day]

    async def _fetched(self, day: date) -> dict[date, bytes]:
        next_day = day + timedelta(days=1)
        async with transaction(self.engine) as connection:
            return {one: await salt_of(connection, one) for one in (day, next_day)}
