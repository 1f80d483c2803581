"""Records per source and how old they are, as one summary through the cache of results.

No feed tells when a source has changed, so the summary goes by the clock: for a second it is
exact, then it is computed anew, and who asks waits for that only a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from time import perf_counter

import msgspec

from data.cache import NO_POSITION, CacheStatus, Codec, Lifetimes, Question, position_at
from data.flights import Computed, Landed
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.keys import Scope
from data.postgres.sources import StoredSource, all_sources
from data.resources import Resources
from data.results import Batch
from resolvers.access import require_scope
from resolvers.context import Context
from resolvers.sources import ShownSource, away, shown

FRESH = timedelta(seconds=1)
# An hour old at the most, and that only while the ledger is away.
_LIFETIMES = Lifetimes(stale=3_600, rest=0, most_rest=0, patience=0.025)
_NAME = "source_summary"
# What a source takes in memory.
_ROW_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A source of the summary; `age_seconds` since its last success, None where it had none."""

    source: ShownSource
    records: int
    age_seconds: int | None


@dataclass(frozen=True, slots=True)
class SummaryMeta:
    """When a summary was computed, and whether it was kept from before."""

    computed_at: datetime
    cache: CacheStatus


@dataclass(frozen=True, slots=True)
class Summary:
    """The sources that the caller may read, in order of key."""

    sources: Sequence[SummaryRow]
    records: int
    meta: SummaryMeta


_CODEC = Codec(
    encode=msgspec.msgpack.Encoder().encode,
    decode=msgspec.msgpack.Decoder(list[StoredSource]).decode,
    size=lambda rows: _ROW_BYTES * len(rows),
)


async def source_summary(ctx: Context) -> Summary:
    """The summary, kept or computed; ages are those of now."""
    require_scope(ctx.caller, Scope.READ)
    landed = await _landed(ctx)
    rows: list[StoredSource] = landed.entry.rows
    return Summary(
        sources=[_row(stored, ctx.now) for stored in rows],
        records=sum(stored.state.records for stored in rows),
        meta=SummaryMeta(landed.entry.computed_at, landed.status),
    )


async def _landed(ctx: Context) -> Landed:
    results, question = ctx.resources.results, _question(ctx)
    if ctx.wants_new:
        began, epoch = perf_counter(), results.epoch
        computed = await _compute(ctx.resources, [question.asked])
        entry = results.keep(question, computed, perf_counter() - began, epoch)
        return Landed(entry, CacheStatus.BYPASS)
    found = results.find(question)
    if found is not None:
        return found
    batch = ctx.loaders.batches.get(_NAME)
    if batch is None:
        batch = ctx.loaders.batches[_NAME] = Batch(results, partial(_compute, ctx.resources))
    return await results.answer(question, batch)


def _question(ctx: Context) -> Question:
    site_id = ctx.caller.site_id
    asked = msgspec.msgpack.encode((_NAME, site_id))
    return Question(
        asked=site_id,
        key=blake2b(asked, digest_size=16).digest(),
        site_id=site_id or "",
        version=position_at(ctx.now - FRESH),
        position=NO_POSITION,
        through=None,
        lifetimes=_LIFETIMES,
        codec=_CODEC,
    )


async def _compute(resources: Resources, site_ids: Sequence[str | None]) -> Computed:
    """The sources for keys of these sites; it may go on after the request, and belongs to none."""
    now = resources.clock()
    try:
        with resources.tracing.span("store.source_summary", queries=len(site_ids)):
            found = await resources.ledger.reads.run(lambda at: all_sources(at, now))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    rows = [
        [stored for stored in found if site_id in (None, stored.source.site_id)]
        for site_id in site_ids
    ]
    return Computed(rows, position_at(now), None)


def _row(stored: StoredSource, now: datetime) -> SummaryRow:
    last = stored.state.last_success_at
    age = None if last is None else max(0, int((now - last).total_seconds()))
    return SummaryRow(shown(stored), stored.state.records, age)
