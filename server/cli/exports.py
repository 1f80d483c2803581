"""`footfall export`: a run of a destination with its progress, or the proof of all its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Annotated
from uuid import UUID

import typer

from data.exports.destination import TargetKind
from data.exports.records import (
    Planned,
    RunProgress,
    RunStatus,
    StoredDestination,
    StoredRun,
    StoredTarget,
    Trigger,
)
from data.postgres.engine import Engine
from data.postgres.export_destinations import destination_by_id
from data.postgres.export_runs import runs_by_ids
from resolvers.errors import BadUserInput, NotFound
from resolvers.export_changes import By, ExportPaused, Range, begin_run
from resolvers.pipeline import parse_instant
from server.cli.export_proof import Proven, prove, require_destination
from server.cli.failures import CommandFailed, Stopped
from server.cli.options import Json
from server.cli.recording import command_actor, ledger_to_change
from server.cli.session import run, settings_of_command
from server.cli.terminal import Advance, progress, say, show, show_json
from server.clock import utc_now
from server.resources import open_resources
from server.settings import Settings

_LOOK_EVERY_SECONDS = 0.2
# Services look for runs every second or two.
_TAKEN_UP_WITHIN_SECONDS = 6.0
# A try that comes later than this is not waited for.
_PATIENCE = timedelta(minutes=1)
_WHOSE = {TargetKind.CLIENT: "bucket", TargetKind.BACKUP: "backup"}


@dataclass(frozen=True, slots=True)
class _Followed:
    """A run as it ended, or as it was left; `is_new`: it was begun by this command."""

    run: StoredRun
    name: str
    is_new: bool
    seconds: float


def export(
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="The name or the id of a destination.")
    ],
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Take what occurred at this moment or day, or later."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Take what occurred before this.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Export nothing: compare all runs with buckets and ledger."),
    ] = False,
    json: Json = False,
) -> None:
    """Export what came since the last run or, with --since and --until, what occurred then.

    Days are UTC. A running service takes the run up; where none does, this command does it itself.
    With --verify every byte of every run is read, and what differs is named.
    """
    settings = settings_of_command()
    if verify:
        if since or until:
            raise BadUserInput("since", "--verify is about all runs: leave --since and --until out")
        _tell_proof(run(prove(settings, destination)), as_json=json)
        return
    wanted = Range(_instant(since, "--since"), _instant(until, "--until"))
    try:
        followed = run(_export(settings, destination, wanted))
    except Stopped as stopped:
        raise Stopped(
            stopped.number,
            "stopped; the run is still open: a service goes on with it, or this "
            "command when it is given again",
        ) from None
    _tell(followed, as_json=json)
    problem = _problem_of(followed.run)
    if problem is not None:
        raise CommandFailed(problem)


def _instant(text: str | None, option: str) -> datetime | None:
    """The moment that was given; a day is its first moment in UTC."""
    if text is None:
        return None
    try:
        return parse_instant(f"{text}T00:00:00Z" if len(text) == len("2026-01-31") else text)
    except ValueError as error:
        raise BadUserInput(option, f"{option} {error}, or a day such as 2026-01-31") from None


async def _export(settings: Settings, destination: str, wanted: Range) -> _Followed:
    began = monotonic()
    async with ledger_to_change(settings) as ledger:
        stored = await require_destination(ledger.writer, destination)
        planned = await _begin(ledger.writer, stored, wanted)
        if not planned.is_new:
            say("a run is under way already; this follows it")
        name = stored.destination.name
        with progress(f"Exporting {name}") as advance:
            ended = await _follow(settings, ledger.writer, planned.run, advance)
        return _Followed(ended, name, planned.is_new, monotonic() - began)


async def _begin(engine: Engine, stored: StoredDestination, wanted: Range) -> Planned:
    try:
        by = By(command_actor(), Trigger.COMMAND, utc_now())
        return await begin_run(engine, stored, wanted, by)
    except ExportPaused as paused:
        raise CommandFailed(paused.message) from None
    except BadUserInput as bad:
        option = f"--{bad.details['argument']}"
        raise BadUserInput(option, f"{option}: {bad.message}") from None


async def _follow(
    settings: Settings, engine: Engine, begun: StoredRun, advance: Advance
) -> StoredRun:
    """The run when nothing more is to be waited for; taken up here where nobody else does."""
    asked, is_ours = monotonic(), False
    async with AsyncExitStack() as stack:
        while True:
            found = await _run(engine, begun.run_id)
            if _is_over(found, await _resting(engine, found), utc_now()):
                return found
            _show(found, advance)
            waited = monotonic() - asked
            if not is_ours and _waits(found) and waited > _TAKEN_UP_WITHIN_SECONDS:
                say("no service takes the run up: this command does, with a copy of its own")
                resources, _ = await stack.enter_async_context(open_resources(settings))
                resources.exporter.wake()
                is_ours = True
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _run(engine: Engine, run_id: UUID) -> StoredRun:
    found = (await runs_by_ids(engine, [run_id])).get(run_id)
    if found is None:
        raise NotFound(f"the run {run_id} is gone")
    return found


async def _resting(engine: Engine, found: StoredRun) -> Collection[TargetKind]:
    """The buckets that nobody writes into until somebody lets them go on."""
    stored = await destination_by_id(engine, found.destination_id)
    return () if stored is None else stored.pauses.keys()


def _is_over(found: StoredRun, resting: Collection[TargetKind], now: datetime) -> bool:
    return all(_has_ended(target, now, rests=target.kind in resting) for target in found.targets)


def _has_ended(target: StoredTarget, now: datetime, *, rests: bool) -> bool:
    if target.status in (RunStatus.SUCCEEDED, RunStatus.DEAD):
        return True
    if rests and not target.is_held:
        return True
    if target.status is not RunStatus.FAILED:
        return False
    again = target.next_attempt_at
    return again is None or again > now + _PATIENCE


def _waits(found: StoredRun) -> bool:
    """Whether something of the run could be at work, and nobody is at it."""
    return not any(target.is_held for target in found.targets)


def _show(found: StoredRun, advance: Advance) -> None:
    """The bar is about the first target that is not done; there is one while a run is open."""
    target = next((one for one in found.targets if not _is_done(one)), found.client)
    so_far = target.progress or RunProgress()
    of_all = f" of {so_far.of:,}" if so_far.of else ""
    written = max(so_far.written, so_far.rows)
    sent = _counted(so_far.files, "file")
    words = f"{written:,}{of_all} events, {sent} sent, {_size(so_far.bytes)}"
    if target.status is RunStatus.PENDING or not target.is_held:
        words = (
            "waiting for its turn" if target.error is None else f"tried again soon: {target.error}"
        )
    if target.kind is TargetKind.BACKUP:
        words = f"backup: {words}"
    # Each event is written into a file, and the file is sent: that is half of the way each.
    advance(so_far.written + so_far.rows, 2 * (so_far.of or 0), words)


def _is_done(target: StoredTarget) -> bool:
    return target.status in (RunStatus.SUCCEEDED, RunStatus.DEAD)


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"


def _size(number: int) -> str:
    return f"{number / 1_000_000:,.1f} MB" if number >= 100_000 else f"{number:,} bytes"


def _problem_of(found: StoredRun) -> str | None:
    """What keeps the command from having done its work, in a line."""
    for target in found.targets:
        if target.status is RunStatus.SUCCEEDED:
            continue
        whose = _WHOSE[target.kind]
        if target.error is None:
            return (
                f"the run waits for {whose} {target.place.bucket}, which is paused: let the"
                " destination go on by setExportPaused"
            )
        said = f"the run did not reach {whose} {target.place.bucket} ({target.error})"
        if target.status is RunStatus.DEAD:
            return f"{said} and is given up: mend that, then call retryExport for {found.run_id}"
        if target.next_attempt_at is None:
            return f"{said}: mend that, then let the destination go on by setExportPaused"
        return f"{said}: it is tried again at {target.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
    return None


def _tell(followed: _Followed, *, as_json: bool) -> None:
    found = followed.run
    if as_json:
        show_json(
            {
                "run_id": found.run_id,
                "destination": followed.name,
                "site_id": found.site_id,
                "is_new": followed.is_new,
                "status": found.status,
                "after": found.after,
                "through": found.through,
                "since": found.since,
                "until": found.until,
                "events": found.client.events,
                "bytes": found.client.bytes,
                "files": found.client.files,
                "seconds": round(followed.seconds, 1),
                "targets": [_as_json(target) for target in found.targets],
            }
        )
        return
    show(f"run {found.run_id} of {followed.name} for site {found.site_id}")
    for target in found.targets:
        show(f"  {_WHOSE[target.kind]:<7}{target.place.bucket}  {target.status.value}")
        if target.manifest_name is not None:
            files = _counted(target.files, "file")
            show(f"         {target.events:,} events in {files}, {_size(target.bytes)}")
            show(f"         {target.manifest_name}")


def _as_json(target: StoredTarget) -> dict[str, object]:
    return {
        "kind": target.kind.name,
        "bucket": target.place.bucket,
        "status": target.status,
        "manifest_key": target.manifest_name,
        "attempts": target.attempts,
        "next_attempt_at": target.next_attempt_at,
        "error": target.error,
    }


def _tell_proof(proven: Proven, *, as_json: bool) -> None:
    if as_json:
        show_json(proven.as_json)
    else:
        for problem in proven.problems:
            show(problem)
        if not proven.problems:
            what = f"{proven.events:,} events in {_counted(proven.files, 'file')}"
            runs = _counted(proven.runs, "run")
            show(f"{runs} of {proven.name} with {what}: what the ledger holds")
    if proven.problems:
        problems = _counted(len(proven.problems), "problem")
        raise CommandFailed(f"{problems} in what {proven.name} exported")
