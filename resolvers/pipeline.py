"""What every event goes through on its way in: an ordered list of pure steps.

A step takes a draft, the event as it was sent under the names of `EventInput` in snake case, and
gives back a draft that knows more, or a `Problem`, which ends the way. Drafts come from anywhere:
any field may hold any JSON value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from data.events import (
    MAX_EVENT_BYTES,
    REJECTED_PAYLOAD_CHARS,
    Event,
    Rejection,
    RejectionCode,
)

MAX_EVENT_TYPE_CHARS = 200
MAX_ID_CHARS = 512
MAX_URL_CHARS = 8_192
MAX_AHEAD = timedelta(hours=24)
# No report can ask for an earlier one, and the first moment of all is what PostgreSQL's driver takes
# for minus infinity, which nobody downstream can count from.
FIRST_YEAR = 2

Draft = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request's events besides what they say themselves.

    `visitor_id` is given to those without any identity. `largest` is a bound on the size of one
    event in bytes, where the size of the whole request gives one.
    """

    site_id: str
    now: datetime
    visitor_id: str | None = None
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event cannot be taken: a code for programs and a sentence for people."""

    code: RejectionCode
    message: str


Step = Callable[[Draft, Arrival], Draft | Problem]

_encode = msgspec.json.Encoder(decimal_format="number").encode
# A NUL as JSON writes it: an odd number of backslashes before it makes it one.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


FIELDS = frozenset(
    {
        "event_id",
        "event_type",
        "occurred_at",
        "user_id",
        "visitor_id",
        "session_id",
        "url",
        "path",
        "referrer",
        "properties",
    }
)


def reject_unknown_fields(draft: Draft, _: Arrival) -> Draft | Problem:
    """What would be lost in silence, most often a misspelt name."""
    if draft.keys() <= FIELDS:
        return draft
    names = ", ".join(sorted(str(name)[:50] for name in draft.keys() - FIELDS)[:5])
    return Problem(
        RejectionCode.UNKNOWN_FIELD, f"unknown: {names}; fields of your own go into properties"
    )


def reject_unreadable(draft: Draft, arrival: Arrival) -> Draft | Problem:
    """Too large, or with characters that no text may hold."""
    try:
        encoded = _encode(draft)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Problem(RejectionCode.INVALID_TEXT, f"the event is not plain JSON: {error}")
    if len(encoded) > MAX_EVENT_BYTES and (arrival.largest or len(encoded)) > MAX_EVENT_BYTES:
        return Problem(
            RejectionCode.EVENT_TOO_LARGE,
            f"the event has {len(encoded)} bytes; at most {MAX_EVENT_BYTES} are taken",
        )
    if b"\\u0000" in encoded and _NUL.search(encoded):
        return Problem(RejectionCode.INVALID_TEXT, "the event holds a NUL character")
    return draft


def add_event_id(draft: Draft, _: Arrival) -> Draft | Problem:
    """The id that was sent, else a new one."""
    sent = draft.get("event_id")
    if sent is None:
        return {**draft, "event_id": uuid7()}
    if isinstance(sent, UUID):
        return draft
    try:
        return {**draft, "event_id": msgspec.convert(sent, UUID)}
    except msgspec.ValidationError:
        return Problem(RejectionCode.INVALID_EVENT_ID, "eventId must be a UUID")


def reject_bad_event_type(draft: Draft, _: Arrival) -> Draft | Problem:
    """An event without a type that can be counted by."""
    event_type = draft.get("event_type")
    if isinstance(event_type, str) and (stripped := event_type.strip()):
        if len(stripped) <= MAX_EVENT_TYPE_CHARS:
            return draft if stripped == event_type else {**draft, "event_type": stripped}
        problem = f"eventType may have {MAX_EVENT_TYPE_CHARS} characters at most"
    else:
        problem = "eventType must be a text that is not empty"
    return Problem(RejectionCode.INVALID_EVENT_TYPE, problem)


def add_occurred_at(draft: Draft, arrival: Arrival) -> Draft | Problem:
    """The moment the event speaks of, else that of its arrival; never far in the future."""
    sent = draft.get("occurred_at")
    if sent is None:
        return {**draft, "occurred_at": arrival.now}
    try:
        occurred_at = parse_instant(sent)
    except ValueError as error:
        return Problem(RejectionCode.INVALID_TIMESTAMP, f"occurredAt {error}")
    if occurred_at.year < FIRST_YEAR:
        return Problem(
            RejectionCode.INVALID_TIMESTAMP, f"occurredAt is before the year {FIRST_YEAR}"
        )
    if occurred_at > arrival.now + MAX_AHEAD:
        return Problem(
            RejectionCode.INVALID_TIMESTAMP, "occurredAt is more than 24 hours in the future"
        )
    return {**draft, "occurred_at": occurred_at}


def parse_instant(sent: object) -> datetime:
    """The instant, in UTC, of an RFC 3339 text with offset or of epoch milliseconds.

    Raises ValueError with the end of a sentence that says what is wrong.
    """
    if isinstance(sent, str):
        try:
            sent = datetime.fromisoformat(sent.strip().upper())
        except ValueError:
            raise ValueError("must be RFC 3339, such as 2026-01-31T12:00:00Z") from None
    try:
        if isinstance(sent, datetime):
            if sent.tzinfo is None:
                raise ValueError("needs an offset, such as Z or +01:00")
            return sent.astimezone(UTC)
        if isinstance(sent, (int, float)) and not isinstance(sent, bool) and math.isfinite(sent):
            return _EPOCH + timedelta(milliseconds=sent)
    except OverflowError:
        raise ValueError("is outside of the years 1 to 9999") from None
    raise ValueError("must be RFC 3339 or a number of milliseconds since 1970")


def add_identity(draft: Draft, arrival: Arrival) -> Draft | Problem:
    """Ids as texts; whoever is unknown gets the visitor id of the request, if it has one."""
    ids: Draft = {}
    for name, field in _IDS:
        value = draft.get(name)
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            return Problem(RejectionCode.INVALID_TEXT, f"{field} must be a text")
        if len(value) > MAX_ID_CHARS:
            return Problem(
                RejectionCode.INVALID_TEXT, f"{field} may have {MAX_ID_CHARS} characters at most"
            )
        # An empty text identifies nobody: pages send it for "not logged in".
        ids[name] = value.strip() or None
    if arrival.visitor_id and not ids.get("user_id") and not ids.get("visitor_id"):
        ids["visitor_id"] = arrival.visitor_id
    return {**draft, **ids}


_IDS = (("user_id", "userId"), ("visitor_id", "visitorId"), ("session_id", "sessionId"))
_QUERY = re.compile(r"[?#]")
# Nearly every address that comes in; what is odder is left to `urlsplit`, which is slower.
_PLAIN_URL = re.compile(r"https?://[\w.:-]+(/[^?#]*)?(?:[?#]|$)", re.ASCII)
_ODD_IN_URL = re.compile(r"[\x00-\x1f\x7f]")


def add_page(draft: Draft, _: Arrival) -> Draft | Problem:
    """Address, path and referrer; the path is taken from the address where it was not sent."""
    page: Draft = {}
    for name in ("url", "path", "referrer"):
        value = draft.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            return Problem(RejectionCode.INVALID_URL, f"{name} must be a text")
        value = value.strip()
        if len(value) > MAX_URL_CHARS or _ODD_IN_URL.search(value):
            return Problem(
                RejectionCode.INVALID_URL,
                f"{name} has control characters or more than {MAX_URL_CHARS} characters",
            )
        page[name] = value or None
    url = page.get("url")
    if url is None:
        return {**draft, **page} if page else draft
    path = _path_of(url)
    if path is None:
        return Problem(
            RejectionCode.INVALID_URL, "url must be an address, or a path that begins with /"
        )
    if page.get("path") is None:
        page["path"] = path
    return {**draft, **page}


def _path_of(url: str) -> str | None:
    """The path of an address or of a path with a query; None for what is neither."""
    if url.startswith("/"):
        # As servers log it: `//favicon.ico` is an odd path and not the host `favicon.ico`.
        return _QUERY.split(url, maxsplit=1)[0]
    if plain := _PLAIN_URL.match(url):
        return plain[1] or "/"
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return (parts.path or "/") if parts.scheme and (parts.netloc or parts.path) else None


def add_properties(draft: Draft, _: Arrival) -> Draft | Problem:
    """Properties as the JSON text that the ledger keeps."""
    properties = draft.get("properties")
    if properties is None:
        return draft
    if not isinstance(properties, dict):
        return Problem(RejectionCode.PROPERTIES_NOT_AN_OBJECT, "properties must be an object")
    return {**draft, "properties": _encode(properties).decode()}


STEPS: tuple[Step, ...] = (
    # First, so that whatever is wrong with the rest can be told by the id.
    add_event_id,
    reject_unreadable,
    reject_unknown_fields,
    reject_bad_event_type,
    add_occurred_at,
    add_identity,
    add_page,
    add_properties,
)


def process(sent: object, arrival: Arrival) -> Event | Rejection:
    """The event that a draft becomes, or its rejection; never raises, whatever was sent."""
    if not isinstance(sent, dict):
        problem = Problem(RejectionCode.INVALID_TEXT, "an event must be an object")
        return _rejection(sent, {}, problem, arrival)
    draft: Draft = sent
    for step in STEPS:
        outcome = step(draft, arrival)
        if isinstance(outcome, Problem):
            return _rejection(sent, draft, outcome, arrival)
        draft = outcome
    get = draft.get
    return Event(
        draft["event_id"],
        arrival.site_id,
        draft["event_type"],
        draft["occurred_at"],
        arrival.now,
        get("user_id"),
        get("visitor_id"),
        get("session_id"),
        get("url"),
        get("path"),
        get("referrer"),
        get("properties"),
    )


def _rejection(
    sent: object, draft: Mapping[str, Any], problem: Problem, arrival: Arrival
) -> Rejection:
    try:
        payload = _encode(sent).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        payload = ascii(sent)
    event_id = draft.get("event_id")
    return Rejection(
        site_id=arrival.site_id,
        code=problem.code,
        message=problem.message,
        payload=payload[:REJECTED_PAYLOAD_CHARS],
        payload_bytes=len(payload.encode()),
        received_at=arrival.now,
        event_id=event_id if isinstance(event_id, UUID) else None,
    )
