"""Load over HTTP/1.1: requests as ready bytes, one after another on each of many connections.

It spends little on each request, so that on two cores the service is what is measured. How much it
can do itself is measured in the same run, against an application that does nothing.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

from benchmarks.tables import WrongAnswer, percentile

Headers = Mapping[str, str]
# Says how many events an answer's body acknowledges; raises `WrongAnswer`.
Check = Callable[[bytes], int]

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_ANSWER_SECONDS = 60
# The server closes a connection on which nothing comes for 5 seconds.
_IDLE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens."""

    host: str
    port: int


def http_request(
    method: str, path: str, body: bytes = b"", headers: Headers | None = None
) -> bytes:
    """A whole request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: footfall", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD + body


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(_LENGTH)
    if start < 0:
        raise WrongAnswer(f"an answer without a length: {head[:200]!r}")
    return int(lower[start + len(_LENGTH) :].split(b"\r\n", 1)[0])


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: all requests, each once, or as many as go into `seconds`."""

    address: Address
    requests: Iterable[bytes]
    connections: int
    check: Check
    seconds: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What came of a load: seconds in all, seconds of each request, events acknowledged."""

    seconds: float = 0.0
    acknowledged: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))

    @property
    def requests_per_second(self) -> float:
        """Answered requests, over the whole time."""
        return len(self.latencies) / self.seconds

    @property
    def events_per_second(self) -> float:
        """Acknowledged events, over the whole time."""
        return self.acknowledged / self.seconds

    def milliseconds(self, share: float) -> float:
        """The time within which this share of the requests was answered."""
        return percentile(self.latencies, share) * 1_000


async def run_load(load: Load) -> Outcome:
    """Send a load and check every answer; raises `WrongAnswer` on the first that is not right."""
    loop = asyncio.get_running_loop()
    run = _Run(iter(load.requests), load.check, load.connections, loop.create_future())
    transports = []
    try:
        for _ in range(load.connections):
            transport, _protocol = await loop.create_connection(
                lambda: _Connection(run), load.address.host, load.address.port
            )
            transports.append(transport)
        started = perf_counter()
        run.deadline = started + load.seconds
        run.start()
        async with asyncio.timeout(load.seconds + _ANSWER_SECONDS):
            await run.done
        run.outcome.seconds = perf_counter() - started
    finally:
        for transport in transports:
            transport.abort()
    return run.outcome


@dataclass(slots=True)
class _Run:
    """What the connections of one load share."""

    requests: Iterator[bytes]
    check: Check
    busy: int
    done: asyncio.Future[None]
    deadline: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)
    connections: list[_Connection] = field(default_factory=list)

    def start(self) -> None:
        for connection in self.connections:
            connection.send_next()

    def next_request(self) -> bytes | None:
        """The next request; None once a connection has nothing more to do."""
        request = next(self.requests, None) if perf_counter() < self.deadline else None
        if request is None:
            self.busy -= 1
            if self.busy == 0 and not self.done.done():
                self.done.set_result(None)
        return request

    def answered(self, seconds: float, head: bytes, body: bytes) -> None:
        """Check and count an answer; raises `WrongAnswer`."""
        if head[9:12] != b"200":
            raise WrongAnswer(f"{head[9:40]!r} {body[:500]!r}")
        self.outcome.acknowledged += self.check(body)
        self.outcome.latencies.append(seconds)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Connection(asyncio.Protocol):
    """One connection that is kept alive: sends a request, and the next when it is answered."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio's do without being of their class.
        self._transport = cast("asyncio.Transport", transport)
        self._run.connections.append(self)

    def send_next(self) -> None:
        request = self._run.next_request()
        if request is not None and self._transport is not None:
            self._sent_at = perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(_END_OF_HEAD)
        if end < 0:
            return
        start = end + len(_END_OF_HEAD)
        try:
            head = received[:start]
            if len(received) < start + _content_length(head):
                return
            self._received = b""
            self._run.answered(perf_counter() - self._sent_at, head, received[start:])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the run fails
            self._run.failed(error)
            return
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.failed(exc or WrongAnswer("the service closed a connection"))


class Client:
    """One connection for one question at a time; for what need not be as quick as a load."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0

    async def send(self, request: bytes) -> bytes:
        """The body of an answer, which must be 200; raises `WrongAnswer`."""
        if perf_counter() - self._used_at > _IDLE_SECONDS:
            await self.close()
        async with asyncio.timeout(_ANSWER_SECONDS):
            if self._streams is None:
                address = self._address
                self._streams = await asyncio.open_connection(address.host, address.port)
            reader, writer = self._streams
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(_END_OF_HEAD)
            body = await reader.readexactly(_content_length(head))
        self._used_at = perf_counter()
        if head[9:12] != b"200":
            raise WrongAnswer(f"{head[9:40]!r} {body[:500]!r}")
        return body

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            with suppress(OSError):
                await self._streams[1].wait_closed()
            self._streams = None


def graphql_request(key: str, query: str, variables: Mapping[str, object] | None = None) -> bytes:
    """A GraphQL request by POST."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    return http_request(
        "POST", "/graphql", body, {"content-type": "application/json", "x-api-key": key}
    )
