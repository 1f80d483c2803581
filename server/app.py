"""The application: routes, and the lifespan in which its resources are open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.build import graphql_schema
from server.collect import Collect
from server.graphql import GraphQL
from server.health import health, live, metrics
from server.middleware import Correlation
from server.resources import open_resources
from server.settings import Settings

log = structlog.get_logger()


class _Application(FastAPI):
    """FastAPI, with a short way to the endpoints that answer nearly every request.

    They need nothing of what FastAPI puts around an endpoint, on which a request would spend as
    long as in the endpoint itself.
    """

    def __init__(self, *, hot_paths: Mapping[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._hot_paths = {path: Correlation(endpoint) for path, endpoint in hot_paths.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._hot_paths.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or super().__call__)(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    """The whole service as an ASGI application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with open_resources(settings) as (resources, jobs):
            log.info("service.started", ledger_id=str(resources.ledger.ledger_id))
            yield {
                "resources": resources,
                "jobs": jobs,
                "http_metrics": resources.metrics.http,
                "tracing": resources.tracing,
            }
        log.info("service.stopped")

    return _Application(
        hot_paths={
            "/collect": Collect(settings.trusted_proxies),
            "/graphql": _graphql(settings),
        },
        title="Footfall",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(Correlation)],
        routes=[
            Route("/health", health),
            Route("/health/live", live),
            Route("/metrics", metrics),
        ],
    )


def _graphql(settings: Settings) -> ASGIApp:
    view = GraphQL(graphql_schema(), hide_suggestions=settings.is_production)
    if not settings.cors_origins:
        return view
    return CORSMiddleware(
        view,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-correlation-id"],
        expose_headers=["x-correlation-id", "retry-after"],
        max_age=86_400,
    )
