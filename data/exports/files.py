"""The files of a run, one after the other, on disk for as long as somebody looks at them.

A part is a stretch of the feed, so nothing has to be remembered of one to write the next. While
one is taken away, the next is written, and no more than these two are on disk.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from data.event_store import StoreUnavailable
from data.exports.cutting import Cutter
from data.exports.failures import disk_errors
from data.exports.layout import SCHEMA_VERSION, Arrivals, Compression, FileFormat, Layout
from data.exports.orders import RunOrder
from data.exports.packing import Digest, GzipWriter, digest_of
from data.exports.source import ExportSource, FileOrder, Stack
from data.exports.tally import Tally

# A cut falls where the files so far say that this share of the maximum is reached.
_AIM = 0.85
# What an event takes before anything is known: rather too much, as a file that comes out too large
# is written again.
_BYTES_FIRST = {
    FileFormat.JSON: 800,
    FileFormat.JSONL: 800,
    FileFormat.CSV: 600,
    FileFormat.PARQUET: 200,
}
_PACKED_SHARE = 4
# A statement of half a minute at most, and a share of the copy's memory.
_MOST_EVENTS = 4_000_000
# What is packed by gzip lies on disk in pieces of this size before.
_PIECE_BYTES = 64 * 1024 * 1024
_FIRST_PIECE_EVENTS = 10_000
_NOTHING = "", ""
# Told now and then how many events were written so far, those of an unfinished file among them.
OnWritten = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A finished file of a run, numbered from 1, and what it holds."""

    number: int
    path: Path
    digest: Digest
    tally: Tally

    @property
    def rows(self) -> int:
        """How many events it has."""
        return self.tally.taken.events


class Parts:
    """The parts of a run, to be iterated over once. A part's file is gone when the next is asked for.

    `tally` is that of the whole selection, once there are no more parts.
    """

    def __init__(
        self,
        source: Callable[[], ExportSource],
        order: RunOrder,
        folder: Path,
        on_written: OnWritten,
    ) -> None:
        self._source = source
        self._on_written = on_written
        self._order = order
        self._folder = folder
        self._cutter = Cutter(source, order.selection, order.selection.arrivals)
        self._bytes_per_event = _first_guess(order.layout)
        self._numbers = 0
        self._each = self._generated()
        self.tally = Tally()

    def __aiter__(self) -> AsyncIterator[Part]:
        """Part by part, in order of arrival; raises `StoreUnavailable` and `DiskFull`."""
        return self._each

    async def aclose(self) -> None:
        """Stop whatever is being written."""
        await self._each.aclose()

    async def _generated(self) -> AsyncGenerator[Part, None]:
        upcoming = asyncio.create_task(self._next())
        try:
            while (part := await upcoming) is not None:
                upcoming = asyncio.create_task(self._next())
                yield part
                part.path.unlink(missing_ok=True)
        finally:
            upcoming.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await upcoming

    async def _next(self) -> Part | None:
        most = self._most()
        while (stack := await self._cutter.take(most)) is not None:
            tally = await self._source().export_tally(self._order.selection, stack.arrivals)
            if tally.taken.events:
                number = self._numbers + 1
                path = self._folder / f"part-{number:05}{self._order.layout.suffix}"
                with disk_errors(self._folder):
                    digest = await self._write(path, number, stack.arrivals, tally)
                self._bytes_per_event = max(1.0, digest.bytes / stack.events)
                if digest.bytes > self._order.layout.max_file_bytes and stack.events > 1:
                    path.unlink()
                    self._cutter.put_back(stack)
                    most = max(1, min(self._most(), stack.events // 2))
                    continue
                self._numbers = number
                self.tally += tally
                self._on_written(self.tally.taken.events)
                return Part(number, path, digest, tally)
            self.tally += tally
        return None

    def _most(self) -> int:
        aimed = _AIM * self._order.layout.max_file_bytes / self._bytes_per_event
        return max(1, min(int(aimed), _MOST_EVENTS))

    async def _write(self, path: Path, number: int, arrivals: Arrivals, tally: Tally) -> Digest:
        layout = self._order.layout
        head, tail = _around(self._order, tally) if layout.format is FileFormat.JSON else _NOTHING
        order = FileOrder(
            self._order.selection,
            arrivals,
            layout,
            path,
            head=head,
            tail=tail,
            metadata=_metadata(self._order, number),
        )
        if layout.compression is Compression.GZIP and layout.format is not FileFormat.PARQUET:
            rows, digest = await self._write_gzip(order)
        else:
            rows = await self._source().export_rows(order)
            digest = await asyncio.to_thread(digest_of, path)
        if rows != tally.taken.events:
            raise StoreUnavailable(
                f"the copy gave {rows:,} rows of {tally.taken.events:,} that it had counted"
            )
        return digest

    async def _write_gzip(self, order: FileOrder) -> tuple[int, Digest]:
        """One piece is packed while DuckDB writes the next: its own gzip takes thrice the time."""
        rows, most = 0, _FIRST_PIECE_EVENTS
        cutter = Cutter(self._source, order.selection, order.arrivals)
        writer = GzipWriter(order.path)
        packing = asyncio.create_task(asyncio.to_thread(writer.write, order.head.encode()))
        try:
            while (stack := await cutter.take(most)) is not None:
                piece = replace(
                    order,
                    arrivals=stack.arrivals,
                    layout=replace(order.layout, compression=Compression.NONE),
                    path=_piece_path(order.path, stack),
                    # DuckDB takes both or none.
                    head="," if rows else " ",
                    tail="\n",
                    has_header=not rows,
                )
                written = await self._source().export_rows(piece)
                size = (await asyncio.to_thread(piece.path.stat)).st_size
                # Not too much more than before: a filter may suddenly hold for every event.
                aimed = int(_PIECE_BYTES * stack.events / max(size, 1))
                most = max(1, min(aimed, 4 * most))
                await asyncio.shield(packing)
                packing = asyncio.create_task(_pack(writer, piece.path, is_empty=not written))
                rows += written
                self._on_written(self.tally.taken.events + rows)
            await asyncio.shield(packing)
            packing = asyncio.create_task(asyncio.to_thread(writer.write, order.tail.encode()))
            await asyncio.shield(packing)
            return rows, await asyncio.to_thread(writer.finish)
        finally:
            # A thread does not stop when its task is cancelled, and still needs the file.
            with suppress(Exception):
                await asyncio.shield(packing)
            writer.close()


async def _pack(writer: GzipWriter, path: Path, *, is_empty: bool) -> None:
    """Add a piece; one without rows has at most a header, which the next one brings again."""
    await asyncio.to_thread(path.unlink if is_empty else partial(writer.take_file, path))


def _piece_path(path: Path, stack: Stack) -> Path:
    return path.with_name(f"{path.name}-{stack.arrivals.after}.piece")


def _first_guess(layout: Layout) -> float:
    guess = _BYTES_FIRST[layout.format]
    is_packed = layout.compression is not Compression.NONE
    return guess / _PACKED_SHARE if is_packed else guess


def _around(order: RunOrder, tally: Tally) -> tuple[str, str]:
    """What stands around the events in a document of JSON."""
    assert tally.first_at is not None
    assert tally.last_at is not None
    about = {
        "export_id": order.run_id,
        "exported_at": order.begun_at,
        "event_count": tally.taken.events,
        "time_range": {"from": tally.first_at, "to": tally.last_at},
    }
    return f'{{"export_metadata":{msgspec.json.encode(about).decode()},"events":[\n', "]}\n"


def _metadata(order: RunOrder, number: int) -> dict[str, str]:
    """What a Parquet file says of itself, beside its columns."""
    return {
        "footfall_schema_version": str(SCHEMA_VERSION),
        "footfall_export_id": str(order.run_id),
        "footfall_part": str(number),
    }


@asynccontextmanager
async def open_parts(
    source: Callable[[], ExportSource],
    order: RunOrder,
    folder: Path,
    on_written: OnWritten = lambda _: None,
) -> AsyncIterator[Parts]:
    """The parts of a run, written into a folder of its own below `folder`, and gone with the block.

    `folder` must be in the folder of the copy. `source` is asked anew for every statement, as a copy
    may be replaced on the way.
    """
    own = folder / str(order.run_id)
    with disk_errors(folder):
        await asyncio.to_thread(_make_empty, own)
    try:
        async with aclosing(Parts(source, order, own, on_written)) as parts:
            yield parts
    finally:
        await asyncio.to_thread(shutil.rmtree, own, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Throw away what runs of a killed process have left; for the start, before the first run."""
    shutil.rmtree(folder, ignore_errors=True)


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
