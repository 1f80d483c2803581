"""Taking rows in: bounded in memory, patient with the ledger, and exact about what became of each."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection
from data.group_commit import open_group_commit
from data.imports.rows import BadRow, ImportFileError, OtherSite, Reading, Row
from data.intake import LedgerStore
from data.postgres.append import Append, Appended, append, make_partitions_ahead
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from resolvers.imports import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    CHUNKS_UNDER_WAY,
    Import,
    LedgerAway,
    RefusedRow,
    Tally,
    take_rows,
)
from resolvers.ingest import Door
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(number: int, **fields: object) -> Row:
    return Row(number, {"event_id": uuid4(), "event_type": "view", **fields})


@dataclass(slots=True)
class Course:
    """What an import tells while it runs."""

    tally: Tally = field(default_factory=Tally)
    refused: list[RefusedRow] = field(default_factory=list)
    waited_for: list[str] = field(default_factory=list)


@asynccontextmanager
async def importing(
    course: Course, append_: Append, patience: timedelta = timedelta(minutes=1)
) -> AsyncIterator[Import]:
    metrics = Metrics.create().ingest
    async with open_group_commit(append_, on_commit=lambda _: None, metrics=metrics) as committer:
        yield Import(
            Door(LedgerStore(committer), metrics, "import"),
            "shop",
            clock=lambda: NOW,
            tally=course.tally,
            on_refused=course.refused.append,
            on_progress=lambda: None,
            on_waiting=course.waited_for.append,
            patience=patience,
        )


async def stored(database: Database) -> tuple[int, int]:
    """Events and distinct ids in the ledger."""
    connection = await database.connect()
    events, ids = await connection.fetchrow("select count(*), count(distinct event_id) from events")
    await connection.close()
    return events, ids


async def test_each_row_is_taken_refused_or_left_alone_and_named_by_its_number(
    writer: AsyncEngine, database: Database
) -> None:
    known = row(1)
    readings: list[Reading] = [
        known,
        BadRow(2, "not JSON", "{oops"),
        row(4, event_type=""),
        OtherSite(5, "blog"),
        Row(6, known.event),
        row(7, properties=[1]),
        OtherSite(9, "blog"),
    ]
    course = Course()
    await make_partitions_ahead(writer, NOW)

    async with importing(course, partial(append, writer)) as work:
        await take_rows(work, iter(readings))

    tally = course.tally
    assert (tally.accepted, tally.duplicates, tally.rejected, tally.rows) == (1, 1, 3, 7)
    assert tally.other_sites == {"blog": 2}
    assert [(one.row, one.code) for one in course.refused] == [
        (2, "UNREADABLE_ROW"),
        (4, "INVALID_EVENT_TYPE"),
        (7, "PROPERTIES_NOT_AN_OBJECT"),
    ]
    assert course.refused[0] == RefusedRow(2, "UNREADABLE_ROW", "not JSON", "{oops")
    assert await stored(database) == (1, 1)


async def test_a_ledger_that_comes_back_has_every_row_once(
    writer: AsyncEngine, database: Database
) -> None:
    await make_partitions_ahead(writer, NOW)
    calls = 0

    async def lose_answers(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        nonlocal calls
        call = calls = calls + 1
        if call == 1:
            raise LedgerUnavailable("the connection was refused")
        answer = await append(writer, events, rejections)
        if call == 2:
            raise LedgerUnavailable("the connection was lost after the commit")
        return answer

    course, total = Course(), 2 * CHUNK_ROWS + 5
    async with importing(course, lose_answers) as work:
        await take_rows(work, (row(number) for number in range(total)))

    assert course.tally.accepted + course.tally.duplicates == total
    # What was committed while its answer got lost is found there the second time.
    assert course.tally.duplicates > 0
    assert "the connection was lost after the commit" in course.waited_for
    assert await stored(database) == (total, total)


async def test_a_ledger_that_stays_away_ends_the_import_in_time() -> None:
    async def be_away(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        raise LedgerUnavailable("the connection was refused")

    course = Course()
    async with importing(course, be_away, patience=timedelta(0)) as work:
        with pytest.raises(LedgerAway, match="refused"):
            await take_rows(work, (row(number) for number in range(10 * CHUNK_ROWS)))

    assert course.tally.rows == 0


async def test_what_the_ledger_refuses_is_not_tried_again_and_the_rows_are_named() -> None:
    calls = 0

    async def refuse(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        nonlocal calls
        calls += 1
        raise LedgerRefused("out of range")

    async with importing(Course(), refuse) as work:
        with pytest.raises(ImportFileError, match=r"rows 10 to 19: out of range"):
            await take_rows(work, (row(number) for number in range(10, 20)))

    assert calls == 1


async def test_a_file_that_breaks_off_has_all_rows_before_the_break_taken() -> None:
    def broken() -> Iterator[Reading]:
        yield from (row(number) for number in range(CHUNK_ROWS + 7))
        raise ImportFileError("the file is cut off")

    async def take(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        return Appended([True] * len(events), 1)

    course = Course()
    async with importing(course, take) as work:
        with pytest.raises(ImportFileError, match="cut off"):
            await take_rows(work, broken())

    assert course.tally.accepted == CHUNK_ROWS + 7


@pytest.mark.parametrize("size", [10, 30_000])
async def test_reading_runs_ahead_of_the_commits_by_a_bounded_number_of_bytes(size: int) -> None:
    course, read, furthest = Course(), 0, 0
    total = 7 * CHUNK_ROWS if size < 100 else 2_000
    chunk = min(CHUNK_ROWS, CHUNK_BYTES // size + 1)

    def readings() -> Iterator[Reading]:
        nonlocal read
        for number in range(total):
            read += 1
            yield row(number, properties={"text": "x" * size})

    async def take(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        nonlocal furthest
        # A commit takes its time, and reading goes on meanwhile, however busy the machine is.
        async with asyncio.timeout(60):
            while read - course.tally.rows <= chunk and read < total:
                await asyncio.sleep(0.001)
        furthest = max(furthest, read - course.tally.rows)
        await asyncio.sleep(0.001)
        return Appended([True] * len(events), 1)

    async with importing(course, take) as work:
        await take_rows(work, readings())

    assert course.tally.accepted == read
    # One more is being gathered while the others are under way.
    assert chunk < furthest <= (CHUNKS_UNDER_WAY + 1) * chunk


async def test_a_cancelled_import_counts_what_was_under_way() -> None:
    begun = asyncio.Event()

    async def take(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        begun.set()
        await asyncio.sleep(0.05)
        return Appended([True] * len(events), 1)

    def endless() -> Iterator[Reading]:
        number = 0
        while True:
            number += 1
            yield row(number)

    course, stored_events = Course(), 0

    async def count(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        nonlocal stored_events
        answer = await take(events, rejections)
        stored_events += len(events)
        return answer

    async with importing(course, count) as work:
        running = asyncio.create_task(take_rows(work, endless()))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert course.tally.accepted == stored_events > 0
