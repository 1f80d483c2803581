"""Following: every commit once and in order, through crashes, damage and other histories."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import DateRange
from data.columnar import ColumnarCopy, open_columnar
from data.events import Event
from data.follower import Follower, following
from data.postgres.append import append
from data.postgres.feed import feed_state, ledger_id
from data.postgres.reads import Reads
from data.queries import EventCountsQuery, Scope
from data.rebuild_requests import LOOK_EVERY_SECONDS, read_note, request_rebuild
from data.slots import take_slot
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARCH = DateRange(date(2026, 3, 1), date(2026, 3, 31))


def event(**fields: str) -> Event:
    return Event(uuid4(), "shop", "view", NOW, NOW, **fields)


async def total(copy: ColumnarCopy) -> int:
    answer = await copy.store.event_counts(
        [EventCountsQuery(Scope("shop", MARCH, ZoneInfo("UTC")))]
    )
    return answer.rows[0].total


@asynccontextmanager
async def follow(
    folder: Path, writer: AsyncEngine, reader: AsyncEngine
) -> AsyncIterator[tuple[Follower, ColumnarCopy, Metrics]]:
    metrics = Metrics.create()
    with take_slot(folder) as slot:
        identity = str(await ledger_id(writer))
        async with (
            open_columnar(slot, ledger_id=identity, metrics=metrics) as copy,
            following(Follower(copy, Reads(reader), writer, metrics.follow)) as follower,
        ):
            yield follower, copy, metrics


async def caught_up(follower: Follower, copy: ColumnarCopy) -> None:
    """Return when the copy holds everything that is committed now."""
    newest = (await feed_state(follower.primary, 0)).newest
    async with asyncio.timeout(60):
        while True:
            watermark = await copy.store.watermark()
            if (watermark.position if watermark else 0) >= newest and follower.is_caught_up:
                return
            await asyncio.sleep(0.01)


def rebuilds(metrics: Metrics) -> dict[str, float]:
    page = metrics.render()[0].decode()
    name = "footfall_follow_rebuilds_total{reason="
    lines = [line.removeprefix(name) for line in page.splitlines() if line.startswith(name)]
    return {part.split('"')[1]: float(part.split("} ")[1]) for part in lines}


async def test_batches_of_another_process_are_followed_without_a_call(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        for _ in range(5):
            await append(writer, [event() for _ in range(20)], [])
        await caught_up(follower, copy)

        assert await total(copy) == 100


async def test_texts_arrive_as_they_are_in_the_ledger(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    odd = ["\\N", '"', '""', "a,b", "line\nbreak", "\r\n", "\\", "", " ", "é\u2028🎈", "null", "\t"]
    await append(
        writer, [event(user_id=text, properties='{"k": "\\n\\"\\\\N"}') for text in odd], []
    )

    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
        connection = copy.store._runner._connection.cursor()
        rows = connection.execute(
            "select user_id, visitor_id, properties from events order by arrival"
        ).fetchall()
        connection.close()

    assert [row[0] for row in rows] == odd
    assert {row[1] for row in rows} == {None}
    assert {row[2] for row in rows} == {'{"k": "\\n\\"\\\\N"}'}


async def test_the_copy_goes_on_where_the_last_process_stopped(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    await append(writer, [event()], [])
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
    await append(writer, [event(), event()], [])

    async with follow(tmp_path, writer, reader) as (follower, copy, metrics):
        assert await total(copy) == 1
        await caught_up(follower, copy)

        assert await total(copy) == 3
        assert rebuilds(metrics) == {}


async def test_data_through_moves_on_while_nothing_happens(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
        before = follower.data_through(None)
        assert before is not None
        async with asyncio.timeout(60):
            while (follower.data_through(None) or before) <= before:
                await asyncio.sleep(0.02)


async def test_data_through_never_claims_what_a_copy_lacks(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        for _ in range(200):
            await append(writer, [event()], [])
            acknowledged = datetime.now(UTC)
            answer = await copy.store.event_counts(
                [EventCountsQuery(Scope("shop", MARCH, ZoneInfo("UTC")))]
            )
            through = follower.data_through(answer.watermark)
            written = (await feed_state(writer, 0)).newest
            if through is not None and through > acknowledged:
                assert answer.rows[0].total == written


@pytest.mark.parametrize("harm", ["damaged", "truncated", "not a copy", "format"])
async def test_a_copy_that_cannot_be_used_is_built_anew(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, harm: str
) -> None:
    await append(writer, [event() for _ in range(50)], [])
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
        if harm == "format":
            cursor = copy.store._runner._connection.cursor()
            cursor.execute("update copy_state set format_version = 999")
            cursor.close()
        path = copy._current.path if copy._current else Path()
    if harm == "damaged":
        content = bytearray(path.read_bytes())
        content[0:4096] = b"\xff" * 4096
        path.write_bytes(content)
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif harm == "not a copy":
        path.write_text("this is not a database")

    async with follow(tmp_path, writer, reader) as (follower, copy, metrics):
        await caught_up(follower, copy)

        assert await total(copy) == 50
        assert rebuilds(metrics) == {"format" if harm == "format" else "damaged": 1.0}


async def test_a_copy_of_another_ledger_is_built_anew(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, database: Database
) -> None:
    await append(writer, [event()], [])
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
    connection = await database.connect()
    await connection.execute("update ledger set ledger_id = gen_random_uuid()")
    await connection.close()

    async with follow(tmp_path, writer, reader) as (follower, copy, metrics):
        await caught_up(follower, copy)

        assert await total(copy) == 1
        assert rebuilds(metrics) == {"other_ledger": 1.0}


@pytest.mark.parametrize("history", ["shorter", "another"])
async def test_a_copy_ahead_of_the_ledger_is_built_anew_while_it_runs(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, database: Database, history: str
) -> None:
    for _ in range(3):
        await append(writer, [event()], [])
    async with follow(tmp_path, writer, reader) as (follower, copy, metrics):
        await caught_up(follower, copy)

        # A restored backup: the last commits are gone and, later, others took their positions.
        connection = await database.connect()
        async with connection.transaction():
            await connection.execute(
                "delete from events where batch_id in"
                " (select batch_id from ingest_batches where position > 1)"
            )
            await connection.execute("delete from ingest_batches where position > 1")
        await connection.close()
        if history == "another":
            for _ in range(5):
                await append(writer, [event(), event()], [])
        expected = 11 if history == "another" else 1
        async with asyncio.timeout(60):
            while await total(copy) != expected:
                await asyncio.sleep(0.02)

        assert rebuilds(metrics) == {"ahead_of_ledger": 1.0}


async def test_a_rebuild_that_is_asked_for_answers_from_the_old_copy_meanwhile(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    for _ in range(20):
        await append(writer, [event() for _ in range(50)], [])
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
        first = copy._current
        request_rebuild(copy.slot)
        seen = set()
        async with asyncio.timeout(60):
            while True:
                seen.add(await total(copy))
                note = read_note(copy.slot)
                if note is not None and note.state != "running":
                    break
                await asyncio.sleep(0.005)
        assert note.state == "done"
        await append(writer, [event()], [])
        await caught_up(follower, copy)

        assert seen == {1_000}
        assert await total(copy) == 1_001
        assert copy._current is not first
    assert [path.name for path in (tmp_path / "0").glob("*.duckdb")] == ["copy-1.duckdb"]


async def test_a_request_for_a_rebuild_that_cannot_be_taken_up_stops_no_later_one(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await caught_up(follower, copy)
        # What can be seen and not be deleted, as on a disk that has become read-only.
        stuck = copy.slot / "rebuild.request"
        stuck.mkdir()
        await asyncio.sleep(2 * LOOK_EVERY_SECONDS)
        stuck.rmdir()

        request_rebuild(copy.slot)

        async with asyncio.timeout(60):
            while (note := read_note(copy.slot)) is None or note.state != "done":
                await asyncio.sleep(0.02)
        assert not follower.is_rebuilding


async def test_starting_over_is_tried_until_it_works_and_leaves_nothing_behind(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, metrics):
        await append(writer, [event()], [])
        await caught_up(follower, copy)
        first = copy._current
        # The new copy can be made, but not be pointed to: the disk is full by then.
        stuck = copy.slot / "current.new"
        stuck.mkdir()
        follower._is_copy_damaged = True
        async with asyncio.timeout(60):
            while rebuilds(metrics).get("damaged", 0) < 2:
                await asyncio.sleep(0.02)
        assert copy._current is first
        stuck.rmdir()
        await append(writer, [event()], [])
        async with asyncio.timeout(60):
            while copy._current is first or await total(copy) != 2:
                await asyncio.sleep(0.02)

        assert not follower._is_copy_damaged
        path = copy._current.path if copy._current else None
    assert list((tmp_path / "0").glob("*.duckdb")) == [path]


async def test_starting_over_takes_no_copy_away_that_is_being_built(tmp_path: Path) -> None:
    with take_slot(tmp_path) as slot:
        async with open_columnar(slot, ledger_id="ours", metrics=Metrics.create()) as copy:
            async with copy.building() as building:
                await copy.start_over()
                assert copy._current is not None
                assert copy._current.path != building.path
                await copy.replace_with(building)

            assert copy._current is building
            assert building.path.exists()
            assert await total(copy) == 0


async def test_following_outlives_a_ledger_that_goes_away(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, database: Database
) -> None:
    async with follow(tmp_path, writer, reader) as (follower, copy, _):
        await append(writer, [event()], [])
        await caught_up(follower, copy)
        connection = await database.connect()
        await connection.execute("alter table ingest_batches rename to away")
        async with asyncio.timeout(60):
            while follower.is_healthy:
                await asyncio.sleep(0.02)
        assert await total(copy) == 1
        await connection.execute("alter table away rename to ingest_batches")
        await connection.close()
        await append(writer, [event()], [])
        async with asyncio.timeout(60):
            while await total(copy) != 2 or not follower.is_healthy:
                await asyncio.sleep(0.02)
