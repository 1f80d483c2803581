"""Importing: rows of a file through the pipeline into the ledger, many chunks on their way at once.

Rows carry ids that are the same at every reading, so whatever was cut off is simply read again: rows
that are in already are duplicates, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_exponential_jitter,
)

from data.events import Rejection
from data.imports.rows import TEXT_CHARS, BadRow, ImportFileError, OtherSite, Reading, Row
from data.postgres.engine import LedgerRefused
from data.resources import Clock
from resolvers.errors import Overloaded, Unavailable
from resolvers.ingest import Door, Outcome, take_in
from resolvers.pipeline import Arrival

CHUNK_ROWS = 2_000
CHUNK_BYTES = 4 * 1024 * 1024
CHUNKS_UNDER_WAY = 4
# Rows read in one go, before the commits under way get their turn in the event loop.
_ROWS_AT_A_TIME = 100
# How long a cancelled import waits to learn what became of the chunks under way.
_LAST_WORDS_SECONDS = 5.0

UNREADABLE = "UNREADABLE_ROW"

_encode = msgspec.json.Encoder(decimal_format="number").encode


class LedgerAway(Exception):
    """The ledger did not come back in time; what was not answered can be sent again."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was not taken: its number, a code and a sentence, and how it begins.

    The code is one of `RejectionCode`, or `UNREADABLE` for a row that is no event at all.
    """

    row: int
    code: str
    message: str
    text: str


@dataclass(slots=True)
class Tally:
    """What became of the rows so far; `other_sites` counts rows left alone, by site."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    other_sites: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Rows whose fate is known."""
        return self.accepted + self.duplicates + self.rejected + self.other_sites.total()


@dataclass(frozen=True, slots=True)
class Import:
    """Where rows go: events through the door, refused rows to `on_refused`, counts to `tally`.

    `on_progress` is called after every chunk. While the ledger is away, chunks wait for it as
    long as `patience`, and `on_waiting` is told why before each new attempt.
    """

    door: Door
    site_id: str
    clock: Clock
    tally: Tally
    on_refused: Callable[[RefusedRow], None]
    on_progress: Callable[[], None]
    on_waiting: Callable[[str], None]
    patience: timedelta = timedelta(minutes=1)


async def take_rows(work: Import, readings: Iterator[Reading]) -> None:
    """Commit all rows; returns, or raises, when none is under way any more.

    Raises ImportFileError where the file cannot be read any further, after taking what came
    before, and `LedgerAway`. A cancellation stops the reading; what is under way is still counted.
    """
    under_way: set[asyncio.Task[None]] = set()
    try:
        async for chunk in _chunks(work, readings):
            under_way.add(asyncio.create_task(_take_chunk(work, chunk)))
            if len(under_way) == CHUNKS_UNDER_WAY:
                under_way = await _some_ended(under_way)
        while under_way:
            under_way = await _some_ended(under_way)
    except asyncio.CancelledError:
        await _end(under_way, _LAST_WORDS_SECONDS)
        raise
    except BaseException:
        await _end(under_way, None)
        raise


async def _some_ended(under_way: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """What is still under way when at least one has ended; raises what made one fail."""
    ended, others = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    failures = [failure for task in ended if (failure := task.exception()) is not None]
    if failures:
        raise failures[0]
    return others


async def _end(under_way: set[asyncio.Task[None]], seconds: float | None) -> None:
    if not under_way:
        return
    _, late = await asyncio.wait(under_way, timeout=seconds)
    for task in late:
        task.cancel()
    # Their failures are those of the one that is being told, or follow from it.
    await asyncio.gather(*under_way, return_exceptions=True)


@dataclass(slots=True)
class _Chunk:
    """Rows that are sent together, with their weight in bytes."""

    rows: list[Row] = field(default_factory=list)
    size: int = 0

    def add(self, row: Row) -> None:
        self.rows.append(row)
        try:
            self.size += len(_encode(row.event))
        except (TypeError, ValueError, OverflowError, RecursionError):
            # The pipeline will say what is wrong with it.
            self.size += CHUNK_BYTES // CHUNK_ROWS

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= CHUNK_ROWS or self.size >= CHUNK_BYTES


async def _chunks(work: Import, readings: Iterator[Reading]) -> AsyncIterator[_Chunk]:
    """The rows in chunks; those that cannot be sent are counted on the way."""
    chunk = _Chunk()
    failure: ImportFileError | None = None
    try:
        for count, reading in enumerate(readings, 1):
            match reading:
                case Row():
                    chunk.add(reading)
                case BadRow():
                    _refuse(work, reading)
                case OtherSite():
                    work.tally.other_sites[reading.site_id] += 1
            if chunk.is_full:
                yield chunk
                chunk = _Chunk()
            if count % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)
    except ImportFileError as error:
        failure = error
    if chunk.rows:
        yield chunk
    if failure is not None:
        raise failure


def _refuse(work: Import, row: BadRow) -> None:
    work.tally.rejected += 1
    work.on_refused(RefusedRow(row.number, UNREADABLE, row.reason, row.text))


async def _take_chunk(work: Import, chunk: _Chunk) -> None:
    outcome = await _sent(work, chunk)
    work.tally.accepted += outcome.accepted
    work.tally.duplicates += outcome.duplicates
    work.tally.rejected += outcome.rejected
    for row, result in zip(chunk.rows, outcome.results, strict=True):
        if isinstance(result, Rejection):
            text = result.payload[:TEXT_CHARS]
            work.on_refused(RefusedRow(row.number, result.code.value, result.message, text))
    work.on_progress()


async def _sent(work: Import, chunk: _Chunk) -> Outcome:
    """What became of a chunk; tried again while the ledger is away, which its ids make safe."""

    def tell(attempt: RetryCallState) -> None:
        if attempt.outcome is not None:
            work.on_waiting(_reason(attempt.outcome.exception()))

    attempts = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        before_sleep=tell,
        wait=wait_exponential_jitter(multiplier=0.2, max=5.0),
        stop=stop_after_delay(work.patience),
        reraise=True,
    )
    sent: Sequence[object] = [row.event for row in chunk.rows]
    arrival = Arrival(work.site_id, work.clock())
    try:
        return await attempts(take_in, work.door, sent, arrival, chunk.size)
    except Unavailable as error:
        first, last = chunk.rows[0].number, chunk.rows[-1].number
        if isinstance(error.__cause__, LedgerRefused):
            raise ImportFileError(
                f"the database refuses something in rows {first:,} to {last:,}: {error.__cause__}"
            ) from error
        raise LedgerAway(_reason(error)) from error


def _reason(error: BaseException | None) -> str:
    """What the ledger said, under what the caller of the pipeline is told."""
    return str((error and error.__cause__) or error)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, Unavailable):
        return not isinstance(error.__cause__, LedgerRefused)
    return isinstance(error, Overloaded)
