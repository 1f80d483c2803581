"""When a source is due: by its cron, or at a moment of its own within its interval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from cronsim import CronSim, CronSimError

from data.calendar import UnknownZone, zone_of
from data.sources.source import Source

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Any: whether an expression ever comes true does not depend on it.
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class InvalidCron(Exception):
    """A cron expression that cannot be followed; the message says why."""


def next_due(source: Source, after: datetime) -> datetime:
    """The first moment after `after` at which the source is to be refreshed, in UTC."""
    if source.cron is not None:
        return cron_of(source.cron, source.timezone, after)
    interval = source.refresh_seconds
    # Many sources of one interval would all be due in the same second otherwise.
    digest = blake2b(source.key.encode(), digest_size=8).digest()
    phase = timedelta(microseconds=int.from_bytes(digest) % (interval * 1_000_000))
    every = timedelta(seconds=interval)
    passed = (after - _EPOCH - phase) // every
    return _EPOCH + phase + (passed + 1) * every


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
