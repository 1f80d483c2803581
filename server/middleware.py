"""Around every request: a correlation id, one measurement, and a log line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.logs import bind_correlation_id, new_correlation_id
from telemetry.metrics import HttpMetrics
from telemetry.tracing import Tracing

log = structlog.get_logger()

_SENT_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_UNTRACED = Tracing(None)
_ROUTES = frozenset({"/graphql", "/collect", "/health", "/health/live", "/metrics"})


class Correlation:
    """Gives every request an id that stands on its log lines and in its answer.

    An id that the client or a proxy sends as `X-Correlation-ID` is kept if it looks like one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 500
        correlation_id = _sent_id(scope) or new_correlation_id()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-correlation-id", correlation_id.encode()))
            await send(message)

        tracing: Tracing = scope.get("state", {}).get("tracing", _UNTRACED)
        with (
            bind_correlation_id(correlation_id),
            tracing.span("http.request", method=scope["method"], path=scope["path"]),
        ):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                _note(scope, status, perf_counter() - started)


class Direct:
    """Leads straight to the endpoints of the hot paths, which need nothing of what lies between.

    On the way through router and exit stack a request spends as long as in its endpoint.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.endpoints.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or self.app)(scope, receive, send)


def _sent_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-correlation-id" and _SENT_ID.fullmatch(value):
            return bytes(value).decode()
    return None


def _note(scope: Scope, status: int, seconds: float) -> None:
    path = scope["path"]
    route = path if path in _ROUTES else "other"
    metrics: HttpMetrics | None = scope.get("state", {}).get("http_metrics")
    if metrics is not None:
        metrics.observe(method=scope["method"], route=route, status=status, seconds=seconds)
    if status >= 500:
        log.warning("http.request.failed", method=scope["method"], route=route, status=status)
