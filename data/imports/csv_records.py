"""Records of a CSV file, found again after a broken one."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from data.imports.blocks import ImportFile, LongLine
from data.imports.rows import MAX_ROW_BYTES, BadRow, ImportFileError

DELIMITERS = (",", ";", "\t")

_TOO_LONG = f"longer than {MAX_ROW_BYTES // 1024:,} KiB; maybe a quote is not closed"
_OPEN_QUOTE = "a quote is not closed"
_NOT_UTF8 = re.compile("[\udc80-\udcff]").search


class Record(msgspec.Struct, frozen=True, gc=False):
    """The cells of one record; `number` is the line where it begins, `text` how it is written."""

    number: int
    cells: list[str]
    lines: list[str]

    @property
    def text(self) -> str:
        """How the record stands in the file."""
        return "".join(self.lines)


class _NoRecord(Exception):
    """Why the lines at hand are no record, as far as the csv module does not see it."""


class CsvRecords:
    """All records of a file, as RFC 4180 has them; iterate once.

    A record may span lines inside of quotes, so one stray quote could swallow what follows. What
    is no record (cells don't match the header, text after a closing quote, no end within
    `MAX_ROW_BYTES`) is therefore given up for its first line alone, and reading goes on at the
    line after it. For that the lines of the record at hand are kept, and no others.

    Lines that are read once more count each for itself, but for the last, which showed that
    something is wrong and may begin a record of its own. So no line is read more than three
    times, even where every line leaves a quote open.
    """

    def __init__(self, file: ImportFile, delimiter: str) -> None:
        self._source = chain.from_iterable(self._blocks_of_text(file))
        self._delimiter = delimiter
        # The number of cells in a record, known when the header has been read.
        self._width: int | None = None
        self._number = 1
        # Lines of the record at hand, and lines that were taken for it and are read once more.
        self._taken: list[str] = []
        self._again: deque[str | LongLine] = deque()
        # Lines before this number may not begin a record of several lines.
        self._alone_before = 0
        self._failure: ImportFileError | None = None

    def __iter__(self) -> Iterator[Record | BadRow]:
        """Records and bad rows; at the end ImportFileError, where the file could not be read on."""
        reader = self._new_reader()
        while True:
            self._taken = []
            try:
                cells = next(reader, None)
            except (csv.Error, _NoRecord) as error:
                yield self._give_up_line(_reason(error))
                reader = self._new_reader()
                continue
            if cells is None:
                break
            if len(cells) != self._width:
                if not "".join(cells).strip() and len(cells) < 2:
                    self._number += len(self._taken)
                    continue
                if self._width is not None:
                    yield self._give_up_line(_mismatch(len(cells), self._width))
                    reader = self._new_reader()
                    continue
                self._width = len(cells)
            yield self._record(cells)
        if self._failure is not None:
            raise self._failure

    def _record(self, cells: list[str]) -> Record | BadRow:
        number, lines = self._number, self._taken
        self._number += len(lines)
        for line in lines:
            # isascii() is a flag that the text carries; only the others are searched.
            if not line.isascii() and _NOT_UTF8(line):
                return BadRow.of(number, "not UTF-8", "".join(lines))
        return Record(number, cells, lines)

    def _give_up_line(self, reason: str) -> BadRow:
        """The bad row for the first line of the record at hand; its other lines come again."""
        number = self._number
        self._number += 1
        first: str | LongLine
        if self._taken:
            first, *others = self._taken
            self._again.extendleft(reversed(others))
            self._alone_before = max(self._alone_before, number + len(others))
        else:
            first = self._again.popleft()
        raw = first.beginning if isinstance(first, LongLine) else first
        return BadRow.of(number, reason, raw)

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        """The lines for the csv module, which takes as many as the record at hand needs."""
        size = 0
        while (
            line := self._again.popleft() if self._again else next(self._source, None)
        ) is not None:
            if isinstance(line, LongLine):
                raise self._no_record(_TOO_LONG, line)
            if not self._taken:
                size = len(line)
            else:
                size += len(line)
                if self._number < self._alone_before:
                    raise self._no_record(_OPEN_QUOTE, line)
            if size > MAX_ROW_BYTES:
                raise self._no_record(_TOO_LONG, line)
            self._taken.append(line)
            yield line

    def _no_record(self, reason: str, line: str | LongLine) -> _NoRecord:
        self._again.appendleft(line)
        return _NoRecord(reason)

    def _blocks_of_text(self, file: ImportFile) -> Iterator[Sequence[str | LongLine]]:
        """The lines as text; bytes that are not UTF-8 become lone surrogates, to be found later."""
        try:
            for block in file.blocks():
                if isinstance(block, LongLine):
                    yield [block]
                else:
                    yield [line.decode("utf-8", "surrogateescape") for line in block.lines()]
        except ImportFileError as error:
            # Told at the end: a quote that stands open may hide good records before the damage.
            self._failure = error


def _mismatch(cells: int, width: int) -> str:
    return f"{cells} cells where the header has {width}"


def _reason(error: Exception) -> str:
    if isinstance(error, _NoRecord):
        return str(error)
    # Said better than by the csv module.
    if "field limit" in str(error):
        return f"a cell is longer than {csv.field_size_limit():,} characters; maybe {_OPEN_QUOTE}"
    return _OPEN_QUOTE if "end of data" in str(error) else f"not CSV: {error}"


def delimiter_of(head: bytes) -> str:
    """The delimiter that the header is written with: of those allowed, the most frequent one."""
    header = head.partition(b"\n")[0].decode("utf-8", "replace")
    return max(DELIMITERS, key=header.count)
