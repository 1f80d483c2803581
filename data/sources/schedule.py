"""When a source is due: by its cron, or at a moment of its own within its interval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from data.schedules import cron_of
from data.sources.source import Source

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
