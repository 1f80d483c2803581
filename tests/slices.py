"""Events as slices of the ledger: the file that a follower hands to the columnar copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from data.events import Event, StoredEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one commit; `position` is its place in the change feed."""

    position: int
    events: Sequence[Event]


def arrival_of(position: int, ordinal: int) -> int:
    """The place in the order of arrival, as the columnar copy numbers it."""
    return position * 65536 + ordinal


def write_slice(path: Path, batches: Iterable[Batch]) -> int:
    """Write what the ledger's COPY would write of these batches; how many rows there are."""
    rows = [
        _row(event, batch.position, ordinal)
        for batch in batches
        for ordinal, event in enumerate(batch.events)
    ]
    path.write_bytes("".join(rows).encode())
    return len(rows)


def _row(event: Event, position: int, ordinal: int) -> str:
    fields = [
        str(event.event_id),
        _quoted(event.site_id),
        _quoted(event.event_type),
        str((event.occurred_at - EPOCH) // MICROSECOND),
        str((event.received_at - EPOCH) // MICROSECOND),
        _quoted(event.user_id),
        _quoted(event.visitor_id),
        _quoted(event.session_id),
        _quoted(event.url),
        _quoted(event.path),
        _quoted(event.referrer),
        _quoted(event.properties),
        str(position),
        str(ordinal),
    ]
    return ",".join(fields) + "\n"


def _quoted(text: str | None) -> str:
    # Every text is in quotes, so the bare mark is never one.
    return r"\N" if text is None else '"' + text.replace('"', '""') + '"'


def stored(batches: Iterable[Batch]) -> list[StoredEvent]:
    """The same events as they must be read back, in order of arrival."""
    return [
        stored_event(event, arrival_of(batch.position, ordinal))
        for batch in batches
        for ordinal, event in enumerate(batch.events)
    ]


def stored_event(event: Event, arrival: int) -> StoredEvent:
    """One event as it must be read back."""
    return StoredEvent(
        event_id=event.event_id,
        site_id=event.site_id,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        user_id=event.user_id,
        visitor_id=event.visitor_id,
        session_id=event.session_id,
        url=event.url,
        path=event.path,
        referrer=event.referrer,
        properties=None if event.properties is None else json.loads(event.properties),
        arrival=arrival,
    )


def instant(text: str) -> datetime:
    """A UTC instant such as `2024-05-01 12:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def some_event(
    at: str, who: str | None = "ann", what: str = "view", **given: object
) -> StoredEvent:
    """An event of the site `shop` at a UTC time, by a user; `given` are other fields."""
    fields: dict[str, object] = {
        "event_id": UUID(int=1),
        "site_id": "shop",
        "event_type": what,
        "occurred_at": instant(at),
        "received_at": instant(at),
        "user_id": who,
        "visitor_id": None,
        "session_id": None,
        "url": None,
        "path": None,
        "referrer": None,
        "properties": None,
        "arrival": 0,
    }
    return StoredEvent(**(fields | given))  # type: ignore[arg-type]
