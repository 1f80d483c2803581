"""Pausing and deleting destinations of exports, and beginning runs of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from data.admin_log import Actor, AdminAction, Entry
from data.exports.checking import DestinationInvalid, check_range
from data.exports.records import Planned, RunAsked, StoredDestination, StoredRun, Trigger
from data.postgres.admin_log import record
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable, transaction
from data.postgres.export_destinations import delete_destination
from data.postgres.export_destinations import set_paused as set_kept_paused
from data.postgres.export_planning import (
    DestinationPaused,
    NoDestination,
    NoRun,
    NothingToRetry,
    plan_run,
    retry_run,
)
from resolvers.context import Context
from resolvers.errors import BadUserInput, NotFound
from resolvers.export_runs import require_run
from resolvers.export_views import ShownDestination, ShownRun, shown_destination, shown_run
from resolvers.exports import require_destination, tell_loaders, unsaved


@dataclass(frozen=True, slots=True)
class Range:
    """What a backfill is about: half-open, aware, UTC; without bounds it is none."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class By:
    """Who asks for a run, how, and when."""

    actor: Actor
    trigger: Trigger
    now: datetime


async def delete(ctx: Context, text: str) -> bool:
    """End a destination: its credentials are forgotten, its objects and its place stay."""
    stored = await require_destination(ctx, text, "id")
    with _changing():
        async with transaction(ctx.resources.ledger.writer) as connection:
            is_deleted = await delete_destination(connection, stored.destination_id, ctx.now)
            if is_deleted:
                details: dict[str, object] = {"name": stored.destination.name, "runs": stored.runs}
                entry = _entry(ctx, AdminAction.EXPORT_DELETED, stored, details)
                await record(connection, entry)
    if not is_deleted:
        raise NotFound(f"there is no export destination {text!r}", argument="id")
    return True


async def set_paused(ctx: Context, text: str, *, paused: bool) -> ShownDestination:
    """Pause a destination, or let it go on, whatever it was paused for."""
    stored = await require_destination(ctx, text, "id")
    action = AdminAction.EXPORT_PAUSED if paused else AdminAction.EXPORT_RESUMED
    with _changing():
        async with transaction(ctx.resources.ledger.writer) as connection:
            changed = await set_kept_paused(
                connection, stored.destination_id, ctx.now, paused=paused
            )
            if changed is not None:
                details: dict[str, object] = {"name": stored.destination.name}
                await record(connection, _entry(ctx, action, stored, details))
    if changed is None:
        raise NotFound(f"there is no export destination {text!r}", argument="id")
    tell_loaders(ctx, changed)
    return shown_destination(changed)


async def run(ctx: Context, text: str, wanted: Range) -> ShownRun:
    """Begin a run of a destination, or the one that is under way."""
    stored = await require_destination(ctx, text, "destinationId")
    by = By(ctx.caller.actor, Trigger.REQUEST, ctx.now)
    with _changing():
        planned = await begin_run(ctx.resources.ledger.writer, stored, wanted, by)
    ctx.resources.exporter.wake()
    return shown_run(planned.run)


async def begin_run(engine: Engine, stored: StoredDestination, wanted: Range, by: By) -> Planned:
    """A run that was begun, with its entry in the admin log, or the one that is under way.

    Raises `BadUserInput` for a range that cannot be, or where the destination is paused,
    `NotFound`, `LedgerUnavailable` and `LedgerRefused`.
    """
    try:
        check_range(wanted.since, wanted.until, by.now)
        asked = RunAsked(stored.destination_id, by.trigger, wanted.since, wanted.until)
        async with transaction(engine) as connection:
            planned = await plan_run(connection, asked, by.now)
            if planned.is_new:
                await record(connection, _beginning(stored, planned.run, by))
            return planned
    except DestinationInvalid as error:
        raise BadUserInput(error.field, str(error)) from None
    except DestinationPaused as paused:
        raise ExportPaused(str(paused)) from None
    except NoDestination as missing:
        raise NotFound(str(missing), argument="destinationId") from None


class ExportPaused(BadUserInput):
    """No run is begun while the destination is paused."""

    def __init__(self, message: str) -> None:
        super().__init__("destinationId", f"{message}; let it go on by setExportPaused first")


async def retry(ctx: Context, text: str) -> ShownRun:
    """Have what failed of a run tried again at once."""
    before = await require_run(ctx, text)
    try:
        with _changing():
            async with transaction(ctx.resources.ledger.writer) as connection:
                due = await retry_run(connection, before.run_id, ctx.now)
                details: dict[str, object] = {"number": due.number, "status": before.status.value}
                action, run_id = AdminAction.EXPORT_RETRIED, str(due.run_id)
                actor = ctx.caller.actor
                entry = Entry(ctx.now, actor, action, run_id, due.site_id, details)
                await record(connection, entry)
    except NoRun:
        raise NotFound(f"there is no export run {text!r}", argument="runId") from None
    except NothingToRetry:
        state = "succeeded already" if before.client.manifest_name else "has not failed"
        raise BadUserInput("runId", f"the run {state}: there is nothing to try again") from None
    except DestinationPaused as paused:
        raise BadUserInput("runId", f"{paused}; let it go on by setExportPaused first") from None
    ctx.resources.exporter.wake()
    return shown_run(due)


@contextmanager
def _changing() -> Iterator[None]:
    try:
        yield
    except (LedgerUnavailable, LedgerRefused) as error:
        raise unsaved() from error


def _entry(
    ctx: Context, action: AdminAction, stored: StoredDestination, details: dict[str, object]
) -> Entry:
    target = str(stored.destination_id)
    return Entry(ctx.now, ctx.caller.actor, action, target, stored.site_id, details)


def _beginning(stored: StoredDestination, run: StoredRun, by: By) -> Entry:
    details: dict[str, object] = {
        "destination": str(stored.destination_id),
        "name": stored.destination.name,
        "number": run.number,
        "trigger": run.trigger.value,
        "after": run.after,
        "through": run.through,
    }
    for name, bound in (("since", run.since), ("until", run.until)):
        if bound is not None:
            details[name] = bound.isoformat()
    return Entry(by.now, by.actor, AdminAction.EXPORT_RUN, str(run.run_id), stored.site_id, details)
