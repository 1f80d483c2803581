"""Sources in a ledger, and refreshes of them as they would come out of a fetch."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from time import perf_counter
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import transaction
from data.postgres.source_claims import Claim, claim
from data.postgres.source_writing import Result, Written, write_refresh
from data.postgres.sources import StoredSource, save_source, source_by_key
from data.sources.fetched import Effort, Fetched, FetchedRecord, FetchFailed, Validators
from data.sources.source import Source
from tests.fixtures.ledger import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EFFORT = Effort(tries=1, pages=1, bytes=100, http_status=200)


def record(content: object) -> FetchedRecord:
    """A record as a fetch hands it over."""
    data = msgspec.json.encode(content)
    return FetchedRecord(data, blake2b(data, digest_size=16).digest())


def fetched(
    contents: dict[str, Any], *, is_complete: bool = True, validators: Validators | None = None
) -> Fetched:
    """A set of records by id."""
    records = {external_id: record(content) for external_id, content in contents.items()}
    return Fetched(records, is_complete, EFFORT, validators)


def failed(message: str = "it answered 500", retry_after: float | None = None) -> FetchFailed:
    """A fetch that came to nothing."""
    return FetchFailed(message, effort=Effort(tries=3, http_status=500), retry_after=retry_after)


@dataclass(slots=True)
class Scene:
    """A ledger with a source in it, and a clock that stands until it is moved."""

    engine: AsyncEngine
    database: Database
    now: datetime = START

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    async def save(self, source: Source, *, is_declared: bool = False) -> StoredSource:
        """Save a source."""
        async with transaction(self.engine) as connection:
            return await save_source(connection, source, self.now, is_declared=is_declared)

    async def source(self, key: str = "prices") -> StoredSource:
        """The source as it is now."""
        stored = await source_by_key(self.engine, key, self.now)
        assert stored is not None
        return stored

    async def claim(self, key: str = "prices") -> Claim:
        """A claim that must be there to be had."""
        claimed = await claim(self.engine, key, self.now, "test")
        assert isinstance(claimed, Claim), claimed
        return claimed

    async def write(self, claimed: Claim, result: Result) -> Written | None:
        """Commit a refresh."""
        return await write_refresh(self.engine, claimed, result, self.now, perf_counter())

    async def refresh(self, result: Result, key: str = "prices") -> Written:
        """A whole refresh when it is due next."""
        due = (await self.source(key)).state.next_attempt_at
        assert due is not None
        self.now = max(self.now + timedelta(seconds=1), due)
        written = await self.write(await self.claim(key), result)
        assert written is not None
        return written

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the ledger holds."""
        connection = await self.database.connect()
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def records(self) -> dict[str, Any]:
        """The records that have not vanished, by id."""
        rows = await self.rows(
            "select external_id, data::text from source_records where vanished_at is null"
        )
        return {external_id: msgspec.json.decode(data) for external_id, data in rows}

    async def changes(self) -> list[tuple[str, str]]:
        """What became of which record, in order."""
        rows = await self.rows(
            "select external_id, kind from source_changes join source_records using (record_id)"
            " order by change_id"
        )
        return [(external_id, kind) for external_id, kind in rows]

    async def end_hold(self) -> None:
        """As if the time of every claim were over."""
        await self.rows("update source_states set held_until = held_until - interval '15 s'")
