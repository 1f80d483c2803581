"""HTTP answers in one piece: uvicorn writes head and body apart, which are two calls of the system.

For a short answer the second call takes about as long as everything that we do for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_STARTS, _HEAD_ENDS = b"HTTP/1.1 ", b"\r\n\r\n"


class JoiningTransport:
    """A transport that holds the head of an answer until what comes with it, or for a moment.

    Everything else is passed on at once, in order.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold what looks like a head until the loop's next turn."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD_STARTS) and data.endswith(_HEAD_ENDS):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Write what is held, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 by httptools, with an answer's head and body in one write."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        joining: Any = JoiningTransport(transport, self.loop)
        super().connection_made(joining)
