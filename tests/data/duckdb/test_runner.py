"""Calls in threads: cancelled, failed, interrupted by a full disk; the store goes on."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import duckdb
import pytest
from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.copy_file import CopyFile
from data.duckdb.runner import OnQuery, QueryOutcome, Runner
from data.duckdb.store import DuckDBStore, open_copy
from data.event_store import StoreUnavailable
from data.queries import EventCountsQuery
from tests.data.duckdb.examples import LEDGER, Feed, make_event, scope

FOR_HOURS = "select count(*) from range(10_000_000) as a, range(10_000_000) as b where a < b"


@asynccontextmanager
async def running(path: Path, on_query: OnQuery | None = None) -> AsyncIterator[Runner]:
    file = CopyFile(path, LEDGER, "100MB", 2)
    runner = Runner(file, file.connect(), on_query)
    try:
        yield runner
    finally:
        await runner.close()


def one(cursor: Cursor) -> list[tuple[int]]:
    return cursor.execute("select 1").fetchall()


class Slow:
    """Work that takes for ever, and tells when it has begun."""

    def __init__(self, *before: str) -> None:
        self.before = before
        self.begun = threading.Event()

    def __call__(self, cursor: Cursor) -> None:
        for statement in self.before:
            cursor.execute(statement)
        self.begun.set()
        cursor.execute(FOR_HOURS)

    async def cancelled_in(self, runner: Runner, mode: str) -> None:
        """Run it, and stop waiting for it."""
        task = asyncio.create_task(runner.run("slow", mode, self))  # type: ignore[arg-type]
        await asyncio.to_thread(self.begun.wait)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_question_that_nobody_waits_for_is_interrupted(path: Path) -> None:
    async with running(path) as runner:
        # More than there are threads: each of them is free again when the waiting is over.
        for _ in range(6):
            await Slow().cancelled_in(runner, "read")

        assert await runner.run("one", "read", one) == [(1,)]


async def test_a_question_that_waits_for_a_thread_is_dropped(path: Path) -> None:
    async with running(path) as runner:
        slow = [Slow() for _ in range(8)]
        tasks = [asyncio.create_task(runner.run("slow", "read", work)) for work in slow]
        for work in slow[:4]:
            await asyncio.to_thread(work.begun.wait)
        for task in tasks:
            task.cancel()

        await asyncio.gather(*tasks, return_exceptions=True)

        assert all(task.cancelled() for task in tasks)
        assert not any(work.begun.is_set() for work in slow[4:])


async def test_what_was_written_by_an_interrupted_call_is_undone(path: Path) -> None:
    async with running(path) as runner:
        await Slow("update copy_state set position = 5").cancelled_in(runner, "write")

        def position(cursor: Cursor) -> object:
            return cursor.execute("select position from copy_state").fetchall()

        assert await runner.run("position", "read", position) == [(None,)]
        assert await runner.run("position", "write", position) == [(None,)]


async def test_a_deadline_interrupts(path: Path) -> None:
    async with running(path) as runner:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await runner.run("slow", "read", Slow())


async def test_reports_answer_while_something_is_written(path: Path) -> None:
    async with running(path) as runner:
        slow = Slow()
        task = asyncio.create_task(runner.run("slow", "write", slow))
        await asyncio.to_thread(slow.begun.wait)

        assert await runner.run("one", "read", one) == [(1,)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "statement",
    [
        "select",
        "select * from nothing",
        "select 'x'::integer",
        "select error('of its own')",
        "select list(a) from range(1_000_000_000) as r(a)",  # more than the memory limit
        "update copy_state set position = 1",  # by a call that may only read
    ],
)
async def test_an_error_of_the_driver_stays_inside(path: Path, statement: str) -> None:
    async with running(path) as runner:
        with pytest.raises(StoreUnavailable) as failure:
            await runner.run("wrong", "read", lambda cursor: cursor.execute(statement))

        assert str(failure.value)
        assert not failure.value.damaged
        assert isinstance(failure.value.__cause__, duckdb.Error)
        assert await runner.run("one", "read", one) == [(1,)]


async def test_every_call_is_heard_of(path: Path) -> None:
    heard: list[tuple[str, QueryOutcome]] = []

    def on_query(name: str, seconds: float, outcome: QueryOutcome) -> None:
        assert seconds > 0
        heard.append((name, outcome))

    async with running(path, on_query) as runner:
        await runner.run("one", "read", one)
        with pytest.raises(StoreUnavailable):
            await runner.run("wrong", "read", lambda cursor: cursor.execute("select"))
        # Not the store's fault, so no failure.
        await Slow().cancelled_in(runner, "read")

    assert heard == [("one", "answered"), ("wrong", "failed"), ("slow", "interrupted")]


async def test_the_store_names_its_calls(path: Path, tmp_path: Path) -> None:
    heard = []
    async with open_copy(
        path, ledger_id=LEDGER, on_query=lambda name, *_: heard.append(name)
    ) as store:
        await Feed(store, tmp_path)(make_event(1))
        await store.active_users([])
        await store.top_events([])
        await store.event_counts([])
        await store.retention([])
        await store.events([])
        await store.check_pattern("a")
        await store.watermark()

    assert heard == [
        "apply",
        "active_users",
        "top_events",
        "event_counts",
        "retention",
        "events",
        "check_pattern",
        "watermark",
    ]


async def test_closing_waits_for_questions_and_takes_no_more(path: Path) -> None:
    go_on = threading.Event()

    def wait_and_count(cursor: Cursor) -> list[tuple[int]]:
        go_on.wait()
        return cursor.execute("select count(*) from events").fetchall()

    async with running(path) as runner:
        asked = asyncio.create_task(runner.run("count", "read", wait_and_count))
        await asyncio.sleep(0)
        closing = asyncio.create_task(runner.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await runner.run("one", "read", one)
        go_on.set()

        assert await asked == [(0,)]
        await closing


async def test_a_closed_store_says_so(path: Path) -> None:
    async with open_copy(path, ledger_id=LEDGER) as store:
        pass

    with pytest.raises(StoreUnavailable, match="closed"):
        await store.watermark()


async def test_an_answer_and_its_watermark_are_of_one_moment(
    store: DuckDBStore, feed: Feed
) -> None:
    question = EventCountsQuery(scope("2024-03-04", "2024-03-04"))

    async def write() -> None:
        for number in range(1, 61):
            await feed(make_event(number))

    writing = asyncio.create_task(write())
    positions = []
    while not writing.done():
        answer = await store.event_counts([question])
        positions.append(answer.watermark.position if answer.watermark else 0)
        # Each slice brought one event.
        assert answer.rows[0].total == positions[-1]

    assert len(set(positions)) > 1
    assert positions == sorted(positions)


# Fills the disk, as far as this process may write, in the middle of following; then makes room.
FILL_THE_DISK = f"""
import asyncio, resource, signal, sys
from base64 import b64encode
from random import Random
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from data.duckdb.store import open_copy
from data.event_store import StoreUnavailable
from data.events import Event
from data.queries import EventsQuery, Watermark
from tests.data.duckdb.examples import Feed, UTC_ZONE, make_event

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
forever = resource.RLIM_INFINITY

def text(seed):
    return b64encode(Random(seed).randbytes(300)).decode()

async def main(path):
    failures = 0
    async with open_copy(path, ledger_id="{LEDGER}") as store:
        feed = Feed(store, path.parent)
        applied = 0
        # First a checkpoint fails, then also the log cannot grow; at last there is room again.
        for room, slices in ((18_500_000, 20), (forever, 3)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, forever))
            for _ in range(slices):
                first = feed.position * 5_000
                events = [make_event(first + n, url=text(first + n)) for n in range(5_000)]
                try:
                    await feed(*events)
                    applied += 5_000
                except (StoreUnavailable, OSError) as error:
                    assert not getattr(error, "damaged", False), error
                    print(error)
                    failures += 1
                    feed.position -= 1
        query = EventsQuery("site", UTC_ZONE, first=1_000_000)
        answer = await store.events([query])
        assert answer.watermark.position == feed.position, answer.watermark
        assert len({{event.event_id for event in answer.rows[0]}}) == applied, applied
    print("failures", failures)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_after_a_full_disk_the_store_goes_on(path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )

    assert outcome.returncode == 0, outcome.stderr
    assert int(outcome.stdout.split()[-1]) > 0
    assert "opened anew" in outcome.stdout
