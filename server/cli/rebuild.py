"""`footfall rebuild`: columnar copies built anew from the ledger."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from data.admin_log import AdminAction, Entry
from data.columnar import open_columnar
from data.follower import Follower
from data.postgres.admin_log import record_alone
from data.postgres.feed import feed_state
from data.postgres.ledger import Ledger
from data.rebuild_requests import RebuildNote, read_note, request_rebuild
from data.slots import is_taken, take_slot
from server.cli.failures import CommandFailed
from server.cli.options import Json
from server.cli.recording import command_actor, ledger_to_change
from server.cli.session import run, settings_of_command
from server.cli.terminal import Advance, progress, show, show_json
from server.clock import utc_now
from server.resources import prepare_home
from server.settings import Settings
from telemetry.metrics import Metrics

_LOOK_EVERY_SECONDS = 0.2
# A process looks for requests several times a second, unless it is starting or stopping.
_BEGIN_WITHIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A copy that was built anew: by the running process that holds it, or by this command."""

    slot: str
    by_running_process: bool


def rebuild(json: Json = False) -> None:
    """Build the columnar copies anew from the ledger, also those of running services.

    A service answers from its old copy until the new one is complete. Damaged files are no
    obstacle. Without any copy, the first one is made.
    """
    rebuilt = run(_rebuild(settings_of_command()))
    if json:
        show_json({"rebuilt": rebuilt})
        return
    for one in rebuilt:
        where = "in the running service" if one.by_running_process else "on disk"
        show(f"rebuilt columnar copy {one.slot} {where}")


async def _rebuild(settings: Settings) -> list[Rebuilt]:
    prepare_home(settings)
    folder = settings.home / "columnar"
    slots = slots_in(folder)
    taken = [slot for slot in slots if is_taken(slot)]
    async with ledger_to_change(settings) as ledger:
        rebuilt = [Rebuilt(slot.name, True) for slot in taken if await _asked_for(slot)]
        left = max(len(slots), 1) - len(rebuilt)
        with ExitStack() as stack:
            for _ in range(left):
                # Held until all are done: what is given out next is another one.
                slot = stack.enter_context(take_slot(folder))
                await _build_here(slot, ledger)
                rebuilt.append(Rebuilt(slot.name, False))
        await record_alone(ledger.writer, _entry(rebuilt))
    return sorted(rebuilt, key=lambda one: int(one.slot))


def _entry(rebuilt: list[Rebuilt]) -> Entry:
    slots = sorted(one.slot for one in rebuilt)
    now, details = utc_now(), {"copies": slots}
    return Entry(now, command_actor(), AdminAction.COPY_REBUILT, "columnar copies", None, details)


def slots_in(folder: Path) -> list[Path]:
    """The slots that there are, in order."""
    if not folder.is_dir():
        return []
    slots = [slot for slot in folder.iterdir() if slot.is_dir() and slot.name.isdecimal()]
    return sorted(slots, key=lambda slot: int(slot.name))


async def _asked_for(slot: Path) -> bool:
    """Have the process that holds the slot rebuild it; False if the process went away."""
    request_rebuild(slot)
    asked = monotonic()
    with progress(f"Rebuilding columnar copy {slot.name} in the running service") as advance:
        while is_taken(slot):
            note = read_note(slot)
            if note is None and monotonic() - asked > _BEGIN_WITHIN_SECONDS:
                raise CommandFailed(
                    f"the process that holds {slot} does not begin to rebuild: wait until it has "
                    "started, or stop it, then try again"
                )
            if note is not None and _is_done(note, slot, advance):
                return True
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return False


def _is_done(note: RebuildNote, slot: Path, advance: Advance) -> bool:
    if note.state == "failed":
        raise CommandFailed(
            f"the service could not rebuild {slot} ({note.error}) and answers from the old copy: "
            "see its log, then try again"
        )
    _advance(advance, note.done, note.total)
    return note.state == "done"


def _advance(advance: Advance, done: int, total: int) -> None:
    advance(done, total, f"{done:,} of {total:,} commits" if total else "")


async def _build_here(slot: Path, ledger: Ledger) -> None:
    metrics = Metrics.create()
    total = (await ledger.reads.run(partial(feed_state, position=0))).newest
    async with open_columnar(slot, ledger_id=str(ledger.ledger_id), metrics=metrics) as copy:
        follower = Follower(copy, ledger.reads, ledger.writer, metrics.follow)
        with progress(f"Rebuilding columnar copy {slot.name}") as advance:
            _advance(advance, 0, total)
            await follower.rebuild(lambda done, total: _advance(advance, done, total))
