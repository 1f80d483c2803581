"""How a ledger is, for those who look after it: version, clock, rights, partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import asyncpg
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import driver_connection, ledger_errors, single_use_engine

_SERVER = """
select current_setting('server_version_num')::int / 10000 as major,
       current_setting('server_version') as version,
       clock_timestamp() as now
"""

# Names tell the months: `make_event_partitions` gives them.
_NEWEST_PARTITION = """
select max(to_date(right(inhrelid::regclass::text, 7), 'YYYY_MM'))
from pg_inherits
where inhparent = 'events'::regclass
"""

# The last one is what a standby says to a transaction that wants to write.
_REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.FeatureNotSupportedError,
)


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answered: its version (`major` is 18 for 18.3) and what its clock says."""

    major: int
    version: str
    now: datetime


async def server_of(url: URL) -> Server:
    """The server behind a URL."""
    engine = single_use_engine(url)
    try:
        with ledger_errors():
            async with engine.connect() as connection:
                row = (await connection.execute(text(_SERVER))).one()
                return Server(row.major, row.version, row.now)
    finally:
        await engine.dispose()


async def partitions_until(engine: AsyncEngine) -> date | None:
    """The first day of the newest month that has a partition for events; None without any."""
    with ledger_errors():
        async with engine.connect() as connection:
            found: date | None = (await connection.execute(text(_NEWEST_PARTITION))).scalar_one()
            return found


async def can_write(engine: AsyncEngine) -> bool:
    """Whether this role may add rows, tried with a statement that adds none.

    The transaction is declared as one that writes: a role is only safe when it lacks the right,
    not when it merely begins its transactions as reading ones.
    """
    async with driver_connection(engine) as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("set transaction read write")
            # Rights are checked before the first row is looked for.
            await connection.execute("insert into sites select * from sites where false")
        except _REFUSED:
            return False
        finally:
            await transaction.rollback()
        return True
