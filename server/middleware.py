"""Around every request: a correlation id, guarding headers, one measurement, and a log line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.headers import GUARDS, OF_API, STRICT_TRANSPORT, came_by_https
from server.responses import Answer, Header, encode_json, send_answer
from server.settings import Network
from telemetry.logs import bind_correlation_id, new_correlation_id
from telemetry.metrics import HttpMetrics
from telemetry.tracing import Tracing

log = structlog.get_logger()

_SENT_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_UNTRACED = Tracing(None)
# Behind it stands a token, which is nobody else's business.
_HOOKS = "/hooks/export"
_ROUTES = frozenset({"/graphql", "/collect", "/health", "/health/live", "/metrics", _HOOKS})


@dataclass(frozen=True, slots=True)
class Guards:
    """The headers that guard answers; `strict_behind` None: never by HTTPS only.

    Otherwise answers to requests that came by HTTPS, also through these proxies, say that the
    service is to be asked by HTTPS from then on.
    """

    headers: tuple[Header, ...] = OF_API
    strict_behind: Sequence[Network] | None = None

    def of(self, scope: Scope) -> tuple[Header, ...]:
        """The headers of the answer to one request."""
        if self.strict_behind is not None and came_by_https(scope, self.strict_behind):
            return (*self.headers, STRICT_TRANSPORT)
        return self.headers


_USUAL = Guards()


class Correlation:
    """Gives every request an id that stands on its log lines and in its answer.

    An id that the client or a proxy sends as `X-Correlation-ID` is kept if it looks like one.
    """

    def __init__(self, app: ASGIApp, guards: Guards = _USUAL) -> None:
        self.app = app
        self.guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 0
        guards = self.guards.of(scope)
        correlation_id = _sent_id(scope) or new_correlation_id()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += (
                    (b"x-correlation-id", correlation_id.encode()),
                    *scope.get(GUARDS, guards),
                )
            await send(message)

        tracing: Tracing = scope.get("state", {}).get("tracing", _UNTRACED)
        with (
            bind_correlation_id(correlation_id),
            tracing.span("http.request", method=scope["method"], path=_shown_path(scope)),
        ):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                log.exception("http.request.crashed", method=scope["method"])
                if status:
                    # Half an answer is out; all that is left is to break the connection.
                    raise
                await send_answer(send_with_id, _masked(correlation_id))
            finally:
                _note(scope, status or 500, perf_counter() - started)


def _masked(correlation_id: str) -> Answer:
    """What a client hears of a failure that nobody foresaw: under which id the log has it."""
    message = f"something went wrong here; the correlation id is {correlation_id}"
    error = {"status": "error", "code": "INTERNAL_SERVER_ERROR", "message": message}
    return Answer(500, encode_json(error))


def _sent_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-correlation-id" and _SENT_ID.fullmatch(value):
            return bytes(value).decode()
    return None


def _shown_path(scope: Scope) -> str:
    path: str = scope["path"]
    return _HOOKS if path.startswith(_HOOKS) else path


def _note(scope: Scope, status: int, seconds: float) -> None:
    path = _shown_path(scope)
    route = path if path in _ROUTES else "other"
    metrics: HttpMetrics | None = scope.get("state", {}).get("http_metrics")
    if metrics is not None:
        metrics.observe(method=scope["method"], route=route, status=status, seconds=seconds)
    if status >= 500:
        log.warning("http.request.failed", method=scope["method"], route=route, status=status)
