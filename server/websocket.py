"""GraphQL over WebSocket: `graphql-transport-ws`, the protocol of the npm package graphql-ws."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
from graphql import GraphQLError
from starlette.types import Receive, Scope, Send

from data.resources import Resources
from resolvers.access import authenticate
from resolvers.context import Caller
from resolvers.errors import Code, Overloaded, RateLimited, Refusal, Unauthenticated
from resolvers.rate_limits import Meter
from schema.operations import Operations, RequestRefused
from schema.presenting import coded, refused, unexpected
from schema.shared_streams import SharedStreams
from server import websocket_messages as messages
from server.connections import Connection, Connections, Ended, Outlet, PeerGone
from server.failed_logins import note_login_failure
from server.graphql_request import key_of
from server.metering import meter_of
from server.middleware import Guards
from server.responses import encode_json
from server.settings import Network
from server.websocket_messages import ClientMessage, Complete, Init, Ping, Subscribe
from telemetry.logs import bind_correlation_id, current_correlation_id, new_correlation_id

log = structlog.get_logger()

# So many operations go on at once over one connection.
MAX_OPERATIONS = 100

_TOO_MANY = refused(
    Overloaded(
        f"{MAX_OPERATIONS} operations go on over this connection: complete one, or open another"
    )
)
_PATH = "/graphql"
_NOT_WELCOME = coded(
    Code.FORBIDDEN, "pages of this origin may not connect; CORS_ORIGINS says which may"
)
_NOTHING_HERE = coded(Code.NOT_FOUND, f"connect to {_PATH}")


@dataclass(frozen=True, slots=True)
class WebSocket:
    """The ASGI endpoint of all WebSockets, whatever their path: a refusal is guarded, too.

    `connections` and `resources` come with the lifespan's state.
    """

    operations: Operations
    streams: SharedStreams
    origins: Collection[str] = ()
    trusted_proxies: Sequence[Network] = ()
    guards: Guards = field(default_factory=Guards)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = Outlet(send)
        await receive()  # websocket.connect
        # Whatever is said, the peer may have left before it.
        with suppress(PeerGone), bind_correlation_id(new_correlation_id()):
            if scope["path"] != _PATH:
                await _refuse(scope, outlet, 404, self.guards, _NOTHING_HERE)
            elif not _is_welcome(dict(scope["headers"]), self.origins):
                await _refuse(scope, outlet, 403, self.guards, _NOT_WELCOME)
            elif messages.SUBPROTOCOL not in scope["subprotocols"]:
                await outlet({"type": "websocket.accept"})
                await outlet(messages.close(Ended(4406, "Subprotocol not acceptable")))
            else:
                await _Socket(self, scope, receive, outlet).run()


def _is_welcome(headers: dict[bytes, bytes], origins: Collection[str]) -> bool:
    """Whether a page of this origin may connect; programs that are no browsers send none."""
    sent = headers.get(b"origin")
    if sent is None or "*" in origins:
        return True
    origin = sent.decode("latin-1").strip().rstrip("/").lower()
    if origin in {one.lower() for one in origins}:
        return True
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(netloc) and netloc == headers.get(b"host", b"").decode("latin-1").strip().lower()


async def _refuse(
    scope: Scope, outlet: Outlet, status: int, guards: Guards, error: GraphQLError
) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await outlet({"type": "websocket.close"})  # a server makes 403 of it
        return
    body = encode_json({"errors": [error.formatted]})
    headers = [(b"content-type", b"application/json"), *guards.of(scope)]
    await outlet({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await outlet({"type": "websocket.http.response.body", "body": body})


@dataclass(slots=True, eq=False)
class _Socket:
    """One WebSocket from its acceptance to its end. `running` has its operations by their ids."""

    endpoint: WebSocket
    scope: Scope
    receive: Receive
    outlet: Outlet
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Talk until one side ends it; the service never does without a code and a reason.

        Raises `PeerGone` where the other side did.
        """
        try:
            subprotocol = messages.SUBPROTOCOL
            await self.outlet({"type": "websocket.accept", "subprotocol": subprotocol})
            await self._converse(*await self._greet())
        except PeerGone:
            raise
        except Ended as why:
            await self._close(why)
        except Exception:
            log.exception("websocket.crashed")
            correlation_id = current_correlation_id()
            await self._close(Ended(1011, f"Something went wrong; the log has {correlation_id}"))

    async def _close(self, why: Ended) -> None:
        # A peer that reads nothing does not get to know; the server then drops the connection.
        with suppress(PeerGone, TimeoutError):
            async with asyncio.timeout(self._connections.pace.farewell):
                await self.outlet(messages.close(why))

    async def _greet(self) -> tuple[str | None, Caller]:
        """Key and caller, as soon as the client has said who it is."""
        try:
            async with asyncio.timeout(self._connections.pace.greeting):
                while not isinstance(message := await self._hear(), Init):
                    if isinstance(message, Subscribe):
                        raise Ended(4401, "Unauthorized")
                    if isinstance(message, Ping):
                        await self._say(messages.pong(message))
                key = message.key or key_of(dict(self.scope["headers"]))
                return key, await self._counted_caller(key)
        except TimeoutError:
            raise Ended(4408, "Connection initialisation timeout") from None

    async def _counted_caller(self, key: str | None) -> Caller:
        """The caller who opens the connection, which counts, whether or not the key is good."""
        meter = meter_of(self.scope, self.endpoint.trusted_proxies)
        try:
            caller = await self._caller(key)
            if meter is not None:
                meter.key_id = caller.key_id
            return caller
        finally:
            if meter is not None:
                await self._count(meter)

    async def _count(self, meter: Meter) -> None:
        try:
            await meter.count("query")
        except RateLimited as limited:
            raise Ended(1013, f"Try again later: {limited.message}") from None

    async def _caller(self, key: str | None) -> Caller:
        try:
            return await authenticate(self._resources, key, self._resources.clock())
        except Unauthenticated:
            note_login_failure(self.scope, key, self.endpoint.trusted_proxies)
            raise Ended(4403, "Forbidden") from None
        except Refusal as refusal:
            raise Ended(1013, f"Try again later: {refusal.message}") from None

    async def _converse(self, key: str | None, caller: Caller) -> None:
        """Execute what the client asks for; whatever is still going on ends with the talk."""
        try:
            async with asyncio.TaskGroup() as tasks:
                connection = Connection(key, caller, self.outlet, tasks)
                with self._connections.watching(connection):
                    await self._say(messages.ACKNOWLEDGED)
                    while True:
                        await self._act_on(await self._hear(), connection)
        except ExceptionGroup as several:
            # The first one made the others end.
            raise several.exceptions[0] from None

    async def _act_on(self, message: ClientMessage, connection: Connection) -> None:
        match message:
            case Init():
                raise Ended(4429, "Too many initialisation requests")
            case Ping():
                await self._say(messages.pong(message))
            case Complete():
                if task := self.running.pop(message.id, None):
                    task.cancel()
            case Subscribe():
                await self._start(message, connection)

    async def _start(self, asked: Subscribe, connection: Connection) -> None:
        if asked.id in self.running:
            raise Ended(4409, f"Subscriber for {asked.id} already exists")
        if len(self.running) >= MAX_OPERATIONS:
            await self._say(messages.error(asked.id, [_TOO_MANY]))
            return
        # Asked for each operation, so that a key that has ended can do nothing more.
        caller = await self._caller(connection.key)
        operating = self._operate(asked, caller)
        self.running[asked.id] = connection.tasks.create_task(operating)

    async def _operate(self, asked: Subscribe, caller: Caller) -> None:
        with bind_correlation_id(new_correlation_id()):
            try:
                await self._execute(asked, caller)
                last = messages.complete(asked.id)
            except PeerGone:
                raise
            except RequestRefused as refusal:
                last = messages.error(asked.id, refusal.errors)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the client gets an answer
                last = messages.error(asked.id, [unexpected(failure)])
        # First, as the client may use the id again as soon as it has the message.
        if self.running.get(asked.id) is asyncio.current_task():
            del self.running[asked.id]
        await self._say(last)

    async def _execute(self, asked: Subscribe, caller: Caller) -> None:
        operations, start = self.endpoint.operations, messages.next_start(asked.id)
        meter = meter_of(self.scope, self.endpoint.trusted_proxies, caller.key_id)
        context = operations.context(self._resources, caller, body_bytes=asked.size, meter=meter)
        prepared = await operations.prepare(asked.request, context)
        async with self.endpoint.streams.payloads(prepared) as payloads:
            async for payload in payloads:
                await self._say(f"{start}{payload}}}")

    async def _hear(self) -> ClientMessage:
        return messages.read_message(await self.receive())

    async def _say(self, text: str) -> None:
        await self.outlet({"type": "websocket.send", "text": text})

    @property
    def _resources(self) -> Resources:
        found: Resources = self.scope["state"]["resources"]
        return found

    @property
    def _connections(self) -> Connections:
        found: Connections = self.scope["state"]["connections"]
        return found
