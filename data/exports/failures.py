"""What stops a run before anything of it can be seen."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.event_store import StoreUnavailable

# As operating system and DuckDB put it.
_NO_ROOM = ("No space left", "File too large", "Disk quota exceeded")
_NO_ROOM_NUMBERS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class DiskFull(Exception):
    """There is no room on this machine for the parts of a run; it may pass."""


class CopyDiffers(Exception):
    """The columnar copy does not hold what the ledger holds: it must be rebuilt, then run again."""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A full disk is told as `DiskFull`, whoever has noticed it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM_NUMBERS:
            raise
        raise _full(folder) from error
    except StoreUnavailable as error:
        if not any(sign in str(error) for sign in _NO_ROOM):
            raise
        raise _full(folder) from error


def _full(folder: Path) -> DiskFull:
    return DiskFull(
        f"the disk of {folder} is full: free some room, or lower the maximum file size of the"
        " destination (two files at a time lie there)"
    )
