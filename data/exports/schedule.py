"""When a destination is due."""

from __future__ import annotations

from datetime import datetime, timedelta

from data.exports.destination import DAILY, HOURLY, MANUAL, REALTIME
from data.schedules import cron_of

# A run takes some seconds, and waits for a process to take it up: within a minute, all in all.
REALTIME_PAUSE = timedelta(seconds=20)

_CRONS = {HOURLY: "0 * * * *", DAILY: "0 0 * * *"}


def next_run(schedule: str, timezone: str, after: datetime) -> datetime | None:
    """The first moment after `after` at which a run is due; None where there are none by itself.

    For REALTIME it is the moment from which on a run begins as soon as anything waits. Raises
    `InvalidCron`.
    """
    if schedule == MANUAL:
        return None
    if schedule == REALTIME:
        return after + REALTIME_PAUSE
    return cron_of(_CRONS.get(schedule, schedule), timezone, after)
