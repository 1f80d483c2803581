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
from starlette.types import ASGIApp

from schema.build import graphql_schema
from server.collect import Collect
from server.graphql import GraphQL
from server.health import health, live, metrics
from server.middleware import Correlation, Direct
from server.resources import open_resources
from server.settings import Settings

log = structlog.get_logger()


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

    return FastAPI(
        title="Footfall",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(Correlation),
            Middleware(
                Direct,
                endpoints={
                    "/collect": Collect(settings.trusted_proxies),
                    "/graphql": _graphql(settings),
                },
            ),
        ],
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
