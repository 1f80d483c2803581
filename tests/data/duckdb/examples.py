"""A columnar copy with a few events in it, for examples that can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from data.calendar import DateRange
from data.duckdb.store import DuckDBStore
from data.events import Event
from data.queries import EVERYTHING, EventFilter, EventsQuery, Scope, Watermark
from tests.slices import Batch, write_slice

LEDGER = "0b5ad1a6-5f3e-4a6c-9d52-4a2b8a1c7f10"
BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")
EARLY = datetime(2024, 1, 1, tzinfo=UTC)


def make_event(number: int, at: str = "2024-03-04T12:00", **fields: object) -> Event:
    """An event with boring defaults; `at` is UTC in ISO form, `number` becomes its id."""
    event = Event(
        event_id=UUID(int=number),
        site_id="site",
        event_type="view",
        occurred_at=datetime.fromisoformat(at).replace(tzinfo=UTC),
        received_at=EARLY + timedelta(seconds=number),
    )
    return msgspec.structs.replace(event, **fields)


def on(day: str, user: str, number: int, event_type: str = "view") -> Event:
    """What a user did at noon of a day."""
    return make_event(number, f"{day}T12:00", user_id=user, event_type=event_type)


def march(day: int) -> date:
    """A day of March 2024; the 4th is a Monday."""
    return date(2024, 3, day)


def mark(position: int) -> Watermark:
    """The watermark of a batch."""
    committed_at = EARLY + timedelta(hours=position, microseconds=1)
    return Watermark(position, 1_000 + position, committed_at)


@dataclass(slots=True)
class Feed:
    """Brings slices into a store, one position after another."""

    store: DuckDBStore
    folder: Path
    position: int = 0

    async def __call__(self, *events: Event) -> Watermark:
        """Apply the events as one batch; the new watermark."""
        self.position += 1
        path = self.folder / "slice.csv"
        rows = write_slice(path, [Batch(self.position, events)])
        await self.store.apply(path, rows, mark(self.position))
        return mark(self.position)


def days(start: str, end: str) -> DateRange:
    """A range from two ISO dates."""
    return DateRange(date.fromisoformat(start), date.fromisoformat(end))


def scope(
    start: str,
    end: str,
    zone: ZoneInfo = UTC_ZONE,
    condition: EventFilter = EVERYTHING,
    site: str = "site",
) -> Scope:
    """What a question is about."""
    return Scope(site, days(start, end), zone, condition)


async def numbers(
    store: DuckDBStore, condition: EventFilter = EVERYTHING, first: int = 1_000
) -> set[int]:
    """The numbers of the events that pass a filter."""
    query = EventsQuery("site", UTC_ZONE, filter=condition, first=first)
    return {event.event_id.int for event in (await store.events([query])).rows[0]}


async def ids_of(store: DuckDBStore, query: EventsQuery) -> Sequence[int]:
    """The numbers of the events of a page, in order."""
    return [event.event_id.int for event in (await store.events([query])).rows[0]]
