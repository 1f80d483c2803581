"""What a refresh came to, written in one transaction: records, changes, state and audit.

Only what is new, changed, back or gone is written; that the others were seen again, the state says
for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState, KeptBreaker
from data.postgres.source_audits import Attempt, Tally, source_transaction, write_audit
from data.postgres.source_claims import Claim
from data.sources.fetched import Fetched, FetchedRecord, FetchFailed, Unchanged, Validators
from data.sources.records import FetchOutcome
from data.sources.schedule import next_due

# What goes to the server in one statement.
_ROWS = 1_000
_READ_ROWS = 5_000
_BYTES = 1024 * 1024
# From here on records are compared on a thread; below, that costs more than it saves.
_MANY = 10_000
# A source that asks to be left alone for longer is asked again all the same.
_LONGEST_REST = timedelta(days=7)

# Waits for a change of the definition that is being saved, and has the next one wait.
_VERSION = "select version from sources where source_key = $1 for share"
_STATE = "select * from source_states where source_key = $1 for update"
# As two lists: of a row for each record the garbage collector would make long pauses.
_KNOWN = """
select
    array_agg(external_id order by external_id) as ids,
    array_agg(content_hash order by external_id) as hashes
from (
    select external_id, content_hash
    from source_records
    where source_key = $1 and external_id > $2 and vanished_at is null
    order by external_id
    limit $3
) as following
"""

# A record that is not there any more may come back: with the content that it had, it has not
# changed.
_KEEP = """
with fetched as (
    select *
    from unnest($2::text[], $3::text[], $4::bytea[], $5::boolean[]) with ordinality
        as fetched (external_id, data, content_hash, is_known, place)
), kept as (
    insert into source_records as record (
        source_key, external_id, data, content_hash, first_seen_at, seen_at, changed_at
    )
    select $1, external_id, data::json, content_hash, $6, $6, $6 from fetched order by place
    on conflict (source_key, external_id) do update
    set data = excluded.data,
        content_hash = excluded.content_hash,
        seen_at = excluded.seen_at,
        changed_at = case
            when record.content_hash = excluded.content_hash then record.changed_at
            else excluded.changed_at
        end,
        vanished_at = null
    returning
        record_id, external_id, data, first_seen_at = $6 as is_new, changed_at = $6 as has_changed
), told as (
    insert into source_changes (record_id, at, kind, data)
    select
        record_id,
        $6,
        case when is_new then 'added' when is_known then 'changed' else 'returned' end,
        kept.data
    from kept join fetched using (external_id)
    order by place
)
select
    count(*) filter (where is_new)::integer as added,
    count(*) filter (where has_changed and not is_new)::integer as changed
from kept
"""
_MARK_VANISHED = """
with gone as (
    update source_records set vanished_at = $3
    where source_key = $1 and external_id = any($2) and vanished_at is null
    returning record_id
)
insert into source_changes (record_id, at, kind) select record_id, $3, 'vanished' from gone
"""
_MARK_SEEN = """
update source_records set seen_at = $3 where source_key = $1 and external_id = any($2)
"""

_END = """
update source_states
set held_until = null, held_by = null, progress = null, next_attempt_at = $2,
    last_success_at = $3, last_failure_at = $4, last_complete_at = $5, records = $6,
    breaker = $7, failures = $8, opened_at = $9, validators = $10, validators_version = $11
where source_key = $1
"""
_END_CHANGED = """
update source_states
set held_until = null, held_by = null, progress = null, last_failure_at = $2
where source_key = $1
"""

Result = Fetched | Unchanged | FetchFailed


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a refresh. `records` is how many the source has now.

    `breaker` is None where it was left alone.
    """

    audit_id: int
    attempt: Attempt
    records: int
    breaker: BreakerState | None


@dataclass(frozen=True, slots=True)
class _Difference:
    """What is to be written of a set of records; `known` are their hashes before, by id."""

    written: list[tuple[str, FetchedRecord, bool]]
    vanished: list[str]
    unchanged: list[str]
    records: int


def _compare(fetched: Fetched, known: Mapping[str, bytes]) -> _Difference:
    written: list[tuple[str, FetchedRecord, bool]] = []
    unchanged: list[str] = []
    for external_id, record in fetched.records.items():
        before = known.get(external_id)
        if before == record.content_hash:
            unchanged.append(external_id)
        else:
            written.append((external_id, record, before is not None))
    vanished = [one for one in known if one not in fetched.records] if fetched.is_complete else []
    fresh = sum(not is_known for *_, is_known in written)
    return _Difference(written, vanished, unchanged, len(known) + fresh - len(vanished))


async def write_refresh(
    engine: AsyncEngine, claimed: Claim, result: Result, now: datetime, began: float
) -> Written | None:
    """Commit what a refresh came to; None, and nothing written, if the claim is ours no more.

    `began` is when it did, by `perf_counter`: the audit has the time up to the commit.

    Raises `LedgerUnavailable`, and `LedgerRefused` for content that the ledger does not take.
    """
    async with source_transaction(engine) as connection:
        version = await connection.fetchval(_VERSION, claimed.source.key)
        state = await connection.fetchrow(_STATE, claimed.source.key) if version else None
        if state is None or state["refresh_id"] != claimed.refresh_id:
            return None
        if state["held_until"] is None:
            # It was committed, and whoever did that was not told.
            return None
        writing = _Writing(connection, claimed, state, now, began)
        if version != claimed.version:
            return await writing.end_changed()
        return await writing.end(result)


@dataclass(slots=True)
class _Writing:
    """One transaction at work, with the row of the source's state locked."""

    connection: asyncpg.Connection
    claimed: Claim
    state: asyncpg.Record
    now: datetime
    began: float
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.claimed.source.key

    async def end_changed(self) -> Written:
        """A refresh by a definition that holds no more; the source is due anyway."""
        error = "the source was changed in the meantime: what it was to bring was not kept"
        attempt = self._attempt(FetchFailed(error), Tally())
        await self.connection.execute(_END_CHANGED, self.key, self.now)
        audit_id = await write_audit(self.connection, attempt)
        return Written(audit_id, attempt, self.state["records"], None)

    async def end(self, result: Result) -> Written:
        """Records, state and audit of a refresh that was made."""
        records: int = self.state["records"]
        tally = Tally()
        if isinstance(result, Fetched):
            records, tally = await self._keep(result)
        elif isinstance(result, Unchanged):
            tally = Tally(seen=records, is_complete=True)
        breaker = self._breaker().ended(
            self.now,
            failed=isinstance(result, FetchFailed),
            threshold=self.claimed.source.breaker_failures,
        )
        await self._end(result, tally, records, breaker)
        attempt = self._attempt(result, tally)
        audit_id = await write_audit(self.connection, attempt)
        return Written(audit_id, attempt, records, breaker.state)

    def _breaker(self) -> KeptBreaker:
        state = self.state
        return KeptBreaker(BreakerState(state["breaker"]), state["failures"], state["opened_at"])

    def _attempt(self, result: Result, tally: Tally) -> Attempt:
        failed = isinstance(result, FetchFailed)
        return Attempt(
            key=self.key,
            refresh_id=self.claimed.refresh_id,
            started_at=self.claimed.started_at,
            duration=timedelta(seconds=perf_counter() - self.began),
            outcome=FetchOutcome.FAILURE if failed else FetchOutcome.SUCCESS,
            error=str(result) if failed else None,
            effort=result.effort,
            tally=tally,
        )

    async def _keep(self, fetched: Fetched) -> tuple[int, Tally]:
        known = await self._known()
        if len(known) + len(fetched.records) > _MANY:
            difference = await asyncio.to_thread(_compare, fetched, known)
        else:
            difference = _compare(fetched, known)
        added = changed = 0
        for part in _parts(difference.written):
            columns = (
                [external_id for external_id, *_ in part],
                [record.data.decode() for _, record, _ in part],
                [record.content_hash for _, record, _ in part],
                [is_known for *_, is_known in part],
            )
            row = await self.connection.fetchrow(_KEEP, self.key, *columns, self.now)
            added, changed = added + row["added"], changed + row["changed"]
        await self._mark(_MARK_VANISHED, difference.vanished)
        if not fetched.is_complete:
            # Otherwise the state says it for all of them.
            await self._mark(_MARK_SEEN, difference.unchanged)
        vanished = len(difference.vanished)
        tally = Tally(len(fetched.records), added, changed, vanished, fetched.is_complete)
        return difference.records, tally

    async def _known(self) -> dict[str, bytes]:
        """The hashes of the records that are there, by id."""
        known: dict[str, bytes] = {}
        last = ""
        while True:
            row = await self.connection.fetchrow(_KNOWN, self.key, last, _READ_ROWS)
            ids: list[str] = row["ids"] or []
            known.update(zip(ids, row["hashes"] or (), strict=True))
            if len(ids) < _READ_ROWS:
                return known
            last = ids[-1]

    async def _mark(self, statement: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _ROWS):
            part = ids[start : start + _ROWS]
            await self.connection.execute(statement, self.key, part, self.now)

    async def _end(self, result: Result, tally: Tally, records: int, breaker: KeptBreaker) -> None:
        failed = isinstance(result, FetchFailed)
        validators, version = self._validators(result)
        await self.connection.execute(
            _END,
            self.key,
            self._next_attempt(result),
            self.state["last_success_at"] if failed else self.now,
            self.now if failed else self.state["last_failure_at"],
            self.now if tally.is_complete else self.state["last_complete_at"],
            records,
            breaker.state.value,
            breaker.failures,
            breaker.opened_at,
            msgspec.json.encode(validators).decode() if validators else None,
            version,
        )

    def _next_attempt(self, result: Result) -> datetime:
        after = self.now
        if isinstance(result, FetchFailed) and result.retry_after:
            seconds = min(result.retry_after, _LONGEST_REST.total_seconds())
            after += timedelta(seconds=seconds)
        return next_due(self.claimed.source, after)

    def _validators(self, result: Result) -> tuple[Validators | None, int | None]:
        """What the next request is made conditional with: of the set that is kept now."""
        if isinstance(result, Fetched):
            return result.validators, self.claimed.version if result.validators else None
        kept = self.state["validators"]
        if kept is None:
            return None, None
        return msgspec.convert(kept, Validators), self.state["validators_version"]


def _parts(
    written: Sequence[tuple[str, FetchedRecord, bool]],
) -> Iterator[list[tuple[str, FetchedRecord, bool]]]:
    """Pieces for one statement each, bounded in rows and bytes."""
    part: list[tuple[str, FetchedRecord, bool]] = []
    size = 0
    for one in written:
        part.append(one)
        size += len(one[1].data)
        if len(part) == _ROWS or size >= _BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
