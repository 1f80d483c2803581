"""Answers that are none, by their status, and how long their senders want to be left alone."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http import HTTPStatus

from data.outbound.client import Answer
from data.outbound.failures import OutboundFailed

# A source may not put itself out of reach for longer than this.
_MOST_SECONDS = 24 * 60 * 60.0
_GOOD = range(200, 204)
_MAY_PASS = (408, 429)


class BadStatus(OutboundFailed):
    """An answer that is none; `retry_after` are the seconds for which it asks, where it does."""

    def __init__(self, message: str, *, may_pass: bool, retry_after: float | None) -> None:
        super().__init__(message, may_pass=may_pass)
        self.retry_after = retry_after


def bad_status(answer: Answer, host: str, now: float) -> BadStatus | None:
    """What is wrong with the answer's status; None where nothing is. `now` is in Unix seconds."""
    status = answer.status
    if status in _GOOD:
        return None
    may_pass = status in _MAY_PASS or status >= 500
    retry_after = seconds_asked(answer.headers.get("retry-after", ""), now) if may_pass else None
    message = f"{host} answers {_words(status)}"
    if status == 304:
        message += ", though it was not asked for changes"
    elif retry_after:
        message += f" and asks to be left alone for {retry_after:,.0f} s"
    return BadStatus(message, may_pass=may_pass, retry_after=retry_after)


def seconds_asked(header: str, now: float) -> float | None:
    """The seconds that a `Retry-After` names, by number or by date; None where it names none."""
    value = header.strip()
    if value.isascii() and value.isdigit():
        # Whoever writes more digits means for ever.
        return min(float(value[:9]), _MOST_SECONDS)
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(moment - now, 0.0), _MOST_SECONDS)


def _words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
