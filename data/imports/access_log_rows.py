"""Rows of a web server's access log: every request is an event, and no address is kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from data.imports.access_log_line import Request, parse_line
from data.imports.blocks import ImportFile, LongLine
from data.imports.rows import MAX_ROW_BYTES, BadRow, Reading, RowProblem
from data.imports.shape import RowShaper

# What pages are made of and robots ask for; all else is a page, programs and archives for
# download included.
_ASSETS = re.compile(
    r"\.(apng|avif|bmp|css|cur|deb|eot|gif|gz|ico|jpe?g|m?js|map|otf|pdf|png|svg|tiff?|ttf|txt"
    r"|wasm|webmanifest|webp|woff2?|xml)",
    re.IGNORECASE,
).fullmatch
_TOO_LONG = f"longer than {MAX_ROW_BYTES // 1024:,} KiB"
_VISITOR_DIGITS = 16

# From the time or the request on: before it stand address and login name.
_BEGINNING = re.compile(r'[\["]')
_ADDRESS = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|\b(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b|[0-9A-Fa-f:]*::[0-9A-Fa-f:]*"
)


class AccessLogReader:
    """Reads access logs of one site.

    `visitor_key` is a secret of the service that stays the same: visitors are a keyed hash of
    site, address and user agent, so that they are the same ones in the next log of this site,
    while nobody without the key finds the address by trying all of them.
    """

    def __init__(self, site_id: str, visitor_key: bytes, shaper: RowShaper) -> None:
        self._site_id = site_id
        self._visitor_key = visitor_key
        self._shaper = shaper

    def read(self, file: ImportFile) -> Iterator[Reading]:
        """Every line as a row or a bad row; blank lines are passed over.

        The event id is that of a row without id (see `RowIds`): made from the event, in which the
        hashed visitor stands for the address, and never from the line, whose address could be
        found from its hash by trying.
        """
        for block in file.blocks():
            if isinstance(block, LongLine):
                yield BadRow.of(block.number, _TOO_LONG, _without_address(block.beginning))
                continue
            for number, line in enumerate(block.lines(), block.number):
                try:
                    yield self._row(number, line)
                except RowProblem as problem:
                    if not line.isspace():
                        yield BadRow.of(number, str(problem), _without_address(line))

    def _row(self, number: int, line: bytes) -> Reading:
        if len(line) > MAX_ROW_BYTES:
            raise RowProblem(_TOO_LONG)
        # Other bytes are written like the servers escape them themselves.
        request = parse_line(line.decode("utf-8", "backslashreplace"))
        return self._shaper.shape(number, self._event(request))

    def _event(self, request: Request) -> dict[str, object]:
        properties: dict[str, object] = {"method": request.method, "status": request.status}
        if request.size is not None:
            properties["bytes"] = request.size
        if request.agent is not None:
            properties["ua"] = request.agent
        path = _path(request.target)
        event: dict[str, object] = {
            "occurred_at": request.occurred_at,
            "event_type": _event_type(path),
            "visitor_id": self._visitor_id(request),
            "path": path,
            "properties": properties,
        }
        # `OPTIONS *` and the like ask for no address.
        if request.target.startswith("/") or "://" in request.target:
            event["url"] = request.target
        if request.referrer is not None:
            event["referrer"] = request.referrer
        return event

    def _visitor_id(self, request: Request) -> str:
        seen = f"{self._site_id}\0{request.address}\0{request.agent or '-'}"
        return hmac.digest(self._visitor_key, seen.encode(), "sha256").hex()[:_VISITOR_DIGITS]


def _path(target: str) -> str:
    """What was asked for, without query and without the host that a proxy's request names."""
    if target.startswith("/"):
        return target.partition("?")[0]
    try:
        return urlsplit(target).path or "/"
    except ValueError:
        return target.partition("?")[0]


def _event_type(path: str) -> str:
    _, dot, extension = path.rpartition("/")[2].rpartition(".")
    return "asset" if _ASSETS(dot + extension) else "pageview"


def _without_address(line: bytes) -> str:
    """The line to be shown: what may be an address or a login name is taken out."""
    text = line[: 4 * 1024].decode("utf-8", "replace")
    found = _BEGINNING.search(text)
    shown = text[found.start() :] if found else " ".join(text.split(maxsplit=3)[3:])
    return _ADDRESS.sub("...", f"... {shown}")
