"""Clients that do not send on: their connections end, and they cost nothing until then.

uvicorn waits for a request for as long as its client likes, and takes a head of any size. Here one
task looks at all connections now and then, so that no request pays for a timer of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

import structlog
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from data.background import Loop
from server.headers import OF_API
from server.joined_writes import JoinedWrites
from server.responses import encode_json
from telemetry.metrics import HttpMetrics

log = structlog.get_logger()

# Far more than the head of any request of a browser; nginx takes 32 KiB at the most.
MAX_HEAD_BYTES = 64 * 1024
# How often connections are looked at, unless the time that clients have is shorter.
_LOOK_SECONDS = 1.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}

# What a connection waits for: all of a head, or the rest of a body.
Missing = Literal["head", "body"]


def closing_answer(status: int, code: str, message: str) -> bytes:
    """A whole answer, as bytes, after which the connection ends."""
    body = encode_json({"status": "error", "code": code, "message": message})
    headers = (
        *((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))),
        *((b"cache-control", b"no-store"), (b"connection", b"close")),
        *OF_API,
    )
    lines = [b"HTTP/1.1 %d %s" % (status, _REASONS[status])]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])


class GuardedHttp(JoinedWrites):
    """HTTP/1.1 by httptools, with a bound on heads; `missing` tells what it waits for."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take what has come; a head that does not end is not taken for ever."""
        cycle: Any = self.cycle  # None before the first request
        owed_body = cycle is not None and cycle.more_body
        super().data_received(data)
        if owed_body or self.cycle is not cycle:
            self._head_bytes = 0
            return
        # Of the next head, maybe while an answer is still on its way.
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            message = f"the head of a request may have {MAX_HEAD_BYTES} bytes"
            self.end(closing_answer(431, "HEAD_TOO_LARGE", message))

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as the service does."""
        self.end(closing_answer(400, "BAD_REQUEST", msg))

    @property
    def missing(self) -> Missing | None:
        """What the client owes; None while it is the service's turn, or nothing was begun."""
        cycle: Any = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            # Between requests uvicorn waits for a few seconds only, by itself.
            return "head" if self.timeout_keep_alive_task is None else None
        return "body" if cycle.more_body and not cycle.response_started else None

    @property
    def has_begun(self) -> bool:
        """Whether anything of the request that is waited for has come."""
        return self._head_bytes > 0 or self.missing == "body"

    def end(self, answer: bytes = b"") -> None:
        """Send a last answer, if there is one, and close the connection."""
        if not self.transport.is_closing():
            if answer:
                self.transport.write(answer)
            self.transport.close()


@dataclass(slots=True)
class _Watched:
    """A connection that waits for its client: for what, in which request, since when."""

    missing: Missing
    cycle: RequestResponseCycle | None
    since: float


@dataclass(slots=True)
class SlowClients:
    """The connections whose clients owe something, and for how long they have."""

    seconds: float
    metrics: HttpMetrics
    _watched: dict[GuardedHttp, _Watched] = field(default_factory=dict)

    def look(self, connections: Iterable[Any], at: float) -> None:
        """End those that have been waited for too long, at a monotonic moment."""
        still: dict[GuardedHttp, _Watched] = {}
        for connection in connections:
            missing = connection.missing if isinstance(connection, GuardedHttp) else None
            if missing is None:
                continue
            before = self._watched.get(connection)
            if before is None or before.missing != missing or before.cycle is not connection.cycle:
                still[connection] = _Watched(missing, connection.cycle, at)
            elif at - before.since < self.seconds:
                still[connection] = before
            else:
                self._end(connection, missing)
        self._watched = still

    def _end(self, connection: GuardedHttp, missing: Missing) -> None:
        self.metrics.slow[missing].inc()
        log.info("http.client.slow", missing=missing)
        if not connection.has_begun:
            # Browsers open connections ahead of need; an answer to no question would mislead them.
            connection.end()
            return
        message = f"the {missing} of the request did not arrive within {self.seconds:g} s"
        connection.end(closing_answer(408, "REQUEST_TIMEOUT", message))


def ending_slow_clients(state: ServerState, seconds: float, metrics: HttpMetrics) -> Loop:
    """What looks after the connections of a server."""
    clients = SlowClients(seconds, metrics)

    async def look() -> None:
        clients.look(tuple(state.connections), monotonic())

    pause = min(_LOOK_SECONDS, seconds / 4)
    return Loop("http.slow_clients", look, pause=pause, waits_first=True)
