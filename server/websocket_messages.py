"""The messages of `graphql-transport-ws`: what clients may say, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from graphql import GraphQLError
from starlette.types import Message

from schema.operations import Request
from server.connections import Ended, PeerGone

SUBPROTOCOL = "graphql-transport-ws"
MAX_MESSAGE_BYTES = 2**20
# What RFC 6455 leaves for the reason of a close.
_MAX_REASON_BYTES = 123

ACKNOWLEDGED = '{"type":"connection_ack"}'

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Init:
    """Who the client is: the key in the message, if there is one."""

    key: str | None


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong of the same payload."""

    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer, or a sign of life that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """An operation to be executed; `size` is that of the message, in characters."""

    id: str
    request: Request
    size: int


@dataclass(frozen=True, slots=True)
class Complete:
    """The client no longer wants to hear of an operation."""

    id: str


ClientMessage = Init | Ping | Pong | Subscribe | Complete


def malformed(reason: str) -> Ended:
    """The end of a connection whose client does not speak the protocol."""
    return Ended(4400, reason)


def read_message(event: Message) -> ClientMessage:
    """What a client says; raises `Ended` where it is not a message, and `PeerGone`."""
    if event["type"] == "websocket.disconnect":
        raise PeerGone
    text = event.get("text")
    if text is None:
        raise malformed("Invalid message: send text, not binary frames")
    if len(text) > MAX_MESSAGE_BYTES or _bytes_of(text) > MAX_MESSAGE_BYTES:
        raise malformed(f"Invalid message: it is larger than {MAX_MESSAGE_BYTES} bytes")
    try:
        sent = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise malformed("Invalid message: it is not JSON") from None
    if not isinstance(sent, dict):
        raise malformed("Invalid message: it is not an object")
    read = _READERS.get(sent["type"]) if isinstance(sent.get("type"), str) else None
    if read is None:
        raise malformed("Invalid message: a client sends no such type")
    return read(sent, len(text))


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _init(sent: Mapping[str, Any], _: int) -> Init:
    payload = _optional(sent, "payload", dict) or {}
    named = {str(name).lower(): value for name, value in payload.items()}
    for name in ("x-api-key", "apikey"):
        if isinstance(named.get(name), str):
            return Init(named[name].strip())
    return Init(_bearer(named.get("authorization")))


def _bearer(value: object) -> str | None:
    scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else None


def _ping(sent: Mapping[str, Any], _: int) -> Ping:
    return Ping(_optional(sent, "payload", dict))


def _pong(sent: Mapping[str, Any], _: int) -> Pong:
    _optional(sent, "payload", dict)
    return Pong()


def _subscribe(sent: Mapping[str, Any], size: int) -> Subscribe:
    payload = sent.get("payload")
    if not isinstance(payload, dict):
        raise malformed("Invalid message: payload must be an object")
    request = Request(
        query=_optional(payload, "query", str) or None,
        variables=_optional(payload, "variables", dict),
        operation_name=_optional(payload, "operationName", str) or None,
        extensions=_optional(payload, "extensions", dict) or {},
        document_id=_optional(payload, "documentId", str) or None,
    )
    persisted = request.extensions.get("persistedQuery")
    if request.query is None and request.document_id is None and persisted is None:
        raise malformed("Invalid message: payload has no query")
    return Subscribe(_id(sent), request, size)


def _complete(sent: Mapping[str, Any], _: int) -> Complete:
    return Complete(_id(sent))


def _id(sent: Mapping[str, Any]) -> str:
    given = sent.get("id")
    if not isinstance(given, str) or not given:
        raise malformed("Invalid message: id must be a text that is not empty")
    return given


def _optional(sent: Mapping[str, Any], name: str, kind: type) -> Any:
    value = sent.get(name)
    if value is not None and not isinstance(value, kind):
        what = "an object" if kind is dict else "a text"
        raise malformed(f"Invalid message: {name} must be {what}")
    return value


_READERS: Mapping[str, Callable[[Mapping[str, Any], int], ClientMessage]] = {
    "connection_init": _init,
    "ping": _ping,
    "pong": _pong,
    "subscribe": _subscribe,
    "complete": _complete,
}


def pong(ping: Ping) -> str:
    """The answer to a ping."""
    payload = {} if ping.payload is None else {"payload": ping.payload}
    return _encode({"type": "pong", **payload}).decode()


def next_start(id: str) -> str:
    """A `next` message up to its payload; behind that comes nothing but a brace.

    Payloads are ready texts that many connections share; only the id differs.
    """
    return f'{{"id":{_encode(id).decode()},"type":"next","payload":'


def complete(id: str) -> str:
    """An operation has told everything."""
    return _encode({"id": id, "type": "complete"}).decode()


def error(id: str, errors: Sequence[GraphQLError]) -> str:
    """An operation was not executed, for these reasons."""
    payload = [error.formatted for error in errors]
    return _encode({"id": id, "type": "error", "payload": payload}).decode()


def close(why: Ended) -> Message:
    """The end of the connection, with as much of the reason as there is room for."""
    reason = why.reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
    return {"type": "websocket.close", "code": why.code, "reason": reason}
