"""Where analytical questions are answered: what any event store offers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from data.day_versions import DayVersions
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    Activity,
    ActivityChanges,
    Answer,
    EventCountsQuery,
    EventCountsRows,
    EventRows,
    EventsQuery,
    KnownActivity,
    NewEvents,
    NewEventsQuery,
    RetentionQuery,
    RetentionRows,
    TopEventsQuery,
    TopEventsRows,
    Watermark,
)


class StoreUnavailable(Exception):
    """The event store cannot answer now; the message says why, for the log.

    `damaged`: what it has stored cannot be read any more; a new copy must be built.
    """

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


class InvalidPattern(ValueError):
    """A regular expression that RE2 does not take; the message says what is wrong with it."""


class EventStore(Protocol):
    """Where events are counted. Times are UTC; rows leave out what is zero.

    The reports take several questions at once and answer them from one moment of the copy:
    what one request asks of several sites or ranges becomes one statement. Any method raises
    `StoreUnavailable` when the store fails.
    """

    # What has come in when, as far as this process knows: never ahead of what is answered.
    day_versions: DayVersions

    async def active_users(
        self, queries: Sequence[ActiveUsersQuery]
    ) -> Answer[ActiveUsersRows]: ...

    async def top_events(self, queries: Sequence[TopEventsQuery]) -> Answer[TopEventsRows]: ...

    async def event_counts(
        self, queries: Sequence[EventCountsQuery]
    ) -> Answer[EventCountsRows]: ...

    async def retention(self, queries: Sequence[RetentionQuery]) -> Answer[RetentionRows]: ...

    async def events(self, queries: Sequence[EventsQuery]) -> Answer[EventRows]: ...

    async def new_events(self, queries: Sequence[NewEventsQuery], most: int) -> NewEvents:
        """What has arrived behind each question's place: `most` events at a time, oldest first."""

    async def activity(self, at: datetime, site_ids: Sequence[str]) -> Answer[Activity]:
        """The five minutes up to a whole second, of each site in the order asked."""

    async def activity_changes(
        self, at: datetime, known: Sequence[KnownActivity]
    ) -> Answer[ActivityChanges]:
        """What the same five minutes hold beyond what is known of each site, in the order asked."""

    async def check_pattern(self, pattern: str) -> None:
        """Raise `InvalidPattern` if the regular expression is not RE2."""

    async def watermark(self) -> Watermark | None:
        """The last batch that the copy holds; None for an empty copy."""

    async def apply(self, rows: Path, expected: int, watermark: Watermark) -> None:
        """Add a slice of the ledger and move the watermark, in one transaction.

        `rows` is a CSV file with the columns of `data.postgres.feed.COLUMNS`; `expected` is the
        number of rows that it must hold, else nothing is changed and `StoreUnavailable` raised.
        """
