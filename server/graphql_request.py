"""GraphQL requests as they come by HTTP: read, checked for their form, and not yet understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from data.resources import Resources
from resolvers.context import Caller
from resolvers.rate_limits import Meter
from schema.operations import Request
from server.bodies import read_body
from server.negotiation import JSON, media_type_of
from server.responses import Header

Headers = Mapping[bytes, bytes]

_decode = msgspec.json.Decoder().decode

_PARAMETERS = frozenset({"query", "operationName", "variables", "extensions", "documentId"})
_MAX_PARAMETERS = 50

# A page of another origin cannot send these, or a content type beyond the three that forms have,
# without the browser asking us first (CORS). See docs/decisions/0013.
_PREFLIGHT_HEADERS = (
    b"x-apollo-operation-name",
    b"apollo-require-preflight",
    b"graphql-require-preflight",
)
_FORM_TYPES = frozenset(
    {b"", b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"}
)
_KEY_HEADERS = (b"x-api-key", b"authorization")


class BadRequest(Exception):
    """A request that cannot be taken, with its HTTP status."""

    def __init__(self, status: int, message: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class IllFormed(BadRequest):
    """It can be read, but it is no GraphQL request."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


# Both are structs, as every request makes one of each: frozen data classes take six times as long.
class Exchange(msgspec.Struct, frozen=True):
    """One HTTP exchange from a known caller, to be answered in a media type both agree on."""

    scope: Scope
    receive: Receive
    send: Send
    headers: Headers
    media_type: bytes
    caller: Caller
    meter: Meter | None = None

    @property
    def resources(self) -> Resources:
        """What the lifespan opened."""
        resources: Resources = self.scope["state"]["resources"]
        return resources


class Asked(msgspec.Struct, frozen=True):
    """What a client asks for. `size` is in bytes, as it came or decompressed."""

    request: Request
    size: int

    @property
    def is_by_name(self) -> bool:
        """The document is one that the service knows; its text was not sent."""
        request = self.request
        named = request.document_id or request.extensions.get("persistedQuery")
        return request.query is None and named is not None


def key_of(headers: Headers) -> str | None:
    """The API key that came along, from either header."""
    if key := headers.get(b"x-api-key"):
        return key.decode("latin-1").strip()
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_preflighted(headers: Headers, *, by_key: bool) -> bool:
    """Whether a browser would have asked before sending this for a page of another origin.

    `by_key`: a header with a key counts too. It does only where no proxy might have added it.
    """
    for name in _PREFLIGHT_HEADERS + _KEY_HEADERS if by_key else _PREFLIGHT_HEADERS:
        if headers.get(name):
            return True
    return media_type_of(headers.get(b"content-type", b"")).essence not in _FORM_TYPES


def asks_nothing(query_string: bytes) -> bool:
    """Whether none of a GraphQL request's parameters is given."""
    return _PARAMETERS.isdisjoint(name for name, _ in parse_qsl(query_string.decode("latin-1")))


async def read_post(headers: Headers, receive: Receive) -> Asked:
    """What a POST asks for; raises `BadRequest`, `BodyProblem` or `ClientGone`."""
    sent_type = media_type_of(headers.get(b"content-type", b""))
    if sent_type.essence != JSON:
        raise BadRequest(415, "the content type must be application/json")
    if sent_type.charset not in (b"", b"utf-8", b"utf8"):
        raise BadRequest(415, "the charset must be utf-8")
    body = await read_body(headers, receive)
    sent = _json(body, "the body")
    if not isinstance(sent, dict):
        raise IllFormed("the body must be an object; batches are not taken")
    return Asked(_request(sent), len(body))


def read_get(query_string: bytes) -> Asked:
    """What the query string of a GET asks for; an empty value is as good as none."""
    try:
        pairs = parse_qsl(query_string.decode(), max_num_fields=_MAX_PARAMETERS, errors="strict")
    except ValueError:
        raise BadRequest(400, "the query string must be UTF-8, with few parameters") from None
    sent: dict[str, Any] = {}
    for name, value in pairs:
        if name in sent and name in _PARAMETERS:
            raise IllFormed(f"{name} stands in the query string twice")
        sent[name] = value
    for name in ("variables", "extensions"):
        if name in sent:
            sent[name] = _json(sent[name], name)
    return Asked(_request(sent), len(query_string))


def _json(text: bytes | str, name: str) -> object:
    try:
        value: object = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(400, f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest(400, f"{name} is nested too deep") from None
    return value


def _request(sent: Mapping[str, Any]) -> Request:
    query, document_id = _text(sent, "query"), _text(sent, "documentId")
    extensions = _object(sent, "extensions") or {}
    if not (query or document_id or extensions.get("persistedQuery") is not None):
        raise IllFormed("query is missing: send a GraphQL document")
    return Request(
        query=query,
        variables=_object(sent, "variables"),
        operation_name=_text(sent, "operationName"),
        extensions=extensions,
        document_id=document_id,
    )


def _text(sent: Mapping[str, Any], name: str) -> str | None:
    """A parameter that is a text. An empty one says no more than none."""
    value = sent.get(name)
    if value is not None and not isinstance(value, str):
        raise IllFormed(f"{name} must be a text")
    return value or None


def _object(sent: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = sent.get(name)
    if value is not None and not isinstance(value, dict):
        raise IllFormed(f"{name} must be an object")
    return value
