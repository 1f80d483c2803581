"""GraphQL over HTTP: one thin ASGI view over the operations of the schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from graphql import ExecutionResult, GraphQLError
from starlette.types import ASGIApp, Receive, Scope, Send

from data.resources import Resources
from resolvers.access import authenticate
from resolvers.errors import (
    Code,
    Overloaded,
    RateLimited,
    Refusal,
    Unauthenticated,
    Unavailable,
)
from resolvers.rate_limits import Meter
from schema.cache_hints import max_age_of, max_ages_of
from schema.operations import Operations, Prepared, Reason, RequestRefused
from schema.presenting import coded, refused, unexpected
from schema.shared_streams import SharedStreams
from server.abandoned import WhileAwaited
from server.bodies import BodyProblem, ClientGone, packed
from server.failed_logins import note_login_failure
from server.graphql_request import (
    Asked,
    BadRequest,
    Exchange,
    Headers,
    IllFormed,
    asks_nothing,
    is_preflighted,
    key_of,
    read_get,
    read_post,
)
from server.metering import meter_of, telling
from server.negotiation import EVENT_STREAM, HTML, JSON, RESPONSE, preferred
from server.response_cache import Kept, Key, ResponseCache, Wish, send_kept, wish_of
from server.responses import Answer, Header, encode_json, send_answer
from server.settings import Network
from server.sse import EventStreams
from server.statuses import (
    StatusProfile,
    executed_status,
    ill_formed_status,
    labelled,
    refused_status,
)
from telemetry.metrics import OperationType

# What sends an answer by itself, as soon as it is called.
Sending = Callable[[], Awaitable[None]]

_ON_ALL: tuple[Header, ...] = ((b"vary", b"Accept, Accept-Encoding, Authorization, X-API-Key"),)
_NO_STORE: Header = (b"cache-control", b"no-store")
_ALLOW: Header = (b"allow", b"GET, POST")
_ALLOW_POST: Header = (b"allow", b"POST")
_CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="footfall"')
_OFFERED = (JSON, RESPONSE, EVENT_STREAM)
_PLAIN = b"application/json; charset=utf-8"

_BY_GET: frozenset[OperationType] = frozenset({"query"})
_BY_POST: frozenset[OperationType] = frozenset({"query", "mutation"})

_SEND_PREFLIGHTED = (
    "a GET must show that no page of another origin sent it: add the header "
    "GraphQL-Require-Preflight: 1, or use POST"
)
_NO_MUTATION = "only queries can be asked by GET"
_NO_SUBSCRIPTION = (
    "a subscription needs a connection that stays open: accept text/event-stream, or use "
    "WebSocket with graphql-transport-ws"
)


@dataclass(frozen=True, slots=True)
class View:
    """What differs between places where the view is used.

    `keys_preflight`: a header with a key shows that a GET is no page's of another origin. `page`
    is what a browser sees that asks for nothing.
    """

    profile: StatusProfile = "compatible"
    trusted_proxies: Sequence[Network] = ()
    keys_preflight: bool = False
    page: ASGIApp | None = None


class GraphQL:
    """The ASGI endpoint. The resources come with the lifespan's state."""

    def __init__(self, operations: Operations, streams: SharedStreams, view: View) -> None:
        self.operations = operations
        self.stream = EventStreams(operations, streams, _ON_ALL)
        self.view = view
        self.cache = ResponseCache()
        self.max_ages = max_ages_of(operations.schema)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        if self.view.page is not None and _wants_page(scope, headers):
            await self.view.page(scope, receive, send)
            return
        media_type = preferred(headers.get(b"accept", b""), _OFFERED)
        meter: Meter | None = None
        try:
            meter = meter_of(scope, self.view.trusted_proxies)
            send = send if meter is None else telling(send, meter)
            _require_served(scope["method"], media_type)
            resources: Resources = scope["state"]["resources"]
            caller = await authenticate(resources, key_of(headers), resources.clock())
            if meter is not None:
                meter.key_id = caller.key_id
            exchange = Exchange(scope, receive, send, headers, media_type or JSON, caller, meter)
            answer = await (self._get if scope["method"] == "GET" else self._post)(exchange)
        except Refusal as refusal:
            self._note(refusal, scope)
            answer = self._refused([refused(refusal)], Reason.REQUEST, media_type)
        except BadRequest as bad:
            answer = self._bad(bad)
        except BodyProblem as problem:
            answer = self._bad(BadRequest(problem.status, problem.message))
        except ClientGone:
            # Nobody hears it.
            answer = self._bad(BadRequest(400, "the client has gone"))
        except Exception as error:  # noqa: BLE001 - whatever it is, a client gets an answer
            answer = self._crashed(error)
        if isinstance(answer, Answer):
            if meter is not None:
                answer = await self._counted(meter, answer, media_type)
            answer = await packed(answer, headers.get(b"accept-encoding", b""))
            await send_answer(send, answer, _ON_ALL)
        else:
            await answer()

    def _note(self, refusal: Refusal, scope: Scope) -> None:
        """Count a key that was no good."""
        if isinstance(refusal, Unauthenticated):
            key = key_of(dict(scope["headers"]))
            note_login_failure(scope, key, self.view.trusted_proxies)

    async def _counted(self, meter: Meter, answer: Answer, media_type: bytes | None) -> Answer:
        """The answer; where the request came to nothing, unless there are too many of those."""
        try:
            await meter.count("query")
        except RateLimited as limited:
            return self._refused([refused(limited)], Reason.THROTTLED, media_type)
        return answer

    async def _post(self, exchange: Exchange) -> Answer | Sending:
        asked = await read_post(exchange.headers, exchange.receive)
        if exchange.media_type == EVENT_STREAM:
            return partial(self.stream, exchange, asked)
        try:
            prepared = await self._prepared(exchange, asked, _BY_POST)
        except RequestRefused as refusal:
            return self._not_run(refusal, exchange)
        result = await self._result(exchange, prepared)
        return self._executed(result, exchange.media_type)

    async def _get(self, exchange: Exchange) -> Answer | Sending:
        headers, query_string = exchange.headers, exchange.scope["query_string"]
        if exchange.meter is not None:
            await exchange.meter.count("query")
        preflighted = is_preflighted(headers, by_key=self.view.keys_preflight)
        wish = wish_of(headers.get(b"cache-control"), headers.get(b"pragma"))
        key = (exchange.caller.key_id, exchange.media_type, query_string)
        at = monotonic()
        kept = self.cache.fresh(key, at, wish)
        if kept is not None and (preflighted or kept.is_by_name):
            age = (b"age", b"%d" % (at - kept.made_at))
            return partial(send_kept, exchange.send, kept, headers, (age, *_ON_ALL))
        asked = read_get(query_string)
        if not (preflighted or asked.is_by_name):
            raise BadRequest(400, _SEND_PREFLIGHTED)
        if exchange.media_type == EVENT_STREAM:
            return partial(self.stream, exchange, asked)
        found = await self._shared(exchange, asked, key, wish)
        if isinstance(found, Answer):
            return found
        return partial(send_kept, exchange.send, found, headers, _ON_ALL)

    async def _shared(
        self, exchange: Exchange, asked: Asked, key: Key, wish: Wish
    ) -> Kept | Answer:
        """The answer to a GET, together with whoever asks for the same at the moment."""
        shared = None if wish.is_for_new else await self.cache.shared(key)
        if shared is not None:
            return shared
        async with self.cache.flight(key) as flight:
            try:
                prepared = await self._prepared(exchange, asked, _BY_GET)
            except RequestRefused as refusal:
                return self._not_run(refusal, exchange)
            max_age = self._max_age(prepared)
            if not max_age:
                flight.set_result(None)
            made_at = monotonic()
            result = await self._result(exchange, prepared, with_throttle=not max_age)
            if result.errors or not max_age:
                return self._executed(result, exchange.media_type)
            content_type = labelled(exchange.media_type, 200, self.view.profile)
            kept = Kept(
                encode_json(_body(result)), content_type, max_age, made_at, asked.is_by_name
            )
            if wish.may_keep:
                self.cache.keep(key, kept)
                flight.set_result(kept)
            return kept

    async def _prepared(
        self, exchange: Exchange, asked: Asked, allowed: frozenset[OperationType]
    ) -> Prepared:
        headers = exchange.headers
        wish = wish_of(headers.get(b"cache-control"), headers.get(b"pragma"))
        context = self.operations.context(
            exchange.resources,
            exchange.caller,
            body_bytes=asked.size,
            wants_new=wish.is_for_new,
            meter=exchange.meter,
        )
        return await self.operations.prepare(asked.request, context, allowed)

    async def _result(
        self, exchange: Exchange, prepared: Prepared, *, with_throttle: bool = True
    ) -> ExecutionResult:
        """The result; a question ends with its asker, a change once begun does not."""
        if prepared.kind != "query":
            return await self.operations.execute(prepared, with_throttle=with_throttle)
        with WhileAwaited(exchange.receive):
            return await self.operations.execute(prepared, with_throttle=with_throttle)

    def _max_age(self, prepared: Prepared) -> int:
        if prepared.is_dry_run:
            return 0
        return max_age_of(self.max_ages, prepared.document.ast, prepared.operation.node)

    def _not_run(self, refusal: RequestRefused, exchange: Exchange) -> Answer:
        if refusal.reason is Reason.METHOD:
            if refusal.kind == "mutation":
                return self._bad(BadRequest(405, _NO_MUTATION, (_ALLOW_POST,)))
            return self._bad(BadRequest(400, _NO_SUBSCRIPTION))
        return self._refused(refusal.errors, refusal.reason, exchange.media_type)

    def _refused(
        self, errors: Sequence[GraphQLError], reason: Reason, media_type: bytes | None
    ) -> Answer:
        # Where no answer was begun that a stream could end, a refusal is plain JSON.
        profile, spoken = self.view.profile, RESPONSE if media_type == RESPONSE else JSON
        hindered = _hindrance(errors)
        status, headers = hindered or (refused_status(reason, spoken, profile), ())
        body = encode_json({"errors": [error.formatted for error in errors]})
        return Answer(status, body, labelled(spoken, status, profile), (_NO_STORE, *headers))

    def _executed(self, result: ExecutionResult, media_type: bytes) -> Answer:
        errors = result.errors or ()
        status, headers = _hindrance(errors) or (None, ())
        if status is None or result.data:
            has_errors = bool(errors)
            status = executed_status(media_type, self.view.profile, has_errors=has_errors)
        content_type = labelled(media_type, status, self.view.profile)
        return Answer(status, encode_json(_body(result)), content_type, (_NO_STORE, *headers))

    def _crashed(self, error: Exception) -> Answer:
        body = encode_json({"errors": [unexpected(error).formatted]})
        return Answer(500, body, _PLAIN, (_NO_STORE,))

    def _bad(self, bad: BadRequest) -> Answer:
        is_ill = isinstance(bad, IllFormed)
        status = ill_formed_status(self.view.profile) if is_ill else bad.status
        error = coded(Code.BAD_USER_INPUT, bad.message)
        body = encode_json({"errors": [error.formatted]})
        return Answer(status, body, _PLAIN, (_NO_STORE, *bad.headers))


def _require_served(method: str, media_type: bytes | None) -> None:
    if method not in ("GET", "POST"):
        raise BadRequest(405, "use GET or POST", (_ALLOW,))
    if media_type is None:
        offered = b" or ".join(_OFFERED).decode()
        raise BadRequest(406, f"the Accept header must allow {offered}")


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether a browser came by hand: it wants HTML most, and asks for nothing."""
    return (
        scope["method"] == "GET"
        and preferred(headers.get(b"accept", b""), (JSON, RESPONSE, HTML)) == HTML
        and asks_nothing(scope["query_string"])
    )


def _hindrance(errors: Iterable[GraphQLError]) -> tuple[int, tuple[Header, ...]] | None:
    """Status and headers where not the request is at fault but its sender or its moment."""
    for error in errors:
        cause = error.original_error
        if isinstance(cause, Unauthenticated):
            return 401, (_CHALLENGE,)
        if isinstance(cause, (Overloaded, Unavailable, RateLimited)):
            retry_after = (b"retry-after", b"%d" % cause.retry_after)
            return 429 if isinstance(cause, RateLimited) else 503, (retry_after,)
    return None


def _body(result: ExecutionResult) -> dict[str, object]:
    body: dict[str, object] = {"data": result.data}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        body["extensions"] = result.extensions
    return body
