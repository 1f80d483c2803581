"""Reports through the cache of results: what a question covers, and what its answer rests on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from time import perf_counter
from typing import Any, Generic, TypeVar, cast
from zoneinfo import ZoneInfo

import msgspec

from data import report_rows
from data.cache import OF_NOW, OF_THE_PAST, CacheStatus, Codec, Question
from data.covered import Report, covered
from data.event_store import EventStore, StoreUnavailable
from data.flights import Computed, Landed
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    Answer,
    EventCountsQuery,
    EventCountsRows,
    RetentionQuery,
    RetentionRows,
    TopEventsQuery,
    TopEventsRows,
)
from data.resources import Resources
from data.results import Batch
from resolvers.context import Context
from resolvers.errors import Unavailable

Query = TypeVar("Query", bound=Report)
Rows = TypeVar("Rows")

# Newer than anything: as long as nobody knows what has changed, nothing that is kept is exact.
_UNKNOWN = 2**62


@dataclass(frozen=True, slots=True)
class Kind(Generic[Query, Rows]):
    """One kind of report: how the store is asked, and how rows are kept."""

    name: str
    ask: Callable[[EventStore, Sequence[Query]], Awaitable[Answer[Rows]]]
    codec: Codec


ACTIVE_USERS: Kind[ActiveUsersQuery, ActiveUsersRows] = Kind(
    "active_users", lambda store, asked: store.active_users(asked), report_rows.ACTIVE_USERS
)
TOP_EVENTS: Kind[TopEventsQuery, TopEventsRows] = Kind(
    "top_events", lambda store, asked: store.top_events(asked), report_rows.TOP_EVENTS
)
EVENT_COUNTS: Kind[EventCountsQuery, EventCountsRows] = Kind(
    "event_counts", lambda store, asked: store.event_counts(asked), report_rows.EVENT_COUNTS
)
RETENTION: Kind[RetentionQuery, RetentionRows] = Kind(
    "retention", lambda store, asked: store.retention(asked), report_rows.RETENTION
)


@dataclass(frozen=True, slots=True)
class Cached(Generic[Rows]):
    """Rows of a report, where they came from, and what they rest on."""

    rows: Rows
    status: CacheStatus
    through: datetime | None
    computed_at: datetime


async def cached(ctx: Context, kind: Kind[Query, Rows], query: Query) -> Cached[Rows]:
    """The answer to a question, kept or computed.

    What one request asks of several sites or ranges, and is not kept, is one statement.
    """
    results = ctx.resources.results
    question = _question(ctx.resources, kind, query)
    if ctx.wants_new:
        return await _anew(ctx, kind, query, question)
    found = results.find(question)
    if found is None:
        batch = ctx.loaders.batches.get(kind.name)
        if batch is None:
            compute = partial(_compute, ctx.resources, kind)
            batch = ctx.loaders.batches[kind.name] = Batch(results, compute)
        found = await results.answer(question, batch)
    return _cached(found)


async def _anew(
    ctx: Context, kind: Kind[Query, Rows], query: Query, question: Question
) -> Cached[Rows]:
    """The answer as it is now, whatever is kept; it is kept for others."""
    began, results = perf_counter(), ctx.resources.results
    epoch = results.epoch
    rows, watermark = await ctx.loaders.reports(kind.name, kind.ask).load(query)
    through = ctx.resources.follower.data_through(watermark)
    computed = Computed([rows], watermark.position if watermark else 0, through)
    entry = results.keep(question, computed, perf_counter() - began, epoch)
    return _cached(Landed(entry, CacheStatus.BYPASS))


def _cached(landed: Landed) -> Cached[Rows]:
    entry = landed.entry
    return Cached(cast("Rows", entry.rows), landed.status, entry.through, entry.computed_at)


def _question(resources: Resources, kind: Kind[Query, Rows], query: Query) -> Question:
    versions = resources.columnar.store.day_versions
    what = covered(query)
    return Question(
        asked=query,
        key=key_of(kind.name, query),
        site_id=what.site_id,
        version=what.version(versions) if versions.is_known else _UNKNOWN,
        position=versions.position,
        through=resources.follower.data_through(versions.watermark),
        lifetimes=OF_NOW if what.reaches(resources.clock()) else OF_THE_PAST,
        codec=kind.codec,
    )


async def _compute(
    resources: Resources, kind: Kind[Query, Rows], queries: Sequence[Query]
) -> Computed:
    """The answers of the store; it may go on after the request, and belongs to none."""
    try:
        with resources.tracing.span(f"store.{kind.name}", queries=len(queries)):
            # Looked up per question: a rebuild may put another store in its place.
            answer = await kind.ask(resources.columnar.store, queries)
    except StoreUnavailable as error:
        raise Unavailable("columnar", "reports cannot be answered now") from error
    watermark = answer.watermark
    through = resources.follower.data_through(watermark)
    return Computed(answer.rows, watermark.position if watermark else 0, through)


def key_of(name: str, query: Report) -> bytes:
    """What tells a question from all others: equal questions have equal keys, in any process."""
    text = msgspec.msgpack.encode((name, query), enc_hook=_zone_name)
    return blake2b(text, digest_size=16).digest()


def _zone_name(value: Any) -> str:
    if isinstance(value, ZoneInfo):
        return value.key
    raise TypeError(f"a question cannot hold {value!r}")
