"""HTTP answers in one piece, and the answers of one turn of the loop one after another.

uvicorn writes head and body apart, which are two calls of the system. For a short answer the
second takes about as long as everything that we do for it. And each answer that goes out by itself
wakes its reader and lets the system's code and ours take turns in the processor's caches; under
load this costs as much again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_STARTS = b"HTTP/1.1 "
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


class JoinedWrites(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 by httptools, with an answer's head and body in one write."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        joining: Any = JoiningTransport(transport, self.loop)
        super().connection_made(joining)
