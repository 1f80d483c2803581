"""The wall clock."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock: the one place where the service reads it."""
    return datetime.now(UTC)
