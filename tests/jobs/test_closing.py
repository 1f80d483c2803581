import asyncio
from datetime import datetime
from io import StringIO

import pytest

from tests.jobs.workbench import (
    INSTANT,
    MINUTE,
    OFTEN,
    Bench,
    hang,
    job_of,
    lines,
    note,
    state_of,
    until,
)


async def test_nothing_runs_after_closing(bench: Bench) -> None:
    async with bench.running(job_of(note, OFTEN)) as runner:
        await until(lambda: len(bench.notes) >= 1)
    ran = len(bench.notes)
    assert not runner._scheduler.running
    with pytest.raises(RuntimeError, match="the job runner is closed"):
        await runner.run_now("tidy_up")
    await asyncio.sleep(0.1)
    assert len(bench.notes) == ran


async def test_closing_waits_for_a_run_under_way(bench: Bench) -> None:
    async def take_its_time(bench: Bench, _now: datetime) -> None:
        bench.notes.append("begin")
        await asyncio.sleep(0.2)
        bench.notes.append("end")

    async with bench.running(job_of(take_its_time, OFTEN, grace=MINUTE)):
        await until(lambda: bench.notes == ["begin"])
    assert bench.notes == ["begin", "end"]
    assert bench.count("tidy_up", "succeeded") == 1


async def test_closing_cancels_a_run_that_outlasts_its_grace(bench: Bench, sink: StringIO) -> None:
    async with bench.running(job_of(hang, OFTEN, grace=INSTANT)) as runner:
        await until(lambda: state_of(runner).last_started is not None)
    assert bench.notes == ["cut off"]
    assert bench.count("tidy_up", "cancelled") == 1
    assert state_of(runner).last_error == "CancelledError"
    assert lines(sink, "job.cancelled")[0]["level"] == "warning"


async def test_closing_gives_up_on_a_run_that_ignores_its_cancellation(
    bench: Bench, sink: StringIO
) -> None:
    may_end = asyncio.Event()

    async def stubborn(bench: Bench, _now: datetime) -> None:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                bench.notes.append("ignored")

    async with bench.running(job_of(stubborn, OFTEN, grace=INSTANT)) as runner:
        await until(lambda: state_of(runner).last_started is not None)
    assert bench.notes == ["ignored"]
    assert lines(sink, "job.abandoned")[0]["job"] == "tidy_up"
    may_end.set()
    await until(lambda: bench.count("tidy_up", "succeeded") == 1)


async def test_a_run_that_waits_for_its_turn_does_not_begin_once_closing_has(
    bench: Bench,
) -> None:
    async def begin(bench: Bench, _now: datetime) -> None:
        bench.notes.append("begin")
        await asyncio.sleep(0.2)

    async with bench.running(job_of(begin)) as runner:
        first = asyncio.create_task(runner.run_now("tidy_up"))
        await until(lambda: bench.notes == ["begin"])
        second = asyncio.create_task(runner.run_now("tidy_up"))
        await asyncio.sleep(0)
    await first
    with pytest.raises(RuntimeError, match="the job runner is closed"):
        await second
    assert bench.notes == ["begin"]


async def test_an_error_inside_of_the_block_closes_the_runner_and_goes_on(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError):
        async with bench.running(job_of(note, OFTEN)) as runner:
            _ = 1 / 0
    with pytest.raises(RuntimeError, match="closed"):
        await runner.run_now("tidy_up")
