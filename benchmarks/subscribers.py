"""Many WebSocket subscribers in one process, at a few microseconds a message.

Frames go out ready made and come in by their first bytes: what is measured is the service, and
this process shares its two cores.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

from benchmarks.load import Address
from benchmarks.tables import WrongAnswer

_CONNECT_SECONDS = 120
_AT_ONCE = 50
# Of a reader that takes nothing: as little as there is, so that it soon cannot take any more.
_NARROW_BYTES = 4_096

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


def _frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a client, masked with zeros, which leaves the payload as it is."""
    if len(payload) < 126:
        head = bytes([0x80 | opcode, 0x80 | len(payload)])
    else:
        head = bytes([0x80 | opcode, 0x80 | 126]) + len(payload).to_bytes(2, "big")
    return head + bytes(4) + payload


def _text(message: Mapping[str, object]) -> bytes:
    return _frame(_TEXT, json.dumps(message).encode())


def _upgrade(key: str) -> bytes:
    return (
        "GET /graphql HTTP/1.1\r\nhost: footfall\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"sec-websocket-protocol: graphql-transport-ws\r\nx-api-key: {key}\r\n\r\n"
    ).encode("latin-1")


class Subscriber(asyncio.Protocol):
    """One subscription on one connection; `ticks` counts its payloads, `bytes` all it got."""

    def __init__(self, key: str, query: str, *, reads: bool) -> None:
        self._opening = (_upgrade(key), query)
        self._reads = reads
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._is_open = False
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ticks = 0
        self.bytes = 0
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._opening[0])

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        received = self._received + data
        if not self._is_open:
            head, end, received = received.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._fail(head)
                return
            self._is_open = True
            self._say({"type": "connection_init"})
        self._received = self._read(received)

    def _read(self, received: bytes) -> bytes:
        """Handle all whole frames; what is left."""
        while len(received) >= 2:
            opcode, length, start = received[0] & 0x0F, received[1], 2
            if length == 126:
                length, start = int.from_bytes(received[2:4], "big"), 4
            if length == 127 or len(received) < start + length:
                break
            self._handle(opcode, received[start : start + length])
            received = received[start + length :]
        return received

    def _handle(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING and self._transport is not None:
            self._transport.write(_frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._fail(payload)
        elif b'"type":"next"' in payload[:80]:
            self.ticks += 1
            if not self.subscribed.done():
                self.subscribed.set_result(None)
                if not self._reads and self._transport is not None:
                    self._transport.pause_reading()
        elif payload == b'{"type":"connection_ack"}':
            operation = {"query": self._opening[1]}
            self._say({"id": "1", "type": "subscribe", "payload": operation})
        else:
            self._fail(payload)

    def _say(self, message: Mapping[str, object]) -> None:
        if self._transport is not None:
            self._transport.write(_text(message))

    def _fail(self, told: bytes) -> None:
        self.is_lost = True
        if not self.subscribed.done():
            self.subscribed.set_exception(WrongAnswer(f"a subscriber was told {told[:300]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "nothing").encode())

    def close(self) -> None:
        """Leave without a word, as a page does that is closed."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class Crowd:
    """Subscribers that are there together."""

    members: list[Subscriber] = field(default_factory=list)

    async def join(
        self, address: Address, key: str, query: str, count: int, *, reads: bool
    ) -> float:
        """So many more subscribers, each with its first payload; seconds it took."""
        started = perf_counter()
        async with asyncio.timeout(_CONNECT_SECONDS):
            for first in range(0, count, _AT_ONCE):
                size = min(_AT_ONCE, count - first)
                joining = [self._one(address, key, query, reads=reads) for _ in range(size)]
                await asyncio.gather(*joining)
        return perf_counter() - started

    async def _one(self, address: Address, key: str, query: str, *, reads: bool) -> None:
        subscriber = Subscriber(key, query, reads=reads)
        self.members.append(subscriber)
        connecting = socket.socket()
        connecting.setblocking(False)
        if not reads:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connecting, (address.host, address.port))
        await loop.create_connection(lambda: subscriber, sock=connecting)
        await subscriber.subscribed

    def leave(self) -> None:
        """All of them leave."""
        for member in self.members:
            member.close()
        self.members.clear()
