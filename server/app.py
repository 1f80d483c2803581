"""The application: endpoints, and the lifespan in which its resources are open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from resolvers.login_failures import open_login_failures
from resolvers.throttle import Allowance, Throttle
from schema.build import graphql_schema
from schema.operations import Operations, Policy
from schema.shared_streams import SharedStreams
from server.collect import Collect
from server.connections import open_connections
from server.export_hook import ROUTE, ExportHook
from server.graphiql import GraphiQL
from server.graphql import GraphQL, View
from server.headers import OF_COLLECT
from server.health import HealthPage, MetricsPage, live
from server.metering import TOLD
from server.middleware import Correlation, Guards
from server.resources import open_resources
from server.settings import Settings
from server.websocket import WebSocket

log = structlog.get_logger()


class _Application(FastAPI):
    """FastAPI, with a short way to the endpoints that answer nearly every request.

    They need nothing of what FastAPI puts around an endpoint, on which a request would spend as
    long as in the endpoint itself.
    """

    def __init__(self, *, http: Mapping[str, ASGIApp], websocket: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._http = http
        self._websocket = websocket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            endpoint: ASGIApp | None = self._websocket
        else:
            # A lifespan has no path.
            endpoint = self._http.get(scope.get("path", ""))
        await (endpoint or super().__call__)(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    """The whole service as an ASGI application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            open_resources(settings, is_service=True) as (resources, jobs),
            open_connections(resources) as connections,
            open_login_failures(
                resources.ledger.writer, resources.clock, resources.metrics.login
            ) as login_failures,
        ):
            # Answers to GET rest on results: they are forgotten with them.
            resources.results.also.append(lambda: view.cache.clear(monotonic()))
            log.info("service.started", ledger_id=str(resources.ledger.ledger_id))
            yield {
                "resources": resources,
                "connections": connections,
                "login_failures": login_failures,
                "jobs": jobs,
                "http_metrics": resources.metrics.http,
                "tracing": resources.tracing,
            }
        log.info("service.stopped")

    operations = _operations(settings)
    streams = SharedStreams(operations)
    page = None if settings.is_production else GraphiQL()
    # In development everybody may see everything, and nothing is by HTTPS only.
    proxies = settings.trusted_proxies if settings.is_production else None
    guards = Guards(strict_behind=proxies)
    view = _graphql(settings, operations, streams, page)
    graphql = Correlation(_with_cors(settings, view), guards)
    collect = Correlation(Collect(settings.trusted_proxies), replace(guards, headers=OF_COLLECT))
    pages = dict.fromkeys(page.paths, Correlation(page, guards)) if page else {}
    return _Application(
        http={"/collect": collect, "/graphql": graphql, **pages},
        websocket=WebSocket(
            operations, streams, settings.cors_origins, settings.trusted_proxies, guards
        ),
        title="Footfall",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(Correlation, guards)],
        routes=[
            Route("/health", HealthPage(proxies).get),
            Route("/health/live", live),
            Route("/metrics", MetricsPage(proxies).get),
            Route(ROUTE, ExportHook(settings.trusted_proxies)),
        ],
    )


def _operations(settings: Settings) -> Operations:
    allowance = Allowance(
        # More than a full budget could never be paid for, however long somebody waits.
        operation=min(settings.query_cost_limit, settings.query_cost_budget),
        maximum=settings.query_cost_budget,
        restore_rate=settings.query_cost_restore_per_second,
        seconds=settings.query_timeout_seconds,
    )
    policy = Policy(
        hide_suggestions=settings.is_production,
        is_introspection_open=not settings.is_production,
    )
    return Operations(graphql_schema(), policy, Throttle(allowance))


def _graphql(
    settings: Settings, operations: Operations, streams: SharedStreams, page: ASGIApp | None
) -> GraphQL:
    return GraphQL(
        operations,
        streams,
        View(
            profile=settings.graphql_status_profile,
            trusted_proxies=settings.trusted_proxies,
            keys_preflight=not settings.is_production,
            page=page,
        ),
    )


def _with_cors(settings: Settings, view: ASGIApp) -> ASGIApp:
    if not settings.cors_origins:
        return view
    return CORSMiddleware(
        view,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=[
            "authorization",
            "apollo-require-preflight",
            "cache-control",
            "content-type",
            "graphql-require-preflight",
            "if-none-match",
            "x-api-key",
            "x-apollo-operation-name",
            "x-correlation-id",
        ],
        expose_headers=["etag", "retry-after", "x-correlation-id", *TOLD],
        max_age=86_400,
    )
