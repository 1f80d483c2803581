"""One line of a web server's access log, in the combined format of Apache and nginx."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

import msgspec

from data.imports.rows import RowProblem

# What stands between quotes, where a quote or a backslash of its own follows a backslash.
_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'

_LINE = re.compile(
    # Some servers put the virtual host and its port first.
    r"(?:[^\s:]+:\d+ )?"
    # Address, identity, login name (which may contain spaces), time.
    r"(?P<address>\S+) \S+ [^\[]+ \[(?P<time>[^\]]+)\]"
    rf' "(?P<request>{_QUOTED})" (?P<status>\d{{3}}) (?P<size>\d+|-)'
    # nginx may add fields after these, and servers that shorten long lines lose the last quote.
    rf' "(?P<referrer>{_QUOTED})" "(?P<agent>{_QUOTED})(?P<closed>"?)'
).match
_REQUEST = re.compile(r"(?P<method>[A-Za-z-]+) (?P<target>\S.*?)(?: HTTP/\d(?:\.\d)?)?").fullmatch
_TIME = re.compile(
    r"(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4})"
    r":(?P<clock>\d\d:\d\d:\d\d) (?P<offset>[+-]\d\d)(?P<minutes>\d\d)"
).fullmatch
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ESCAPED = re.compile(r'(?:\\x[0-9A-Fa-f]{2})+|\\["\\]').sub


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as logged. `target` is what was asked for, with its query; `size` is in bytes.

    The address is for telling visitors apart and goes no further; the login name is not read at
    all. A field that the log gives as `-` is None.
    """

    address: str
    occurred_at: str
    method: str
    target: str
    status: int
    size: int | None
    referrer: str | None
    agent: str | None


def parse_line(line: str) -> Request:
    """The request of a line, which may end with a newline; raises RowProblem.

    A last field without its closing quote is taken in a whole line, which some server shortened,
    and refused in one without a newline, which is still being written: taken now, it would be
    another request when the file is read again.
    """
    match = _LINE(line)
    if match is None:
        raise RowProblem("not a line of the combined log format")
    if not match["closed"] and not line.endswith("\n"):
        raise RowProblem("cut off before its end")
    request = _REQUEST(match["request"])
    if request is None:
        raise RowProblem("the request is not a method and what it asks for")
    return Request(
        address=match["address"],
        occurred_at=_instant(match["time"]),
        method=request["method"],
        target=request["target"],
        status=int(match["status"]),
        size=None if match["size"] == "-" else int(match["size"]),
        referrer=_text(match["referrer"]),
        agent=_text(match["agent"].rstrip("\r\n")),
    )


@lru_cache(maxsize=1024)  # many requests share a second
def _instant(logged: str) -> str:
    """The time as RFC 3339, at the offset that was logged."""
    match = _TIME(logged)
    if match is None or match["month"] not in _MONTHS:
        raise RowProblem("the time is not like 31/Jan/2026:12:00:00 +0000")
    month = _MONTHS.index(match["month"]) + 1
    text = (
        f"{match['year']}-{month:02}-{match['day']}T{match['clock']}"
        f"{match['offset']}:{match['minutes']}"
    )
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise RowProblem(f"the time does not exist: {error}") from None
    return text


def _text(logged: str) -> str | None:
    if logged in {"", "-"}:
        return None
    return _ESCAPED(_unescape, logged) if "\\" in logged else logged


def _unescape(match: re.Match[str]) -> str:
    r"""What an escape stands for; bytes that are no printable UTF-8 stay escaped, as `\x00`."""
    escaped = match[0]
    if not escaped.startswith("\\x"):
        return escaped[1]
    try:
        text = bytes.fromhex(escaped.replace("\\x", "")).decode()
    except UnicodeDecodeError:
        return escaped
    return text if text.isprintable() else escaped
