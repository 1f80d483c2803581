"""`/collect`: events from pages, by pixel or by POST, without a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from starlette.types import Receive, Scope, Send

from data.events import Event, Rejection
from data.postgres.engine import LedgerUnavailable
from data.postgres.sites import Site
from data.resources import Resources
from resolvers.errors import BadUserInput, Overloaded, RateLimited, Refusal, Unavailable
from resolvers.ingest import Door, Outcome, require_batch_size, take_in
from resolvers.pipeline import Arrival
from resolvers.sites import may_send
from resolvers.visitors import visitor_id
from server.addresses import client_address
from server.bodies import BodyProblem, ClientGone, read_body
from server.metering import meter_of, telling
from server.responses import Answer, Header, encode_json, send_answer
from server.settings import Network
from telemetry.metrics import IngestWay

# One transparent pixel: GIF89a, 1x1, two colours, the first of them see-through.
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
_NOT_KEPT: tuple[Header, ...] = ((b"cache-control", b"no-store"),)

# Short names as pixels carry them, and the names of `EventInput`, to those of the pipeline.
_NAMES = {
    "id": "event_id",
    "eventId": "event_id",
    "event": "event_type",
    "eventType": "event_type",
    "occurredAt": "occurred_at",
    "timestamp": "occurred_at",
    "user": "user_id",
    "userId": "user_id",
    "visitor": "visitor_id",
    "visitorId": "visitor_id",
    "session": "session_id",
    "sessionId": "session_id",
    "ref": "referrer",
    "props": "properties",
    "siteId": "site_id",
    "site": "site_id",
}

_decode = msgspec.json.Decoder().decode


class Refused(Exception):
    """Why nothing of a request is taken, with the HTTP status that says so."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


# What browsers say of a page that has none; only a site that takes all pages takes it.
_NO_ORIGIN = "null"


@dataclass(frozen=True, slots=True)
class _Request:
    """What a request says besides its events."""

    headers: Mapping[bytes, bytes]
    address: str
    way: IngestWay
    size: int = 0

    @property
    def origin(self) -> str | None:
        """The page's origin, as its browser tells; None for senders that are no browsers."""
        if origin := self.headers.get(b"origin"):
            return origin.decode("latin-1")
        if self.way != "pixel":
            return None
        # Browsers send no Origin with an image, but they do say on which page it is.
        try:
            parts = urlsplit(self.headers.get(b"referer", b"").decode("latin-1"))
        except ValueError:
            return _NO_ORIGIN
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None


class Collect:
    """The ASGI endpoint. The resources come with the lifespan's state."""

    def __init__(self, trusted_proxies: Sequence[Network]) -> None:
        self.trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        resources: Resources = scope["state"]["resources"]
        headers = dict(scope["headers"])
        method = scope["method"]
        meter = meter_of(scope, self.trusted_proxies) if method in ("GET", "POST") else None
        if meter is not None:
            send = telling(send, meter)
            try:
                await meter.count("ingest")
            except RateLimited as limited:
                await send_answer(send, _turned_away(method, headers, limited))
                return
        if method == "POST":
            answer = await self._post(resources, scope, headers, receive)
        elif method in ("GET", "HEAD"):
            answer = await self._pixel(resources, scope, headers)
        elif method == "OPTIONS":
            answer = await _preflight(resources, headers)
        else:
            allow = ((b"allow", b"GET, HEAD, POST, OPTIONS"),)
            answer = Answer(405, _error("METHOD_NOT_ALLOWED", "use GET or POST"), headers=allow)
        await send_answer(send, answer)

    async def _pixel(
        self, resources: Resources, scope: Scope, headers: Mapping[bytes, bytes]
    ) -> Answer:
        """Always the same image; a header says why an event was not taken."""
        if scope["method"] == "HEAD":
            return Answer(200, b"", b"image/gif", _NOT_KEPT)
        query = scope["query_string"]
        address = client_address(scope, self.trusted_proxies)
        request = _Request(headers, address, "pixel", len(query))
        try:
            outcome = await _take(resources, request, [_pixel_event(query)], None)
            reason = next((r.message for r in outcome.results if isinstance(r, Rejection)), None)
        except Refused as refused:
            reason = refused.message
        except Refusal as refusal:
            reason = refusal.message
        return _pixel_answer(reason)

    async def _post(
        self,
        resources: Resources,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> Answer:
        address = client_address(scope, self.trusted_proxies)
        request = _Request(headers, address, "collect")
        cors = _cors(headers)
        try:
            body = await read_body(headers, receive)
            events, site_id, is_batch = _parse(body)
            site_id = site_id or dict(parse_qsl(scope["query_string"].decode("latin-1"))).get(
                "site"
            )
            outcome = await _take(resources, replace(request, size=len(body)), events, site_id)
        except ClientGone:
            return Answer(400, _error("CLIENT_GONE", "the body did not arrive whole"))
        except BodyProblem as problem:
            code = "BODY_TOO_LARGE" if problem.status == 413 else "BAD_BODY"
            return Answer(problem.status, _error(code, problem.message), headers=cors)
        except Refused as refused:
            # A page of a foreign origin may not even read why.
            allowed = () if refused.status == 403 else cors
            return Answer(refused.status, _error(refused.code, refused.message), headers=allowed)
        except BadUserInput as bad:
            return Answer(400, _error(bad.code.value, bad.message), headers=cors)
        except (Overloaded, Unavailable) as busy:
            wait = ((b"retry-after", str(busy.retry_after).encode()),)
            return Answer(503, _error(busy.code.value, busy.message), headers=(*cors, *wait))
        answer = _batch_answer(outcome) if is_batch else _single_answer(outcome)
        return msgspec.structs.replace(answer, headers=cors)


def _pixel_answer(reason: str | None) -> Answer:
    more = ((b"x-footfall", f"ignored: {reason}".encode("ascii", "replace")),) if reason else ()
    return Answer(200, PIXEL, b"image/gif", (*_NOT_KEPT, *more))


def _turned_away(method: str, headers: Mapping[bytes, bytes], limited: RateLimited) -> Answer:
    if method == "GET":
        return _pixel_answer(limited.message)
    wait = (b"retry-after", b"%d" % limited.retry_after)
    body = _error(limited.code.value, limited.message)
    return Answer(429, body, headers=(*_cors(headers), wait))


def _error(code: str, message: str) -> bytes:
    return encode_json({"status": "error", "code": code, "message": message})


def _cors(headers: Mapping[bytes, bytes]) -> tuple[Header, ...]:
    origin = headers.get(b"origin")
    if origin is None:
        return ()
    return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))


async def _preflight(resources: Resources, headers: Mapping[bytes, bytes]) -> Answer:
    """What a browser may send from a page whose origin some site allows."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    try:
        allowed = await resources.directory.allows_origin_somewhere(origin)
    except LedgerUnavailable:
        return Answer(503, _error("UNAVAILABLE", "try again shortly"))
    if not allowed:
        return Answer(403, _error("ORIGIN_NOT_ALLOWED", "no site takes events from this origin"))
    more = (
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", b"content-type, content-encoding"),
        (b"access-control-max-age", b"86400"),
    )
    return Answer(204, headers=(*_cors(headers), *more))


def _parse(body: bytes) -> tuple[list[object], str | None, bool]:
    """Events, the site named beside them, and whether they came as a batch.

    The body is read as JSON whatever its content type says: `sendBeacon` calls it text, and
    `curl` a form.
    """
    try:
        parsed = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, "BAD_JSON", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Refused(400, "BAD_JSON", "the body is nested too deep") from None
    if not isinstance(parsed, dict):
        raise Refused(400, "BAD_JSON", 'send one event or {"events": [...]}')
    if "events" not in parsed:
        return [parsed], None, False
    events = parsed["events"]
    if not isinstance(events, list):
        raise Refused(400, "BAD_USER_INPUT", "events must be a list")
    require_batch_size(len(events))
    site = parsed.get("site") or parsed.get("site_id") or parsed.get("siteId")
    if site is not None and not isinstance(site, str):
        raise Refused(400, "BAD_USER_INPUT", "site must be a text")
    return events, site, True


def _pixel_event(query: bytes) -> dict[str, object]:
    """The event of a pixel's query; a text that is not JSON stays in `props` to be rejected."""
    sent: dict[str, object] = {}
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=50, errors="strict"
        )
    except ValueError:
        raise Refused(
            400, "BAD_USER_INPUT", "the query has odd characters or too many fields"
        ) from None
    for name, value in pairs:
        sent.setdefault(name, value)
    if isinstance(props := sent.get("props"), str):
        with suppress(msgspec.DecodeError, RecursionError):
            sent["props"] = _decode(props)
    return sent


async def _take(
    resources: Resources, request: _Request, sent: Sequence[object], site_id: str | None
) -> Outcome:
    """Commit the events of a request to the one site that they are for."""
    drafts = [_named(one) if isinstance(one, dict) else one for one in sent]
    site = await _site(resources, drafts, site_id)
    if not may_send(site, request.origin):
        raise Refused(403, "ORIGIN_NOT_ALLOWED", "the site takes no events from this origin")
    now = resources.clock()
    visitor = None
    if any(isinstance(one, dict) and not _has_identity(one) for one in drafts):
        visitor = await visitor_id(
            resources.salts,
            site_id=site.site_id,
            address=request.address,
            user_agent=request.headers.get(b"user-agent", b"").decode("latin-1"),
            now=now,
        )
    door = Door(resources.intake, resources.metrics.ingest, request.way, resources.tracing)
    arrival = Arrival(site.site_id, now, visitor, largest=request.size or None)
    return await take_in(door, drafts, arrival, request.size)


def _named(event: dict[str, Any]) -> dict[str, Any]:
    return {_NAMES.get(name, name): value for name, value in event.items()}


def _has_identity(draft: Mapping[str, Any]) -> bool:
    return bool(draft.get("user_id") or draft.get("visitor_id"))


async def _site(resources: Resources, drafts: list[Any], beside: str | None) -> Site:
    """The site that all events of a request are for; takes its name off the events."""
    sites = [draft.pop("site_id", None) for draft in drafts if isinstance(draft, dict)]
    # As texts: what is not one is no site's id, and need not be hashable.
    named = {str(site) for site in sites if site is not None}
    if beside is not None:
        named.add(beside)
    if len(named) != 1:
        problem = "say which site with `site`" if not named else "a request is for one site"
        raise Refused(400, "BAD_USER_INPUT", problem)
    try:
        site = await resources.directory.site(named.pop())
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "events cannot be taken now; try again shortly") from error
    if site is None:
        raise Refused(400, "UNKNOWN_SITE", "there is no such site")
    return site


def _single_answer(outcome: Outcome) -> Answer:
    result = outcome.results[0]
    if isinstance(result, Rejection):
        return Answer(400, _error(result.code.value, result.message))
    body = {
        "status": "queued" if outcome.queued else "success",
        "event_id": result.event_id,
        "timestamp": result.received_at,
        "receipt": outcome.receipts()[0].status,
    }
    return Answer(200, encode_json(body))


def _batch_answer(outcome: Outcome) -> Answer:
    """Success, or queued, if any event was taken; each has its receipt."""
    taken = [one for one in outcome.results if isinstance(one, Event)]
    body = {
        "status": "queued" if outcome.queued else "success" if taken else "error",
        "timestamp": taken[0].received_at if taken else None,
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "queued": outcome.queued,
        "rejected": outcome.rejected,
        "receipts": outcome.receipts(),
    }
    return Answer(200 if taken else 400, encode_json(body))
