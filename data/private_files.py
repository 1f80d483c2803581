"""Files that only their owner can read, replaced as a whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile, in any process."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write_private(path: Path, content: dict[str, Any], *, only_new: bool = False) -> None:
    """Write a JSON file with mode 0600, on the disk when this returns.

    With `only_new` a file that is there stays: of several processes the first one wins.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        if only_new:
            # A link and not a rename: it fails where another process was first.
            os.link(draft, path)
        else:
            draft.replace(path)
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def read_private(path: Path) -> Any:
    """The content of a JSON file; its mode is kept strict even where somebody has loosened it."""
    path.chmod(0o600)
    return json.loads(path.read_text(encoding="utf-8"))


def _sync_folder(folder: Path) -> None:
    """Put a new name on the disk as well: a key that a power failure takes away is gone for good."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
