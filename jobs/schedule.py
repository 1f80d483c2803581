"""What a row of the job table says: a job, when it is due, and how long it may take."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

ResourcesT = TypeVar("ResourcesT")

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_JITTER_SHARE = 0.05
_JITTER_LIMIT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, `interval` apart; first one interval after the start."""

    interval: timedelta

    def __post_init__(self) -> None:
        if self.interval <= timedelta(0):
            raise ValueError(f"interval {self.interval} must be longer than nothing")


@dataclass(frozen=True, slots=True)
class Cron:
    """When the five fields of a crontab line match, in UTC: minute hour day month weekday."""

    expression: str

    def __post_init__(self) -> None:
        fields = self.expression.split()
        # The scheduler counts weekdays from Monday, crontab from Sunday: a digit would be right
        # for one reader and a day off for the other.
        if len(fields) == 5 and re.search(r"\d", fields[4]):
            raise ValueError(f"cron {self.expression!r}: name the weekday (mon, tue-fri, *)")
        try:
            CronTrigger.from_crontab(self.expression, timezone=UTC)
        except ValueError as error:
            raise ValueError(f"cron {self.expression!r} is not a schedule: {error}") from error


@dataclass(frozen=True, slots=True)
class Job(Generic[ResourcesT]):
    """One row of the job table. `run` gets the resources and the time of its start (UTC).

    A run is cancelled after `deadline`. `at_start` adds a run right after opening, and whenever the
    process begins to lead. Closing waits
    for `grace` before it cancels a run. Runs longer than `slow_after` get a line at info level.
    What a job hands to a thread goes on after a cancellation: keep such work shorter than that.
    A job runs in the process that leads and nowhere else, unless it is to run `everywhere`. A
    process that was frozen in the middle of a run goes on with it beside its successor: what a job
    does must do no harm when it is done twice.
    """

    name: str
    run: Callable[[ResourcesT, datetime], Awaitable[None]]
    trigger: Every | Cron
    deadline: timedelta
    at_start: bool = False
    grace: timedelta = timedelta(seconds=10)
    slow_after: timedelta = timedelta(seconds=5)
    everywhere: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"job name {self.name!r} must be a verb phrase in snake_case")
        if self.deadline <= timedelta(0):
            raise ValueError(f"deadline of job {self.name!r} must be longer than nothing")


def trigger_of(schedule: Every | Cron) -> BaseTrigger:
    """The scheduler's form of a schedule, a little late at random: not all work at full minutes."""
    if isinstance(schedule, Cron):
        trigger = CronTrigger.from_crontab(schedule.expression, timezone=UTC)
        trigger.jitter = _JITTER_LIMIT.total_seconds()
        return trigger
    jitter = min(schedule.interval * _JITTER_SHARE, _JITTER_LIMIT)
    return IntervalTrigger(
        seconds=schedule.interval.total_seconds(), timezone=UTC, jitter=jitter.total_seconds()
    )
