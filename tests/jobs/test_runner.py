import asyncio
import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import structlog

from jobs.runner import open_jobs
from jobs.schedule import Every, Job
from telemetry.logs import bind_correlation_id, current_correlation_id
from tests.jobs.workbench import (
    INSTANT,
    MINUTE,
    NEVER,
    NOW,
    OFTEN,
    Bench,
    fail,
    hang,
    job_of,
    lines,
    note,
    state_of,
    until,
)

log = structlog.get_logger()


async def test_a_job_runs_again_and_again_with_the_resources_and_the_clocks_time(
    bench: Bench,
) -> None:
    async with bench.running(job_of(note, OFTEN)):
        await until(lambda: len(bench.notes) >= 3)
    assert set(bench.notes) == {NOW}
    assert bench.count("tidy_up", "succeeded") == len(bench.notes)


async def test_only_a_job_that_asks_for_it_runs_at_the_start(bench: Bench) -> None:
    async def later(bench: Bench, _now: datetime) -> None:
        bench.notes.append("later")

    async with bench.running(
        Job("at_once", note, NEVER, deadline=MINUTE, at_start=True),
        Job("wait", later, NEVER, deadline=MINUTE),
    ) as runner:
        await until(lambda: bench.count("at_once", "succeeded") == 1)
        assert [one.last_started for one in runner.states()] == [NOW, None]
    assert bench.notes == [NOW]


async def test_a_run_that_outlasts_its_interval_is_not_overlapped(
    bench: Bench, sink: StringIO
) -> None:
    under_way = 0
    may_end = asyncio.Event()

    async def linger(bench: Bench, _now: datetime) -> None:
        nonlocal under_way
        under_way += 1
        bench.notes.append(under_way)
        await may_end.wait()
        under_way -= 1

    async with bench.running(job_of(linger, OFTEN)):
        await until(lambda: bench.count("tidy_up", "overlapped") >= 3)
        assert bench.notes == [1]
        may_end.set()
        await until(lambda: len(bench.notes) >= 3)
    assert set(bench.notes) == {1}
    assert lines(sink, "job.overlapped")


async def test_a_loop_that_was_held_up_gives_one_run_and_not_none_or_many(bench: Bench) -> None:
    async def seldom(bench: Bench, _now: datetime) -> None:
        bench.notes.append("seldom")

    began = time.monotonic()
    async with bench.running(
        Job("often", note, Every(timedelta(milliseconds=50)), deadline=MINUTE),
        # Once due, it comes too late by more than the second that the scheduler allows by itself.
        Job("seldom", seldom, Every(timedelta(seconds=1.5)), deadline=MINUTE),
    ):
        time.sleep(2.6)  # holds up the loop
        held_up_until = time.monotonic()
        await until(lambda: bench.count("often", "succeeded") >= 1)
        await until(lambda: bench.count("seldom", "succeeded") >= 1)
        for _ in range(50):
            await asyncio.sleep(0)
        now = time.monotonic()
        # What has come due since then, and one run for all that came due before.
        assert bench.count("seldom", "succeeded") <= (now - began) / 1.5
        assert bench.count("often", "succeeded") <= 2 + (now - held_up_until) / 0.05


async def test_different_jobs_run_side_by_side(bench: Bench) -> None:
    met = asyncio.Barrier(2)

    async def meet(bench: Bench, _now: datetime) -> None:
        await met.wait()
        bench.notes.append("met")

    async with bench.running(
        Job("one", meet, NEVER, deadline=MINUTE, at_start=True),
        Job("other", meet, NEVER, deadline=MINUTE, at_start=True),
    ):
        await until(lambda: bench.notes == ["met", "met"])


async def test_a_run_is_cut_off_at_its_deadline(bench: Bench, sink: StringIO) -> None:
    async with bench.running(job_of(hang, deadline=INSTANT)) as runner:
        with pytest.raises(TimeoutError):
            await runner.run_now("tidy_up")
        assert bench.notes == ["cut off"]
        assert state_of(runner).last_error == "TimeoutError"
        assert state_of(runner).last_succeeded is None
    assert bench.count("tidy_up", "timed_out") == 1
    assert bench.count("tidy_up", "failed") == 0
    (line,) = lines(sink, "job.timed_out")
    assert (line["level"], line["deadline"]) == ("error", INSTANT.total_seconds())


async def test_a_timeout_inside_of_a_job_is_a_failure_and_not_its_deadline(bench: Bench) -> None:
    async def impatient(_bench: Bench, _now: datetime) -> None:
        raise TimeoutError("a server did not answer")

    async with bench.running(job_of(impatient)) as runner:
        with pytest.raises(TimeoutError, match="a server did not answer"):
            await runner.run_now("tidy_up")
    assert bench.count("tidy_up", "failed") == 1
    assert bench.count("tidy_up", "timed_out") == 0


async def test_a_failure_is_logged_with_its_traceback_and_does_not_stop_the_job(
    bench: Bench, sink: StringIO
) -> None:
    async def fail_once(bench: Bench, now: datetime) -> None:
        bench.notes.append(now)
        if len(bench.notes) == 1:
            _ = 1 / 0

    async with bench.running(job_of(fail_once, OFTEN)) as runner:
        await until(lambda: bench.count("tidy_up", "succeeded") >= 1)
        assert state_of(runner).last_error is None
    assert bench.count("tidy_up", "failed") == 1
    (line,) = lines(sink, "job.failed")
    assert (line["level"], line["job"]) == ("error", "tidy_up")
    assert line["error"] == "ZeroDivisionError"
    assert "ZeroDivisionError: division by zero" in str(line["exception"])


async def test_the_state_tells_the_class_of_the_last_error_until_a_run_goes_well(
    bench: Bench,
) -> None:
    async def fail_unless_told(bench: Bench, _now: datetime) -> None:
        if not bench.notes:
            raise ValueError("secret detail")

    async with bench.running(job_of(fail_unless_told)) as runner:
        assert state_of(runner).last_started is None
        with pytest.raises(ValueError, match="secret detail"):
            await runner.run_now("tidy_up")
        assert state_of(runner).last_error == "ValueError"
        assert state_of(runner).last_started == NOW
        assert state_of(runner).last_succeeded is None
        bench.notes.append("told")
        bench.now = NOW + MINUTE
        await runner.run_now("tidy_up")
        assert state_of(runner).last_error is None
        assert state_of(runner).last_started == NOW + MINUTE
        assert state_of(runner).last_succeeded == NOW + MINUTE
    moment = bench.metrics.registry.get_sample_value(
        "footfall_job_last_success_timestamp_seconds", {"job": "tidy_up"}
    )
    assert moment == (NOW + MINUTE).timestamp()


async def test_states_come_in_the_order_of_the_table_with_the_next_run_in_utc(
    bench: Bench,
) -> None:
    names = ["roll_salts", "expire_events", "add_partitions"]
    opened = datetime.now(UTC)
    async with bench.running(
        *(Job(name, note, NEVER, deadline=MINUTE) for name in names)
    ) as runner:
        states = runner.states()
    assert [state.name for state in states] == names
    for state in states:
        assert state.next_run is not None
        assert state.next_run.utcoffset() == timedelta(0)
        assert state.next_run >= opened + NEVER.interval
    assert [state.next_run for state in runner.states()] == [None, None, None]


async def test_a_process_that_does_not_lead_runs_nothing_until_it_does(bench: Bench) -> None:
    bench.leads = False
    async with bench.running(job_of(note, OFTEN)) as runner:
        await until(lambda: bench.count("tidy_up", "not_leader") >= 3)
        assert bench.notes == []
        assert state_of(runner).last_started is None
        bench.leads = True
        await until(lambda: len(bench.notes) >= 1)


async def test_a_job_that_runs_everywhere_asks_for_no_leader(bench: Bench) -> None:
    bench.leads = False
    async with bench.running(
        Job("everywhere", note, OFTEN, deadline=MINUTE, everywhere=True),
        Job("once", fail, OFTEN, deadline=MINUTE),
    ):
        await until(lambda: len(bench.notes) >= 3)
        await until(lambda: bench.count("once", "not_leader") >= 3)
    assert bench.count("everywhere", "not_leader") == 0
    assert bench.count("once", "failed") == 0


async def test_a_process_that_takes_over_makes_up_for_what_is_done_at_the_start(
    bench: Bench,
) -> None:
    bench.leads = False
    async with bench.running(
        Job("at_start", note, NEVER, deadline=MINUTE, at_start=True),
        Job("everywhere", note, NEVER, deadline=MINUTE, at_start=True, everywhere=True),
        Job("later", fail, NEVER, deadline=MINUTE),
    ) as runner:
        await until(lambda: bench.count("at_start", "not_leader") == 1)
        bench.leads = True
        runner.took_over()
        await until(lambda: bench.count("at_start", "succeeded") == 1)
        await until(lambda: bench.count("everywhere", "succeeded") == 1)
        assert bench.count("later", "failed") == 0
    runner.took_over()
    assert bench.count("at_start", "succeeded") == 1


async def test_a_process_that_cannot_ask_who_leads_runs_nothing(
    bench: Bench, sink: StringIO
) -> None:
    async def unknown() -> bool:
        raise ConnectionError("the database is away")

    async with open_jobs(
        [job_of(note, OFTEN)], bench, clock=bench.clock, metrics=bench.metrics, leader=unknown
    ):
        await until(lambda: bench.count("tidy_up", "not_leader") >= 2)
    assert bench.notes == []
    assert lines(sink, "job.leader.unknown")[0]["error"] == "ConnectionError"


async def test_a_question_for_the_leader_that_hangs_ends_at_the_deadline(bench: Bench) -> None:
    async def silent() -> bool:
        await asyncio.Event().wait()
        return True

    async with open_jobs(
        [job_of(note, OFTEN, deadline=INSTANT)],
        bench,
        clock=bench.clock,
        metrics=bench.metrics,
        leader=silent,
    ):
        await until(lambda: bench.count("tidy_up", "not_leader") >= 2)
    assert bench.notes == []


async def test_run_now_runs_without_being_the_leader_and_returns_when_done(bench: Bench) -> None:
    bench.leads = False
    async with bench.running(job_of(note)) as runner:
        await runner.run_now("tidy_up")
        assert bench.notes == [NOW]


async def test_run_now_waits_for_a_run_under_way_and_then_runs_once_more(bench: Bench) -> None:
    may_end = asyncio.Event()

    async def linger(bench: Bench, _now: datetime) -> None:
        bench.notes.append("begin")
        await may_end.wait()
        bench.notes.append("end")

    async with bench.running(job_of(linger)) as runner:
        first = asyncio.create_task(runner.run_now("tidy_up"))
        await until(lambda: bench.notes == ["begin"])
        second = asyncio.create_task(runner.run_now("tidy_up"))
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(first, second)
    assert bench.notes == ["begin", "end", "begin", "end"]


async def test_run_now_raises_what_the_job_raised(bench: Bench) -> None:
    async with bench.running(job_of(fail)) as runner:
        with pytest.raises(ZeroDivisionError):
            await runner.run_now("tidy_up")


async def test_cancelling_run_now_cancels_the_run(bench: Bench) -> None:
    async with bench.running(job_of(hang)) as runner:
        asking = asyncio.create_task(runner.run_now("tidy_up"))
        await until(lambda: state_of(runner).last_started is not None)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: bench.count("tidy_up", "cancelled") == 1)
    assert bench.notes == ["cut off"]


async def test_an_unknown_job_is_refused_with_the_names_of_the_known_ones(bench: Bench) -> None:
    async with bench.running(job_of(note)) as runner:
        with pytest.raises(LookupError, match=r"^no job 'tidy': there are tidy_up"):
            await runner.run_now("tidy")


async def test_every_run_has_a_correlation_id_of_its_own(bench: Bench, sink: StringIO) -> None:
    async def speak(bench: Bench, _now: datetime) -> None:
        bench.notes.append(current_correlation_id())
        log.info("spoken")

    with bind_correlation_id("0" * 16):
        async with bench.running(job_of(speak)) as runner:
            await runner.run_now("tidy_up")
            await runner.run_now("tidy_up")
        assert current_correlation_id() == "0" * 16
    assert len(set(bench.notes) - {None, "0" * 16}) == 2
    for event in ("spoken", "job.done"):
        written = lines(sink, event)
        assert [line["correlation_id"] for line in written] == bench.notes
        assert {line["job"] for line in written} == {"tidy_up"}


@pytest.mark.parametrize(
    ("slow_after", "level"), [(timedelta(0), "info"), (timedelta(hours=1), "debug")]
)
async def test_a_good_run_leaves_one_line_that_is_loud_only_when_it_was_slow(
    bench: Bench, sink: StringIO, slow_after: timedelta, level: str
) -> None:
    async with bench.running(job_of(note, slow_after=slow_after)) as runner:
        await runner.run_now("tidy_up")
    (line,) = lines(sink, "job.done")
    assert line["level"] == level
    name = "footfall_job_run_duration_seconds_count"
    assert bench.metrics.registry.get_sample_value(name, {"job": "tidy_up"}) == 1


async def test_every_outcome_of_every_job_is_counted_from_zero(bench: Bench) -> None:
    async with bench.running(job_of(note)):
        body, _ = bench.metrics.render()
    assert b'footfall_job_runs_total{job="tidy_up",outcome="failed"} 0.0' in body


async def test_two_jobs_of_one_name_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="two jobs share a name"):
        async with bench.running(job_of(note), job_of(fail)):
            pytest.fail("opened")
