"""What happened: events as they are taken in, what became of each, and events as they are read."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

MAX_EVENTS_PER_REQUEST = 5_000
MAX_EVENT_BYTES = 32 * 1024
MAX_BODY_BYTES = 5 * 1024 * 1024


class ReceiptStatus(StrEnum):
    """What became of an event that was sent."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    QUEUED = "QUEUED"
    REJECTED = "REJECTED"


class RejectionCode(StrEnum):
    """Why an event was refused."""

    INVALID_EVENT_ID = "INVALID_EVENT_ID"
    INVALID_EVENT_TYPE = "INVALID_EVENT_TYPE"
    INVALID_TIMESTAMP = "INVALID_TIMESTAMP"
    INVALID_URL = "INVALID_URL"
    INVALID_TEXT = "INVALID_TEXT"
    PROPERTIES_NOT_AN_OBJECT = "PROPERTIES_NOT_AN_OBJECT"
    EVENT_TOO_LARGE = "EVENT_TOO_LARGE"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event that passed the pipeline and is ready for the ledger.

    Times are aware and in UTC. `properties` is the JSON text of an object, or None.
    A msgspec struct and not a dataclass: one is made for every event on the hot path.
    """

    event_id: UUID
    site_id: str
    event_type: str
    occurred_at: datetime
    received_at: datetime
    user_id: str | None = None
    visitor_id: str | None = None
    session_id: str | None = None
    url: str | None = None
    path: str | None = None
    referrer: str | None = None
    properties: str | None = None


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """An event that was refused: a value, not an exception, so one never sinks its batch.

    `payload` is the JSON text of what was sent (at most `REJECTED_PAYLOAD_CHARS` of it).
    """

    site_id: str
    code: RejectionCode
    message: str
    payload: str
    payload_bytes: int
    received_at: datetime
    event_id: UUID | None = None


REJECTED_PAYLOAD_CHARS = 64 * 1024


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer for one event. `index` is its place in the request, from 0."""

    status: ReceiptStatus
    index: int | None = None
    event_id: UUID | None = None
    code: RejectionCode | None = None
    message: str | None = None


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is read back. `arrival` is its place in the order of arrival."""

    event_id: UUID
    site_id: str
    event_type: str
    occurred_at: datetime
    received_at: datetime
    user_id: str | None
    visitor_id: str | None
    session_id: str | None
    url: str | None
    path: str | None
    referrer: str | None
    properties: dict[str, Any] | None
    arrival: int
