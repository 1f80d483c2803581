"""The spool's files: the segments in a slot of one process, and what stands beside them.

Everything here blocks and is called from the spool's own thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.spool.records import HEAD_BYTES, encode_head

_SUFFIX = ".segment"
_NAMES = "[0-9]" * 12 + _SUFFIX


def segments_in(folder: Path) -> list[Path]:
    """The segments of a folder, oldest first."""
    return sorted(folder.glob(_NAMES))


def folders_with_segments(root: Path) -> list[Path]:
    """All folders that hold something, of whichever process."""
    return sorted({path.parent for path in root.glob(f"*/{_NAMES}")})


def read_place(segment: Path) -> int:
    """Up to where a segment was drained before."""
    try:
        return max(HEAD_BYTES, int(_place(segment).read_text("ascii")))
    except (FileNotFoundError, ValueError):
        return HEAD_BYTES


def keep_place(segment: Path, place: int) -> None:
    """Remember up to where a segment is drained.

    Not brought to the disk: what is drained once more after a loss of power changes nothing. For
    the same reason a disk without room for it does not matter; draining is what makes room.
    """
    with suppress(OSError):
        _place(segment).write_text(str(place), "ascii")


def remove_segment(segment: Path) -> None:
    """Delete a segment that is drained."""
    # In this order: a place that outlived its segment could be taken for that of another.
    _place(segment).unlink(missing_ok=True)
    segment.unlink()


def _place(segment: Path) -> Path:
    return segment.with_suffix(".place")


def append_durably(path: Path, data: bytes) -> None:
    """Add to a file, made where there is none, and return when it is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            # It will be tried again: half a line would spoil the whole one behind it.
            with suppress(OSError):
                file.truncate(before)
            raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class SegmentWriter:
    """Writes records into the newest segment of a folder, and begins the next when it is full.

    What `write` was given is on the disk when it returns, and not in a segment when it raises
    OSError, but where the disk itself failed: then nobody knows.
    """

    folder: Path
    segment_bytes: int
    clock: Callable[[], datetime]
    _next: int = 0
    _path: Path | None = None
    _descriptor: int = -1
    _length: int = 0
    # The end of what is known to be on the disk.
    _sound: int = 0

    def __post_init__(self) -> None:
        # Behind those that were set aside, too: they are kept for people to look at.
        used = [int(path.stem) for path in self.folder.glob("[0-9]" * 12 + ".*")]
        self._next = max(used, default=0) + 1

    @property
    def current(self) -> Path | None:
        """The segment that is being written, if there is one."""
        return self._path

    def write(self, records: Sequence[bytes]) -> int:
        """Bring records to the disk; how many bytes the spool grew by."""
        grown = 0
        if self._path is None:
            grown = self._begin()
        try:
            for record in records:
                self._put(record)
            os.fdatasync(self._descriptor)
        except BaseException:
            self._undo()
            raise
        grown += self._length - self._sound
        self._sound = self._length
        if self._length >= self.segment_bytes:
            self.seal()
        return grown

    def seal(self) -> None:
        """Write no more into the current segment: it may be drained."""
        if self._path is not None:
            self._path = None
            # All that counts is on the disk; a failure now says nothing about it.
            with suppress(OSError):
                os.close(self._descriptor)

    def _begin(self) -> int:
        path = self.folder / f"{self._next:012}{_SUFFIX}"
        _place(path).unlink(missing_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._path, self._length = path, 0
        # Numbers only go up: one is not used again, whatever becomes of its file.
        self._next += 1
        try:
            self._put(encode_head(self.clock()))
            os.fsync(self._descriptor)
            sync_folder(self.folder)
        except OSError:
            self.seal()
            with suppress(OSError):
                path.unlink()
            raise
        self._sound = self._length
        return self._length

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._descriptor, rest)
            self._length += written
            rest = rest[written:]

    def _undo(self) -> None:
        """Take back what was written in part, and don't use the segment again.

        After a failure the system may call pages clean that never reached the disk.
        """
        with suppress(OSError):
            os.ftruncate(self._descriptor, self._sound)
        path = self._path
        self.seal()
        if path is not None and self._sound <= HEAD_BYTES:
            with suppress(OSError):
                path.unlink()
