"""Records and audits of sources, in pages that stay right while sources are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.keys import Scope
from data.postgres.source_reading import audits_page, records_by_ids, records_page
from data.sources.records import (
    AuditsQuery,
    FetchOutcome,
    RecordChange,
    RecordPlace,
    RecordsQuery,
    StoredAudit,
    StoredRecord,
)
from resolvers.access import require_scope
from resolvers.context import Context
from resolvers.cursors import audit_cursor_of, audit_id_of, record_cursor_of, record_place_of
from resolvers.errors import BadUserInput
from resolvers.raw_events import PageAsked, page_size
from resolvers.sources import away, can_be_kept, require_source

MAX_HISTORY = 100
# As many as fit into the ledger's numbers, whatever they are.
_ID_DIGITS = 18


@dataclass(frozen=True, slots=True)
class RecordsAsked:
    """Which records are asked for: changed from `since` on and before `until`."""

    source_key: str | None = None
    external_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    include_vanished: bool = False


@dataclass(frozen=True, slots=True)
class AuditsAsked:
    """Which audits are asked for: begun from `since` on and before `until`."""

    source_key: str | None = None
    outcome: FetchOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of records, the newest change first; `cursors[i]` belongs to record i."""

    records: Sequence[StoredRecord]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of audits, the newest first; `cursors[i]` belongs to audit i."""

    audits: Sequence[StoredAudit]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


async def records(ctx: Context, asked: RecordsAsked, page: PageAsked) -> RecordPage:
    """Records of the sources that the caller may read."""
    await _require_readable(ctx, asked.source_key)
    size = page_size(page)
    query = RecordsQuery(
        first=size,
        site_id=ctx.caller.site_id,
        source_key=asked.source_key,
        external_id=asked.external_id,
        since=asked.since,
        until=asked.until,
        include_vanished=asked.include_vanished,
        after=record_place_of(page.after) if page.after else None,
    )
    found: list[StoredRecord] = []
    if can_be_kept(asked.external_id or ""):
        try:
            found = await ctx.resources.ledger.reads.run(lambda at: records_page(at, query))
        except (LedgerUnavailable, LedgerRefused) as error:
            raise away() from error
    rows = found[: size - 1]
    return RecordPage(
        records=rows,
        cursors=[record_cursor_of(RecordPlace(row.changed_at, row.record_id)) for row in rows],
        has_next=len(found) > len(rows),
        has_previous=page.after is not None,
    )


async def record(ctx: Context, record_id: str) -> StoredRecord | None:
    """A record of a source that the caller may read, vanished or not; None where there is none."""
    require_scope(ctx.caller, Scope.READ)
    if not (record_id.isascii() and record_id.isdecimal() and len(record_id) <= _ID_DIGITS):
        return None
    number, site_id = int(record_id), ctx.caller.site_id
    try:
        found = await ctx.resources.ledger.reads.run(
            lambda at: records_by_ids(at, [number], site_id)
        )
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    return found.get(number)


async def history(ctx: Context, record_id: int, first: int) -> list[RecordChange]:
    """What became of a record, the newest first."""
    if not 1 <= first <= MAX_HISTORY:
        raise BadUserInput("first", f"first takes 1 to {MAX_HISTORY}")
    return await ctx.loaders.histories.load((record_id, first))


async def audits(ctx: Context, asked: AuditsAsked, page: PageAsked) -> AuditPage:
    """Audits of the sources that the caller may read."""
    await _require_readable(ctx, asked.source_key)
    size = page_size(page)
    query = AuditsQuery(
        first=size,
        site_id=ctx.caller.site_id,
        source_key=asked.source_key,
        outcome=asked.outcome,
        since=asked.since,
        until=asked.until,
        before=audit_id_of(page.after) if page.after else None,
    )
    try:
        found = await ctx.resources.ledger.reads.run(lambda at: audits_page(at, query))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    rows = found[: size - 1]
    return AuditPage(
        audits=rows,
        cursors=[audit_cursor_of(row.audit_id) for row in rows],
        has_next=len(found) > len(rows),
        has_previous=page.after is not None,
    )


async def _require_readable(ctx: Context, source_key: str | None) -> None:
    require_scope(ctx.caller, Scope.READ)
    if source_key is not None:
        await require_source(ctx, source_key)
