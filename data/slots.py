"""Slots: folders of which each process takes one for itself, for as long as it lives.

The lock of a slot ends with its process, however that ends. What is in a folder stays, for
whoever takes the slot next.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

MAX_SLOTS = 64


class NoSlot(Exception):
    """No slot can be had in a folder; the message says why."""


@contextmanager
def take_slot(root: Path) -> Iterator[Path]:
    """A folder below `root` that no other process uses: the first free one of 0, 1, 2, ...

    Raises `NoSlot`.
    """
    with ExitStack() as stack:
        try:
            slot = _first_free(root, stack)
        except OSError as error:
            raise NoSlot(f"{root} cannot be used: {error.strerror}") from error
        yield slot


def _first_free(root: Path, stack: ExitStack) -> Path:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MAX_SLOTS):
        slot = root / str(number)
        slot.mkdir(mode=0o700, exist_ok=True)
        if stack.enter_context(locked(slot)):
            return slot
    raise NoSlot(f"{MAX_SLOTS} processes use folders in {root}")


@contextmanager
def locked(slot: Path) -> Iterator[bool]:
    """Whether the slot is ours until the block is left."""
    with (slot / "lock").open("a") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_taken(slot: Path) -> bool:
    """Whether a process uses this slot at the moment."""
    with locked(slot) as is_free:
        return not is_free
