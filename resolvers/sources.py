"""Sources: which there are for whoever asks, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from data.breaker import BreakerState
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.keys import Scope
from data.postgres.sources import StoredSource, all_sources, source_by_key
from data.sources.fetched import Progress
from data.sources.records import StoredAudit
from data.sources.source import Format, Header, Method, Paging, Source
from resolvers.access import require_scope
from resolvers.context import Caller, Context
from resolvers.errors import NotFound, Unavailable

MAX_SOURCES = 1_000


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh that is under way, and how far it has come."""

    started_at: datetime
    progress: Progress


@dataclass(frozen=True, slots=True)
class ShownSource:
    """A source as its readers see it: no body, and of headers the names alone."""

    key: str
    url: str
    site_id: str | None
    enabled: bool
    refresh_seconds: int
    cron: str | None
    timezone: str
    method: Method
    headers: Sequence[Header]
    format: Format
    records_at: str | None
    records_query: str | None
    id_field: str
    paging: Paging | None
    limits: Source
    breaker_failures: int
    breaker_seconds: int
    is_declared: bool
    version: int
    created_at: datetime
    updated_at: datetime
    breaker: BreakerState
    failures: int
    last_success_at: datetime | None
    last_failure_at: datetime | None
    next_attempt_at: datetime | None
    records: int
    refresh: Refresh | None


def shown(stored: StoredSource) -> ShownSource:
    """What may be shown of a source."""
    source, state = stored.source, stored.state
    return ShownSource(
        key=source.key,
        url=source.url,
        site_id=source.site_id,
        enabled=source.enabled,
        refresh_seconds=source.refresh_seconds,
        cron=source.cron,
        timezone=source.timezone,
        method=source.method,
        headers=source.headers,
        format=source.format,
        records_at=source.records_at,
        records_query=source.records_query,
        id_field=source.id_field,
        paging=source.paging,
        limits=source,
        breaker_failures=source.breaker_failures,
        breaker_seconds=source.breaker_seconds,
        is_declared=stored.is_declared,
        version=stored.version,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        breaker=state.breaker,
        failures=state.failures,
        last_success_at=state.last_success_at,
        last_failure_at=state.last_failure_at,
        next_attempt_at=state.next_attempt_at,
        records=state.records,
        refresh=_refresh(stored),
    )


def _refresh(stored: StoredSource) -> Refresh | None:
    state = stored.state
    if not state.is_held or state.started_at is None:
        return None
    return Refresh(state.started_at, state.progress or Progress())


def may_read(caller: Caller, source: Source) -> bool:
    """Whether the caller may know of a source: a key of one site knows those of its site."""
    return caller.site_id is None or caller.site_id == source.site_id


async def sources(ctx: Context) -> list[ShownSource]:
    """The sources that the caller may read, in order of key."""
    require_scope(ctx.caller, Scope.READ)
    try:
        found = await ctx.resources.ledger.reads.run(lambda at: all_sources(at, ctx.now))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    return [shown(stored) for stored in found if may_read(ctx.caller, stored.source)]


async def require_source(ctx: Context, key: str) -> StoredSource:
    """The source of a key, if the caller may read it; raises `NotFound` else."""
    require_scope(ctx.caller, Scope.READ)
    stored = await _source(ctx, key)
    if stored is None or not may_read(ctx.caller, stored.source):
        raise NotFound(f"there is no source {key!r}", argument="sourceKey")
    return stored


async def _source(ctx: Context, key: str) -> StoredSource | None:
    if not can_be_kept(key):
        return None
    stored = await ctx.loaders.sources.load(key)
    ledger = ctx.resources.ledger
    if stored is None and ledger.reads.has_replica:
        # A replica may be a moment behind; that there is none is the primary's to say.
        try:
            stored = await source_by_key(ledger.writer, key, ctx.now)
        except (LedgerUnavailable, LedgerRefused) as error:
            raise away() from error
    return stored


def can_be_kept(text: str) -> bool:
    """Whether PostgreSQL could hold a text: it would not even look for any other."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


async def source_of(ctx: Context, key: str) -> ShownSource:
    """The source of a record or an audit that was read."""
    stored = await _source(ctx, key)
    if stored is None:
        raise NotFound(f"the source {key!r} was deleted a moment ago")
    return shown(stored)


async def last_audit(ctx: Context, key: str) -> StoredAudit | None:
    """The newest audit of a source."""
    return await ctx.loaders.last_audits.load(key)


def away() -> Unavailable:
    """What is said of sources while the ledger is away."""
    return Unavailable("ledger", "sources cannot be read now; try again shortly")
