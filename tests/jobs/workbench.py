"""What the tests of the runner share: resources for jobs, a few jobs, and a way to wait."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO

from jobs.runner import JobRunner, JobState, open_jobs
from jobs.schedule import Cron, Every, Job
from telemetry.metrics import JobOutcome, Metrics

NOW = datetime(2024, 2, 29, 23, 59, tzinfo=UTC)
OFTEN = Every(timedelta(milliseconds=10))
NEVER = Every(timedelta(days=300))
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(milliseconds=20)


@dataclass
class Bench:
    """What jobs write to, and all else that a runner needs."""

    notes: list[object] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics.create)
    now: datetime = NOW
    leads: bool = True

    def clock(self) -> datetime:
        return self.now

    async def leader(self) -> bool:
        return self.leads

    @asynccontextmanager
    async def running(self, *jobs: Job["Bench"]) -> AsyncIterator[JobRunner["Bench"]]:
        async with open_jobs(
            jobs, self, clock=self.clock, metrics=self.metrics, leader=self.leader
        ) as runner:
            yield runner

    def count(self, job: str, outcome: JobOutcome) -> float:
        labels = {"job": job, "outcome": outcome}
        return self.metrics.registry.get_sample_value("footfall_job_runs_total", labels) or 0.0


Run = Callable[[Bench, datetime], Awaitable[None]]


def job_of(
    run: Run,
    trigger: Every | Cron = NEVER,
    *,
    deadline: timedelta = MINUTE,
    grace: timedelta = MINUTE,
    slow_after: timedelta = MINUTE,
) -> Job[Bench]:
    return Job("tidy_up", run, trigger, deadline=deadline, grace=grace, slow_after=slow_after)


async def until(claim: Callable[[], bool]) -> None:
    """Returns when the claim holds; the limit is there for what will never happen."""
    async with asyncio.timeout(60):
        while not claim():
            await asyncio.sleep(0.005)


async def note(bench: Bench, now: datetime) -> None:
    bench.notes.append(now)


async def fail(_bench: Bench, _now: datetime) -> None:
    _ = 1 / 0


async def hang(bench: Bench, _now: datetime) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        bench.notes.append("cut off")


def state_of(runner: JobRunner[Bench]) -> JobState:
    (state,) = runner.states()
    return state


def lines(sink: StringIO, event: str) -> list[dict[str, object]]:
    written = [json.loads(line) for line in sink.getvalue().splitlines()]
    return [line for line in written if line["event"] == event]
