"""Runs of exports: in pages, with their files, and compared with what they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from data.exports.records import RunsQuery, RunStatus, StoredRun
from data.postgres import export_runs as kept
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.export_destinations import destination_by_id
from data.postgres.keys import Scope
from resolvers.access import require_scope
from resolvers.context import Context
from resolvers.cursors import run_cursor_of, run_sequence_of
from resolvers.errors import NotFound
from resolvers.export_views import (
    MAX_DAYS,
    MAX_FILES,
    RunPage,
    ShownDay,
    ShownFile,
    ShownRun,
    shown_run,
)
from resolvers.exports import (
    away,
    id_of,
    readable_site,
    require_count,
    require_destination,
    require_own,
    tell_loaders,
)
from resolvers.raw_events import PageAsked, page_size


@dataclass(frozen=True, slots=True)
class RunsAsked:
    """Which runs are asked for; None leaves a bound out."""

    site_id: str | None = None
    destination_id: str | None = None
    status: RunStatus | None = None


async def runs(ctx: Context, asked: RunsAsked, page: PageAsked) -> RunPage:
    """Runs that the caller may know of, newest first."""
    site_id = await readable_site(ctx, asked.site_id)
    size = page_size(page)
    destination_id = None
    if asked.destination_id is not None:
        stored = await require_destination(ctx, asked.destination_id, "destinationId")
        destination_id = stored.destination_id
    query = RunsQuery(
        first=size,
        site_id=site_id,
        destination_id=destination_id,
        status=asked.status,
        before=run_sequence_of(page.after) if page.after else None,
    )
    try:
        found = await ctx.resources.ledger.reads.run(lambda at: kept.runs_page(at, query))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    rows = found[: size - 1]
    return RunPage(
        runs=[shown_run(row) for row in rows],
        cursors=[run_cursor_of(row.sequence) for row in rows],
        has_next=len(found) > len(rows),
        has_previous=page.after is not None,
    )


async def require_run(ctx: Context, text: str) -> StoredRun:
    """The run of an id, from the primary; raises `NotFound` and `Forbidden`."""
    require_scope(ctx.caller, Scope.ADMIN)
    missing = NotFound(f"there is no export run {text[:60]!r}", argument="runId")
    run_id = id_of(text)
    if run_id is None:
        raise missing
    stored = await _run(ctx, run_id)
    if stored is None:
        raise missing
    require_own(ctx, stored.site_id)
    return stored


async def _run(ctx: Context, run_id: UUID) -> StoredRun | None:
    """The run, unless its destination was deleted."""
    writer = ctx.resources.ledger.writer
    try:
        stored = (await kept.runs_by_ids(writer, [run_id])).get(run_id)
        of = await destination_by_id(writer, stored.destination_id) if stored else None
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    if of is None:
        return None
    tell_loaders(ctx, of)
    return stored


async def files(ctx: Context, run: ShownRun, first: int) -> Sequence[ShownFile]:
    """The first files of a run, as its manifest lists them."""
    require_count(first, MAX_FILES)
    if run.manifest_key is None:
        return ()
    manifest = await ctx.loaders.exports.manifests.load(run.run_id)
    found = manifest.files if manifest is not None else ()
    return [ShownFile(one.name, one.rows, one.bytes, one.sha256) for one in found[:first]]


async def days(ctx: Context, run: ShownRun, first: int) -> Sequence[ShownDay]:
    """The latest days on which events of a run occurred, in order."""
    require_count(first, MAX_DAYS)
    if run.manifest_key is None:
        return ()
    manifest = await ctx.loaders.exports.manifests.load(run.run_id)
    found = manifest.days if manifest is not None else ()
    return [ShownDay(one.day, one.events) for one in found[-first:]]
