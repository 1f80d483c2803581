"""GraphQL over server-sent events: graphql-sse's "distinct connections", a response each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from graphql import GraphQLError
from starlette.types import Message, Receive

from resolvers.errors import Code, Refusal
from schema.operations import ALL_KINDS, Operations, RequestRefused
from schema.payloads import Payload
from schema.presenting import coded, refused, unexpected
from schema.shared_streams import SharedStreams
from server.connections import Connection, Connections, Ended, KeyEnded, Outlet, Pace, PeerGone
from server.graphql_request import Asked, Exchange, key_of
from server.responses import Header
from telemetry.metrics import OperationType

_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    # A proxy that gathers an answer before it passes it on would keep all events to itself.
    (b"x-accel-buffering", b"no"),
)
_BY_GET: frozenset[OperationType] = frozenset({"query", "subscription"})
_ALIVE = b":\n\n"
_COMPLETE = b"event: complete\ndata:\n\n"


@dataclass(frozen=True, slots=True)
class EventStreams:
    """Answers requests for a stream of events. The `connections` come with the lifespan's state."""

    operations: Operations
    streams: SharedStreams
    headers: tuple[Header, ...] = ()

    async def __call__(self, exchange: Exchange, asked: Asked) -> None:
        """Send what an operation comes to, as events; a client leaves by closing the connection.

        Why nothing was executed is an event, too: of another answer a browser would show nothing.
        So is a failure that nobody foresaw, as half an answer may be out by then.
        """
        answer = _Answer(Outlet(exchange.send), (*_HEADERS, *self.headers))
        try:
            last = await self._stream(exchange, asked, answer)
        except PeerGone:
            return  # there is nobody
        except RequestRefused as refusal:
            last = _refusal(refusal.errors)
        except Refusal as refusal:
            last = _refusal([refused(refusal)])
        except Exception as failure:  # noqa: BLE001 - whatever it is, the client gets an answer
            last = _refusal([unexpected(failure)])
        with suppress(PeerGone, TimeoutError):  # there is nobody, or nobody who reads
            async with asyncio.timeout(_connections(exchange).pace.farewell):
                await answer.end(last)

    async def _stream(self, exchange: Exchange, asked: Asked, answer: _Answer) -> bytes:
        """All events but for what is said last, which it gives."""
        resources, caller, operations = exchange.resources, exchange.caller, self.operations
        context = operations.context(resources, caller, body_bytes=asked.size, meter=exchange.meter)
        allowed = _BY_GET if exchange.scope["method"] == "GET" else ALL_KINDS
        prepared = await operations.prepare(asked.request, context, allowed)
        async with self.streams.payloads(prepared) as payloads:
            await answer.begin()
            return await _last_word(payloads, exchange, answer.outlet)


@dataclass(slots=True)
class _Answer:
    """A response that goes on, begun when there is something to say."""

    outlet: Outlet
    headers: tuple[Header, ...]
    is_begun: bool = False

    async def begin(self) -> None:
        """Send the head, and a first comment that takes it through proxies."""
        # A list, as middleware adds to it.
        head = {"type": "http.response.start", "status": 200, "headers": [*self.headers]}
        await self.outlet(head)
        self.is_begun = True
        await self.outlet(_body(_ALIVE))

    async def end(self, last: bytes) -> None:
        """Send the last word, after the head where that is not out yet."""
        if not self.is_begun:
            await self.begin()
        await self.outlet(_body(last, more_body=False))


async def _last_word(payloads: AsyncIterator[str], exchange: Exchange, outlet: Outlet) -> bytes:
    """What is left to be said when all events are out; raises `PeerGone`."""
    try:
        await _pass_on(payloads, exchange, outlet)
    except KeyEnded:
        return _refusal([coded(Code.UNAUTHENTICATED, "the API key is not valid any more")])
    except Ended:
        return b""  # not complete: a client that still wants the events connects anew
    return _COMPLETE


async def _pass_on(payloads: AsyncIterator[str], exchange: Exchange, outlet: Outlet) -> None:
    connections = _connections(exchange)
    try:
        async with asyncio.TaskGroup() as tasks:
            connection = Connection(key_of(exchange.headers), exchange.caller, outlet, tasks)
            with connections.watching(connection):
                beside = (
                    tasks.create_task(_until_gone(exchange.receive)),
                    tasks.create_task(_say_alive(outlet, connections.pace)),
                )
                async for payload in payloads:
                    await outlet(_body(_next(payload)))
                for task in beside:
                    task.cancel()
    except ExceptionGroup as several:
        # The first one made the others end.
        raise several.exceptions[0] from None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise PeerGone


async def _say_alive(outlet: Outlet, pace: Pace) -> None:
    while True:
        await asyncio.sleep(pace.comment)
        await outlet(_body(_ALIVE))


def _refusal(errors: Sequence[GraphQLError]) -> bytes:
    """Why there is no more, and that there is no more."""
    return _next(Payload.of_errors(errors).text) + _COMPLETE


def _next(payload: str) -> bytes:
    return f"event: next\ndata: {payload}\n\n".encode()


def _body(data: bytes, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def _connections(exchange: Exchange) -> Connections:
    found: Connections = exchange.scope["state"]["connections"]
    return found
