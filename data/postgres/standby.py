"""What a hot standby says of itself, and the heartbeat by which its lag can be told."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import driver_connection

# On an idle primary nothing is replayed, and the last commit grows old without any lag: the
# heartbeat is a commit each second. Both clocks are of database servers, which go by NTP.
_STATE = """
select
    pg_is_in_recovery() as is_standby,
    extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 as lag,
    (select max(position) from ingest_batches) as newest,
    (select ledger_id from ledger) as ledger_id
"""

# A transaction with a number of its own and nothing else: its commit is a record of some 34 bytes
# in the log, which a standby replays. No table grows, and nobody waits for the disk.
_HEARTBEAT = "select pg_current_xact_id()"


@dataclass(frozen=True, slots=True)
class StandbyState:
    """How a server is that reads may go to.

    `lag` is the age in seconds of the newest commit that it has replayed, None if it has replayed
    none since its start; 0 on a primary. `newest` is the last position of its change feed.
    """

    is_standby: bool
    lag: float | None
    newest: int
    ledger_id: UUID


async def standby_state(engine: AsyncEngine) -> StandbyState:
    """How the server behind an engine is; raises `LedgerUnavailable`."""
    async with driver_connection(engine) as connection:
        row = await connection.fetchrow(_STATE)
    lag = row["lag"] if row["is_standby"] else 0.0
    return StandbyState(
        is_standby=row["is_standby"],
        lag=None if lag is None else max(0.0, lag),
        newest=row["newest"] or 0,
        ledger_id=row["ledger_id"],
    )


async def send_heartbeat(primary: AsyncEngine) -> None:
    """Commit a transaction that changes nothing, so that standbys can tell how far they are."""
    async with driver_connection(primary) as connection:
        await connection.execute(_HEARTBEAT)
