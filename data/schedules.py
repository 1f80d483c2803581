"""Cron expressions, followed in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from data.calendar import UnknownZone, zone_of

# Any: whether an expression ever comes true does not depend on it.
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class InvalidCron(Exception):
    """A cron expression that cannot be followed; the message says why."""


def cron_of(text: str, timezone: str, after: datetime = _SOME_DAY) -> datetime:
    """The first moment after `after` that the expression names in the zone, in UTC.

    Raises `InvalidCron`, also for one that never comes, such as the 30th of February.
    """
    if len(text.split()) != 5:
        raise InvalidCron(
            "a cron expression has five fields: minute, hour, day of month, month, day of week"
        )
    try:
        zone = zone_of(timezone)
    except UnknownZone:
        raise InvalidCron(f"{timezone!r} is not a time zone such as Europe/Berlin") from None
    try:
        moments = CronSim(text, after.astimezone(zone))
        # In the hour that comes twice, it may name a moment of the first time during the second.
        while (moment := next(moments).astimezone(UTC)) <= after:
            pass
    except CronSimError as error:
        raise InvalidCron(f"{text!r} is not a cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise InvalidCron(f"{text!r} never comes") from None
    return moment
