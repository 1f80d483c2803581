"""HTTP answers in one piece, and the answers of one turn of the loop one after another.

uvicorn searches each header by two regular expressions for what must not be in it: for the dozen
of an answer that takes as long as executing a small operation. Here one look at the whole head says
the same.


uvicorn writes head and body apart, which are two calls of the system. For a short answer the
second takes about as long as everything that we do for it. And each answer that goes out by itself
wakes its reader and lets the system's code and ours take turns in the processor's caches; under
load this costs as much again.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

_HEAD_STARTS = b"HTTP/1.1 "
# They decide how the connection goes on: uvicorn's business.
_FOR_UVICORN = frozenset({b"transfer-encoding", b"connection"})
# What uvicorn lets no value have.
_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})
# So much is worth a call of its own.
_MAX_HELD_BYTES = 64 * 1024


class JoiningTransport:
    """A transport that holds an answer, from its head on, until the loop has done this turn.

    By then its body has come, unless it is still to be made. Everything else is passed on at
    once, in order.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold what looks like an answer and whatever follows it in this turn."""
        if self._held:
            self._held += data
            if len(self._held) >= _MAX_HELD_BYTES:
                self._flush()
        elif data.startswith(_HEAD_STARTS):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be. It is asked after each answer."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write what is held, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


@lru_cache(1_024)
def _is_plain(name: bytes) -> bool:
    """Whether a name goes into a head as it is, and says nothing about the connection."""
    return name not in _FOR_UVICORN and name.islower() and HEADER_RE.search(name) is None


class QuickCycle(RequestResponseCycle):
    """uvicorn's exchange, with a short way for the heads that nearly all answers have."""

    async def send(self, message: Any) -> None:
        """Take an ASGI message."""
        head = None if self.response_started else self._head(message)
        if head is None or self.disconnected or self.flow.write_paused or self.access_log:
            await super().send(message)
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(head)

    def _head(self, message: Any) -> bytes | None:
        """The head of an answer whose length is known; None where uvicorn is to see to it."""
        if message["type"] != "http.response.start" or not self.keep_alive:
            return None
        status, length = message["status"], None
        headers = [*self.default_headers, *message["headers"]]
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif not _is_plain(name):
                return None
        if length is None and status not in (204, 304):
            return None
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
        head = b"".join(lines)
        # Each line has its own line break, and nothing else of the kind.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * len(lines):
            return None
        if length is not None:
            self.expected_content_length = int(length)
            self.chunked_encoding = False
        return head


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 by httptools, with an answer's head and body in one write."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = QuickCycle
        super()._start_asgi_task(cycle, app)

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        joining: Any = JoiningTransport(transport, self.loop)
        super().connection_made(joining)
