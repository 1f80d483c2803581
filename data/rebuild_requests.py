"""How a command asks the processes that hold columnar copies to build them anew.

DuckDB files belong to one process, so a command cannot rebuild the copy of a running service. It
leaves a request in the copy's slot; the process takes it up and keeps a note of its progress.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
import structlog

from data.background import Loop

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 0.3

Progress = Callable[[int, int], None]


class RebuildNote(msgspec.Struct, frozen=True):
    """How far a rebuild is: `done` of `total` positions of the change feed."""

    state: str
    done: int = 0
    total: int = 0
    error: str | None = None


def request_rebuild(slot: Path) -> None:
    """Ask the process that works on this slot for a rebuild."""
    _note_file(slot).unlink(missing_ok=True)
    (slot / "rebuild.request").touch()


def is_requested(slot: Path) -> bool:
    """Whether a rebuild was asked for that the process has not taken up yet."""
    return (slot / "rebuild.request").exists()


def read_note(slot: Path) -> RebuildNote | None:
    """The last word on a rebuild that was asked for; None until it has begun."""
    try:
        return msgspec.json.decode(_note_file(slot).read_bytes(), type=RebuildNote)
    except FileNotFoundError:
        return None


def serving_requests(slot: Path, rebuild: Callable[[Progress], Awaitable[None]]) -> Loop:
    """What carries out requests."""
    return Loop(
        "columnar.rebuild.requests",
        partial(_serve, slot, rebuild),
        pause=LOOK_EVERY_SECONDS,
        # The disk's trouble, which passes.
        expected=(OSError,),
    )


async def _serve(slot: Path, rebuild: Callable[[Progress], Awaitable[None]]) -> None:
    request = slot / "rebuild.request"
    if request.exists():
        request.unlink(missing_ok=True)
        await _carry_out(slot, rebuild)


async def _carry_out(slot: Path, rebuild: Callable[[Progress], Awaitable[None]]) -> None:
    _write_note(slot, RebuildNote("running"))
    try:
        await rebuild(lambda done, total: _write_note(slot, RebuildNote("running", done, total)))
    except Exception as error:  # noqa: BLE001 - whatever it was, the command must hear of it
        _write_note(slot, RebuildNote("failed", error=f"{type(error).__name__}: {error}"))
    else:
        _write_note(slot, RebuildNote("done"))


def _note_file(slot: Path) -> Path:
    return slot / "rebuild.note"


def _write_note(slot: Path, note: RebuildNote) -> None:
    draft = slot / "rebuild.note.new"
    try:
        draft.write_bytes(msgspec.json.encode(note))
        draft.replace(_note_file(slot))
    except OSError as error:
        # A full disk is what most rebuilds fail of; whoever serves them must outlive it.
        log.warning("columnar.rebuild.note_lost", state=note.state, error=str(error))
