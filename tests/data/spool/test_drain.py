"""Draining: everything acknowledged reaches the ledger once, whatever is cut off, away or broken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from data.events import Event, Rejection
from data.postgres.append import Append, Appended, append, make_partitions_ahead
from data.postgres.engine import LedgerUnavailable
from data.postgres.lookout import Lookout, LookoutPace, looking_out
from data.slots import locked
from data.spool.drain import Drain, DrainPace, draining
from data.spool.records import HEAD_BYTES
from data.spool.segments import segments_in
from data.spool.store import Spool
from telemetry.metrics import Metrics
from tests.data.spool.spooling import NOW, event, ids, rejection, spool_in
from tests.fixtures.ledger import Database

QUICK = DrainPace(
    batch_events=10,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.05,
    look_seconds=0.05,
    farewell_seconds=20,
)


@dataclass(slots=True)
class Course:
    """What an append of the test saw and is to do, around the real one."""

    engine: AsyncEngine
    metrics: Metrics = field(default_factory=Metrics.create)
    order: list[UUID] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    failures: int = 0
    cut_after: int | None = None

    async def append(self, events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("away")
        answer = await append(self.engine, events, rejections)
        self.order += ids(events)
        if self.cut_after is not None and len(self.order) >= self.cut_after:
            # The commit went through, and nobody heard of it.
            await asyncio.Event().wait()
        return answer

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "footfall_spool_events_total", {"outcome": outcome}
        )


@asynccontextmanager
async def drained(
    course: Course, spool: Spool, append_: Append | None = None
) -> AsyncIterator[None]:
    """A drain at work on a spool; on leaving it has done what it can."""
    await make_partitions_ahead(course.engine, NOW)
    lookout = Lookout(course.engine, course.metrics.ledger, LookoutPace(look_seconds=0.02))
    drain = Drain(
        spool, lookout.bounded(append_ or course.append), lookout, course.positions.append, QUICK
    )
    async with looking_out(lookout), draining(drain):
        yield


async def until_empty(spool: Spool) -> None:
    async with asyncio.timeout(60):
        while segments_in(spool.folder):
            await asyncio.sleep(0.01)


async def stored(database: Database) -> list[UUID]:
    """The ids in the ledger, in order of arrival."""
    connection = await database.connect()
    rows = await connection.fetch(
        "select event_id from events join ingest_batches using (batch_id) order by position, ordinal"
    )
    await connection.close()
    return [row[0] for row in rows]


async def test_what_was_spooled_is_committed_in_order_and_the_segments_go(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, sent = Course(writer), [event(url="/" + "x" * 200) for _ in range(95)]
    async with spool_in(tmp_path, metrics=course.metrics) as spool:
        for one in sent:
            await spool.submit([one], [rejection()], 10)
        assert len(segments_in(spool.folder)) > 3
        async with drained(course, spool):
            await until_empty(spool)
            # New ones while it runs are drained as well.
            late = event()
            await spool.submit([late], [], 10)
            await until_empty(spool)

        assert await stored(database) == ids([*sent, late])
        assert spool.held_bytes == 0
        assert list(spool.folder.glob("*.place")) == []
        assert (course.count("spooled"), course.count("committed")) == (96, 96)
        assert course.positions == sorted(course.positions)
        connection = await database.connect()
        assert await connection.fetchval("select count(*) from rejected_events") == 95
        await connection.close()


async def test_a_ledger_that_comes_and_goes_has_every_event_once(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, sent = Course(writer, failures=5), [event() for _ in range(50)]
    async with spool_in(tmp_path, metrics=course.metrics) as spool:
        await spool.submit(sent, [], 10)
        async with drained(course, spool):
            await until_empty(spool)

    assert sorted(await stored(database)) == sorted(ids(sent))
    assert course.count("duplicate") == 0


async def test_a_drain_that_is_cut_off_after_a_commit_counts_nothing_twice(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    sent = [event() for _ in range(50)]
    course = Course(writer)
    async with spool_in(tmp_path, metrics=course.metrics) as spool:
        for one in sent:
            await spool.submit([one], [], 10)
    cut = Course(writer, cut_after=25)
    await make_partitions_ahead(writer, NOW)
    async with spool_in(tmp_path) as spool:
        lookout = Lookout(writer, cut.metrics.ledger)
        running = asyncio.create_task(
            Drain(spool, cut.append, lookout, cut.positions.append, QUICK).drain()
        )
        async with asyncio.timeout(60):
            while len(cut.order) < 25:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert segments_in(spool.folder) != []

    async with spool_in(tmp_path, metrics=course.metrics) as spool, drained(course, spool):
        await until_empty(spool)

    assert await stored(database) == ids(sent)
    # It went on where it was, but for the batch of which nobody heard.
    assert course.order == ids(sent)[-len(course.order) :]
    assert course.count("duplicate") == len(course.order) + len(cut.order) - len(sent)
    assert 0 < len(course.order) + len(cut.order) - len(sent) <= QUICK.batch_events


async def test_what_the_ledger_refuses_is_set_aside_alone_and_jams_nothing(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course = Course(writer)
    # No way in lets a NUL through; if one ever did, it would be this event's loss alone.
    bad = [event(user_id="a\0b"), event(url="/\0")]
    good = [event() for _ in range(30)]
    async with spool_in(tmp_path, metrics=course.metrics) as spool:
        await spool.submit([*good[:7], bad[0], *good[7:12]], [], 10)
        await spool.submit([bad[1]], [rejection()], 10)
        await spool.submit(good[12:], [], 10)
        async with drained(course, spool):
            await until_empty(spool)
        lines = (spool.folder / "refused.jsonl").read_bytes().splitlines()

    assert await stored(database) == ids(good)
    kept = [msgspec.json.decode(line) for line in lines]
    assert [UUID(one["event"]["event_id"]) for one in kept] == ids(bad)
    assert kept[0]["event"]["user_id"] == "a\0b"
    assert "Character" in kept[0]["reason"]
    assert course.count("refused") == 2


async def test_a_damaged_record_is_kept_aside_and_the_others_are_committed(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, sent = Course(writer), [event() for _ in range(9)]
    async with spool_in(tmp_path) as spool:
        for one in sent:
            await spool.submit([one], [], 10)
    [segment] = segments_in(spool.folder)
    content = bytearray(segment.read_bytes())
    size = (len(content) - HEAD_BYTES) // 9
    content[HEAD_BYTES + 4 * size + 40] ^= 0xFF
    segment.write_bytes(content)

    async with spool_in(tmp_path, metrics=course.metrics) as spool, drained(course, spool):
        await until_empty(spool)

    assert await stored(database) == ids([*sent[:4], *sent[5:]])
    damaged = (spool.folder / segment.name).with_suffix(".damaged").read_bytes()
    assert damaged == content[HEAD_BYTES + 4 * size : HEAD_BYTES + 5 * size]
    counted = course.metrics.registry.get_sample_value("footfall_spool_damaged_bytes_total")
    assert counted == len(damaged)


async def test_a_file_that_is_no_segment_is_kept_aside_whole(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, sent = Course(writer), event()
    async with spool_in(tmp_path) as spool:
        await spool.submit([sent], [], 10)
    odd = spool.folder / "000000000000.segment"
    odd.write_bytes(b"what is this?")
    (spool.folder / "000000000009.segment").write_bytes(b"")

    async with spool_in(tmp_path, metrics=course.metrics) as spool, drained(course, spool):
        await until_empty(spool)

    assert await stored(database) == [sent.event_id]
    assert odd.with_suffix(".damaged").read_bytes() == b"what is this?"


async def test_a_segment_that_the_disk_does_not_give_holds_nothing_else_up(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, own = Course(writer), event()
    sent = [event(url="/" + "x" * 4_096) for _ in range(4)]
    async with spool_in(tmp_path) as spool, spool_in(tmp_path) as dying:
        for one in sent:
            await dying.submit([one], [], 10)
        await spool.submit([own], [], 10)
    lost = segments_in(dying.folder)[1]
    kept = lost.rename(tmp_path / "kept")
    # The nearest to a bad disk that a test can make: it is there, and cannot be read.
    lost.mkdir()

    with capture_logs() as logs:
        async with spool_in(tmp_path, metrics=course.metrics) as spool, drained(course, spool):
            async with asyncio.timeout(60):
                while segments_in(dying.folder) != [lost]:
                    await asyncio.sleep(0.01)
            others = await stored(database)
            # Some more rounds, with work of its own.
            late = event()
            await spool.submit([late], [], 10)
            await until_empty(spool)
            await asyncio.sleep(0.3)
            lost.rename(tmp_path / "broken")
            kept.rename(lost)
            await until_empty(dying)

    assert others == ids([own, sent[0], *sent[2:]])
    assert await stored(database) == ids([own, sent[0], *sent[2:], late, sent[1]])
    told = [
        entry
        for entry in logs
        if entry["event"].startswith("spool.") and "drained" not in entry["event"]
    ]
    assert [(entry["event"], entry.get("place")) for entry in told] == [
        ("spool.folder.adopted", None),
        ("spool.drain.failed", str(lost)),
    ]


async def test_what_is_kept_aside_is_never_written_over(
    tmp_path: Path, writer: AsyncEngine
) -> None:
    course = Course(writer)
    async with spool_in(tmp_path) as spool:
        pass
    odd = spool.folder / "000000000001.segment"
    odd.write_bytes(b"what is this?")
    odd.with_suffix(".damaged").write_bytes(b"from before; ")

    async with spool_in(tmp_path, metrics=course.metrics) as spool, drained(course, spool):
        await until_empty(spool)

    assert odd.with_suffix(".damaged").read_bytes() == b"from before; what is this?"


async def test_what_a_process_left_that_never_came_back_is_drained_by_another(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, left, own, held = Course(writer), event(), event(), event()
    async with spool_in(tmp_path) as spool, spool_in(tmp_path) as others:
        async with spool_in(tmp_path) as living:
            await living.submit([held], [], 10)
            async with spool_in(tmp_path) as dying:
                await dying.submit([left], [], 10)
            await spool.submit([own], [], 10)
            async with drained(course, spool):
                await until_empty(spool)
                await until_empty(dying)
                # That of a process that is there is its own affair.
                assert await stored(database) == ids([own, left])
                assert len(segments_in(living.folder)) == 1
        assert others.folder != spool.folder
        async with drained(course, spool):
            await until_empty(living)
        with locked(living.folder) as is_free:
            assert is_free

    assert await stored(database) == ids([own, left, held])


async def test_a_ledger_that_answers_and_takes_nothing_is_tried_until_it_does(
    tmp_path: Path, writer: AsyncEngine, database: Database
) -> None:
    course, sent = Course(writer), [event() for _ in range(5)]
    admin = await database.connect()
    async with (
        spool_in(tmp_path, metrics=course.metrics) as spool,
        drained(course, spool, partial(append, writer)),
    ):
        await admin.execute("alter table event_ids rename to away")
        await spool.submit(sent, [], 10)
        await asyncio.sleep(0.3)
        assert len(segments_in(spool.folder)) == 1
        await admin.execute("alter table away rename to event_ids")
        await until_empty(spool)
    await admin.close()
    assert sorted(await stored(database)) == sorted(ids(sent))
