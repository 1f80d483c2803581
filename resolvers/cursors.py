"""Cursors: opaque texts that name a place in an order and stay right while events arrive."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from data.queries import Place
from data.sources.records import RecordPlace
from resolvers.errors import BadUserInput

# As Redis numbers the entries of a stream: milliseconds and a count within them.
LETTER_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")

_VERSION = "1"
_LOG = "log"
_RECORD = "record"
_AUDIT = "audit"
_RUN = "run"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def cursor_of(place: Place) -> str:
    """The cursor of a place in the order of events."""
    micros = (place.occurred_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(f"{_VERSION}:{micros}:{place.arrival}".encode()).decode().rstrip("=")


def letter_cursor_of(letter_id: str) -> str:
    """The cursor of a dead letter."""
    return urlsafe_b64encode(f"{_VERSION}:{letter_id}".encode()).decode().rstrip("=")


def letter_id_of(cursor: str, argument: str = "after") -> str:
    """The dead letter that a cursor names; raises `BadUserInput`."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    version, _, letter_id = text.partition(":")
    if version != _VERSION or not LETTER_ID.fullmatch(letter_id):
        raise BadUserInput(argument, "this is not a cursor that a connection gave")
    return letter_id


def place_of(cursor: str, argument: str = "after") -> Place:
    """The place that a cursor names; raises `BadUserInput`."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        version, micros, arrival = text.split(":")
        if version != _VERSION or abs(int(arrival)) >= 2**63:
            raise ValueError(version)
        return Place(_EPOCH + int(micros) * _MICROSECOND, int(arrival))
    except (ValueError, binascii.Error, OverflowError):
        raise BadUserInput(argument, "this is not a cursor that a connection gave") from None


def log_cursor_of(position: int) -> str:
    """The cursor of a place in the admin log."""
    return _numbered(_LOG, position)


def log_position_of(cursor: str, argument: str = "after") -> int:
    """The position that a cursor of the admin log names; raises `BadUserInput`."""
    return _number_of(_LOG, cursor, argument)


def audit_cursor_of(audit_id: int) -> str:
    """The cursor of an audit."""
    return _numbered(_AUDIT, audit_id)


def audit_id_of(cursor: str, argument: str = "after") -> int:
    """The audit that a cursor names; raises `BadUserInput`."""
    return _number_of(_AUDIT, cursor, argument)


def run_cursor_of(sequence: int) -> str:
    """The cursor of a run of an export."""
    return _numbered(_RUN, sequence)


def run_sequence_of(cursor: str, argument: str = "after") -> int:
    """The run that a cursor names; raises `BadUserInput`."""
    return _number_of(_RUN, cursor, argument)


def record_cursor_of(place: RecordPlace) -> str:
    """The cursor of a place in the order of records."""
    micros = (place.changed_at - _EPOCH) // _MICROSECOND
    text = f"{_VERSION}:{_RECORD}:{micros}:{place.record_id}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def record_place_of(cursor: str, argument: str = "after") -> RecordPlace:
    """The place that a cursor of records names; raises `BadUserInput`."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        version, kind, micros, record_id = text.split(":")
        if (version, kind) != (_VERSION, _RECORD) or not 0 <= int(record_id) < 2**63:
            raise ValueError(text)
        return RecordPlace(_EPOCH + int(micros) * _MICROSECOND, int(record_id))
    except (ValueError, binascii.Error, OverflowError):
        raise BadUserInput(argument, "this is not a cursor that a connection gave") from None


def _numbered(kind: str, number: int) -> str:
    return urlsafe_b64encode(f"{_VERSION}:{kind}:{number}".encode()).decode().rstrip("=")


def _number_of(kind: str, cursor: str, argument: str) -> int:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        version, found, number = text.split(":")
        if (version, found) != (_VERSION, kind) or not 0 <= int(number) < 2**63:
            raise ValueError(text)
        return int(number)
    except (ValueError, binascii.Error):
        raise BadUserInput(argument, "this is not a cursor that a connection gave") from None
