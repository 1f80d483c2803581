"""Import files as blocks of whole lines, unpacked on the way: bounded whatever the file holds."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.imports.rows import MAX_ROW_BYTES, TEXT_CHARS, FollowProgress, ImportFileError

_BLOCK_BYTES = 256 * 1024
# Packed files are taken in smaller steps, for a progress that moves.
_BUFFER_BYTES = 32 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_REPEAT = (
    "what was read up to there is kept; get the complete file and import it again:"
    " rows that are already in are not counted twice"
)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines; `number` is that of the first, from 1.

    Each line ends with a newline, except maybe the last one of the file.
    """

    number: int
    data: bytes

    def lines(self) -> list[bytes]:
        """The lines, with their ends; nothing but a newline ends a line."""
        return io.BytesIO(self.data).readlines()


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line of more than `MAX_ROW_BYTES`, of which only the beginning was kept."""

    number: int
    beginning: bytes


class _CountedFile(io.FileIO):
    """A file that knows how much was read of it: a pipe, too, which cannot tell its position."""

    taken = 0

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:  # type: ignore[override]
        size = super().readinto(buffer)
        self.taken += size or 0
        return size


class ImportFile:
    """An open import file. `head` is how its content begins; `blocks` can be asked for once."""

    def __init__(
        self,
        raw: _CountedFile,
        content: io.BufferedIOBase,
        follow_progress: FollowProgress | None,
    ) -> None:
        self._raw = raw
        self._content = content
        self._follow_progress = follow_progress
        self._lines_read = 0
        self.is_gzip = isinstance(content, gzip.GzipFile)
        self.head = self._read_head()

    def blocks(self) -> Iterator[Block | LongLine]:
        """All lines, in order; raises ImportFileError where the file is damaged or cut off.

        Every line that was complete before the damage has been given out by then.
        """
        rest = self.head
        while True:
            end = rest.rfind(b"\n") + 1
            if end:
                yield Block(self._lines_read + 1, rest[:end])
                self._lines_read += rest.count(b"\n", 0, end)
                rest = rest[end:]
            if len(rest) > MAX_ROW_BYTES:
                yield LongLine(self._lines_read + 1, rest[: 4 * TEXT_CHARS])
                rest = self._skip_line()
                self._lines_read += 1
                continue
            more = self._read()
            if not more:
                break
            rest += more
        if rest:
            yield Block(self._lines_read + 1, rest)

    def _read_head(self) -> bytes:
        head = self._read()
        if head.startswith(_UTF16_MARKS):
            raise ImportFileError("the file is UTF-16; save it as UTF-8 and import it again")
        # Some first members of a gzip file hold next to nothing; the first line must be whole.
        while b"\n" not in head.lstrip() and len(head) < _BLOCK_BYTES and (more := self._read()):
            head += more
        return head.removeprefix(_UTF8_MARK)

    def _skip_line(self) -> bytes:
        """What follows after the end of the line that is being read."""
        while more := self._read():
            _, newline, rest = more.partition(b"\n")
            if newline:
                return rest
        return b""

    def _read(self) -> bytes:
        # read1 and not read: what was unpacked before a damage is given out, not thrown away.
        try:
            data = self._content.read1(_BLOCK_BYTES)
        except EOFError:
            raise ImportFileError(
                f"the gzip data end too early, after line {self._lines_read:,}; {_REPEAT}"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ImportFileError(
                f"the gzip data are damaged after line {self._lines_read:,} ({error}); {_REPEAT}"
            ) from None
        except OSError as error:
            raise ImportFileError(
                f"reading failed after line {self._lines_read:,} ({error.strerror}); {_REPEAT}"
            ) from None
        if self._follow_progress is not None:
            self._follow_progress(self._raw.taken)
        return data


@contextmanager
def open_import_file(
    path: Path, follow_progress: FollowProgress | None = None
) -> Iterator[ImportFile]:
    """The file, open for reading and unpacked where it is gzip; raises ImportFileError."""
    try:
        raw = _CountedFile(path)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None
    with io.BufferedReader(raw, _BUFFER_BYTES) as buffered:
        if buffered.peek(2)[:2] == _GZIP_MAGIC:
            with gzip.GzipFile(fileobj=buffered) as content:
                yield ImportFile(raw, content, follow_progress)
        else:
            yield ImportFile(raw, buffered, follow_progress)
