"""Runs the jobs of a table when they are due: one at a time each, timed, counted and logged.

APScheduler decides when; everything else about a run is decided here. When a job is due is measured
by the machine's clock, in UTC; what the job takes for `now` comes from the clock that is passed in.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Generic, get_args

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from structlog.contextvars import bound_contextvars
from structlog.typing import FilteringBoundLogger

from jobs.schedule import Job, ResourcesT, trigger_of
from telemetry.logs import bind_correlation_id, new_correlation_id
from telemetry.metrics import JobOutcome, Metrics

_CANCEL_SECONDS = 1.0

log: FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job fares in this process.

    Times are UTC. `last_error` is the name of an exception's class; None when the last run that
    ended went well, or none has ended.
    """

    name: str
    last_started: datetime | None
    last_succeeded: datetime | None
    last_error: str | None
    next_run: datetime | None


@dataclass(slots=True)
class _Entry(Generic[ResourcesT]):
    job: Job[ResourcesT]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_started: datetime | None = None
    last_succeeded: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class _Surroundings(Generic[ResourcesT]):
    resources: ResourcesT
    clock: Callable[[], datetime]
    metrics: Metrics
    leader: Callable[[], Awaitable[bool]]


class JobRunner(Generic[ResourcesT]):
    """The running table: ask it for states, or have a job run at once. Made by `open_jobs`."""

    def __init__(
        self, jobs: Sequence[Job[ResourcesT]], surroundings: _Surroundings[ResourcesT]
    ) -> None:
        self._around = surroundings
        self._entries = {job.name: _Entry(job) for job in jobs}
        if len(self._entries) != len(jobs):
            raise ValueError("two jobs share a name: every job of a table needs its own")
        self._tasks: dict[asyncio.Task[None], Job[ResourcesT]] = {}
        self._is_closed = False
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def states(self) -> list[JobState]:
        """One state per job, in the order of the table."""
        return [self._state(entry) for entry in self._entries.values()]

    async def run_now(self, name: str) -> None:
        """Returns when one more run of the job has ended; it starts after one under way.

        Asks for no leadership: whoever calls has decided. Raises what the job raised,
        TimeoutError past its deadline, LookupError for an unknown name, RuntimeError after closing.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise LookupError(f"no job {name!r}: there are {', '.join(self._entries)}")
        self._require_open(entry.job)
        await self._begin(entry.job, self._run_in_turn(entry))

    def _require_open(self, job: Job[ResourcesT]) -> None:
        if self._is_closed:
            raise RuntimeError(f"job {job.name!r} cannot run: the job runner is closed")

    def _state(self, entry: _Entry[ResourcesT]) -> JobState:
        scheduled = None if self._is_closed else self._scheduler.get_job(entry.job.name)
        return JobState(
            name=entry.job.name,
            last_started=entry.last_started,
            last_succeeded=entry.last_succeeded,
            last_error=entry.last_error,
            next_run=None if scheduled is None else scheduled.next_run_time,
        )

    def start(self) -> None:
        """Schedules every job and begins the runs that are due at the start."""
        for entry in self._entries.values():
            for outcome in get_args(JobOutcome):
                # A series that exists from the start shows its first failure as an increase.
                self._around.metrics.job.of(entry.job.name, outcome)
            self._scheduler.add_job(
                self._tick,
                trigger_of(entry.job.trigger),
                args=[entry],
                id=entry.job.name,
                # A loop that was held up, or a laptop that slept, gets one run and not none or ten.
                coalesce=True,
                misfire_grace_time=None,
            )
        self._scheduler.start()
        for entry in self._entries.values():
            if entry.job.at_start:
                _ = self._begin(entry.job, self._run_if_leader(entry))

    def took_over(self) -> None:
        """Makes up, in a process that begins to lead, for what fell due while nobody did."""
        if self._is_closed:
            return
        for entry in self._entries.values():
            if entry.job.at_start and not entry.job.everywhere and not entry.turn.locked():
                _ = self._begin(entry.job, self._run_if_leader(entry))

    async def close(self) -> None:
        """Begins no more runs, and returns when those under way have ended or were cancelled."""
        self._is_closed = True
        self._scheduler.shutdown(wait=False)
        # The scheduler stops itself in a callback of the loop.
        await asyncio.sleep(0)
        await asyncio.gather(*(self._end(task, job) for task, job in list(self._tasks.items())))

    async def _end(self, task: asyncio.Task[None], job: Job[ResourcesT]) -> None:
        await asyncio.wait([task], timeout=job.grace.total_seconds())
        if task.done():
            return
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)
        if not task.done():
            log.error("job.abandoned", job=job.name, hint="it ignores its cancellation")

    async def _tick(self, entry: _Entry[ResourcesT]) -> None:
        """Only begins a run: APScheduler cancels what it awaits the moment it is shut down."""
        if self._is_closed:
            return
        if entry.turn.locked():
            self._count(entry.job, "overlapped")
            log.warning("job.overlapped", job=entry.job.name)
            return
        _ = self._begin(entry.job, self._run_if_leader(entry))

    def _begin(self, job: Job[ResourcesT], work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"job {job.name}")
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)
        return task

    async def _run_if_leader(self, entry: _Entry[ResourcesT]) -> None:
        async with entry.turn:
            if not await self._is_leader(entry.job):
                self._count(entry.job, "not_leader")
                return
            # The run has logged, counted and remembered its error; the next one is due anyway.
            with suppress(Exception):
                await self._run(entry)

    async def _run_in_turn(self, entry: _Entry[ResourcesT]) -> None:
        async with entry.turn:
            await self._run(entry)

    async def _is_leader(self, job: Job[ResourcesT]) -> bool:
        if job.everywhere:
            return True
        try:
            async with asyncio.timeout(job.deadline.total_seconds()):
                return await self._around.leader()
        except Exception as error:  # noqa: BLE001 - whatever it was, we cannot say that we lead
            log.warning("job.leader.unknown", job=job.name, error=type(error).__name__)
            return False

    async def _run(self, entry: _Entry[ResourcesT]) -> None:
        # Closing may have come while the run waited for its turn or for the leader's answer.
        self._require_open(entry.job)
        now = entry.last_started = self._around.clock()
        began = perf_counter()
        outcome: JobOutcome = "cancelled"
        error: BaseException | None = asyncio.CancelledError()
        with bind_correlation_id(new_correlation_id()), bound_contextvars(job=entry.job.name):
            try:
                outcome, error = await _attempt(entry.job, self._around.resources, now)
            finally:
                self._record(entry, outcome, error)
                seconds = perf_counter() - began
                self._around.metrics.job.run_seconds.labels(entry.job.name).observe(seconds)
                _tell(entry.job, outcome, error, seconds)
        if error is not None:
            raise error

    def _record(
        self, entry: _Entry[ResourcesT], outcome: JobOutcome, error: BaseException | None
    ) -> None:
        self._count(entry.job, outcome)
        entry.last_error = None if error is None else type(error).__name__
        if error is None:
            entry.last_succeeded = self._around.clock()
            moment = entry.last_succeeded.timestamp()
            self._around.metrics.job.last_success.labels(entry.job.name).set(moment)

    def _count(self, job: Job[ResourcesT], outcome: JobOutcome) -> None:
        self._around.metrics.job.of(job.name, outcome).inc()


async def _attempt(
    job: Job[ResourcesT], resources: ResourcesT, now: datetime
) -> tuple[JobOutcome, Exception | None]:
    """How the run went; only a cancellation from outside leaves as an exception."""
    limit = asyncio.timeout(job.deadline.total_seconds())
    try:
        async with limit:
            await job.run(resources, now)
    except Exception as error:  # noqa: BLE001 - a job may fail in any way, the others go on
        # A job may well raise a TimeoutError of its own, long before its deadline.
        is_late = isinstance(error, TimeoutError) and limit.expired()
        return ("timed_out" if is_late else "failed"), error
    return "succeeded", None


def _tell(
    job: Job[ResourcesT], outcome: JobOutcome, error: BaseException | None, seconds: float
) -> None:
    """One line per run: quiet when all is well, with a traceback when the job failed."""
    took = round(seconds, 3)
    if outcome == "succeeded":
        write = log.info if seconds > job.slow_after.total_seconds() else log.debug
        write("job.done", seconds=took)
    elif outcome == "failed":
        log.error("job.failed", seconds=took, error=type(error).__name__, exc_info=error)
    elif outcome == "timed_out":
        log.error("job.timed_out", seconds=took, deadline=job.deadline.total_seconds())
    else:
        log.warning("job.cancelled", seconds=took)


@asynccontextmanager
async def open_jobs(
    jobs: Sequence[Job[ResourcesT]],
    resources: ResourcesT,
    *,
    clock: Callable[[], datetime],
    metrics: Metrics,
    leader: Callable[[], Awaitable[bool]],
) -> AsyncIterator[JobRunner[ResourcesT]]:
    """The jobs run by themselves inside, whenever `leader` says that this process leads.

    `clock` tells the time in UTC. Raises ValueError when two jobs share a name. Leaving waits for
    the runs under way, each up to its grace, then cancels them.
    """
    runner = JobRunner(jobs, _Surroundings(resources, clock, metrics, leader))
    runner.start()
    try:
        yield runner
    finally:
        await runner.close()
