"""Subscriptions executed by graphql-core in the test's own process, over the real service."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from typing import Any
from uuid import uuid4

import pytest
from graphql import ExecutionResult, GraphQLSchema, parse, subscribe

from data.postgres.keys import Scope
from data.queries import EVERYTHING
from resolvers.access import authenticate
from resolvers.context import Context
from resolvers.errors import Refusal
from resolvers.live import LiveEvents, live_events
from resolvers.loaders import Loaders
from schema.build import graphql_schema
from tests.fixtures.app import App

SECONDS = 60
EVENTS = """
subscription ($siteId: ID, $filter: EventFilter) {
  liveEvents(siteId: $siteId, filter: $filter) {
    eventId siteId eventType occurredAt receivedAt userId path properties
  }
}
"""
ACTIVITY = (
    "subscription ($siteId: ID) { liveActivity(siteId: $siteId) { at users events topPaths } }"
)


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return graphql_schema()


async def context(app: App, key: str | None = None) -> Context:
    resources, now = app.resources, app.resources.clock()
    caller = await authenticate(resources, key or app.admin_key, now)
    return Context(resources, caller, now, Loaders(resources.columnar, resources.tracing))


async def answer(
    app: App,
    schema: GraphQLSchema,
    query: str,
    variables: Mapping[str, object] | None = None,
    key: str | None = None,
) -> Any:
    given = {"siteId": "shop"} if variables is None else dict(variables)
    found: Any = subscribe(
        schema, parse(query), context_value=await context(app, key), variable_values=given
    )
    return await found if isawaitable(found) else found


@asynccontextmanager
async def stream(
    app: App,
    schema: GraphQLSchema,
    query: str,
    variables: Mapping[str, object] | None = None,
    key: str | None = None,
) -> AsyncIterator[AsyncGenerator[ExecutionResult, None]]:
    found = await answer(app, schema, query, variables, key)
    assert isinstance(found, AsyncGenerator), found
    try:
        yield found
    finally:
        await found.aclose()


async def refusal(app: App, schema: GraphQLSchema, *asked: Any, **more: Any) -> Mapping[str, Any]:
    found = await answer(app, schema, *asked, **more)
    assert isinstance(found, ExecutionResult), "it was not refused"
    assert found.data is None
    assert found.errors is not None
    [error] = found.errors
    original = error.original_error
    assert isinstance(original, Refusal)
    return original.extensions


async def data(results: AsyncGenerator[ExecutionResult, None]) -> dict[str, Any]:
    async with asyncio.timeout(SECONDS):
        result = await anext(results)
    assert result.errors is None
    return result.data or {}


async def test_an_event_is_told_when_it_is_committed(app: App, schema: GraphQLSchema) -> None:
    await app.followed()
    event_id = str(uuid4())
    async with stream(app, schema, EVENTS) as results:
        await app.ingest("blog", {"eventType": "view"})
        await app.ingest(
            "shop",
            {
                "eventId": event_id,
                "eventType": "view",
                "occurredAt": "2026-03-01T12:00:00Z",
                "userId": "ann",
                "path": "/a",
                "properties": {"plan": "free"},
            },
        )
        event = (await data(results))["liveEvents"]

    received = event.pop("receivedAt")
    assert datetime.fromisoformat(received) <= datetime.now(UTC)
    assert event == {
        "eventId": event_id,
        "siteId": "shop",
        "eventType": "view",
        "occurredAt": "2026-03-01T12:00:00Z",
        "userId": "ann",
        "path": "/a",
        "properties": {"plan": "free"},
    }


async def test_a_filter_means_what_it_means_in_reports(app: App, schema: GraphQLSchema) -> None:
    await app.followed()
    wanted = {"siteId": "shop", "filter": {"not": {"userId": {"eq": "ann"}}}}
    async with stream(app, schema, EVENTS, wanted) as results:
        await app.ingest(
            "shop",
            {"eventType": "one", "userId": "ann"},
            {"eventType": "two"},
            {"eventType": "three", "userId": "bob"},
        )

        told = [(await data(results))["liveEvents"]["eventType"] for _ in range(2)]

    assert told == ["two", "three"]


async def test_activity_is_told_at_once_and_every_second(app: App, schema: GraphQLSchema) -> None:
    await app.ingest(
        "shop",
        {"eventType": "view", "userId": "ann", "path": "/b"},
        {"eventType": "view", "userId": "ann", "path": "/a"},
        {"eventType": "view", "visitorId": "bob"},
        {"eventType": "view", "userId": "old", "occurredAt": "2026-01-01T00:00:00Z"},
    )
    await app.followed()
    await asyncio.sleep(1)
    async with stream(app, schema, ACTIVITY) as results:
        values = [(await data(results))["liveActivity"] for _ in range(3)]

    times = [datetime.fromisoformat(value.pop("at")) for value in values]
    assert values == [{"users": 2, "events": 3, "topPaths": ["/a", "/b"]}] * 3
    assert times[1] - times[0] >= timedelta(seconds=1)
    assert {time.microsecond for time in times} == {0}


async def test_a_key_of_one_site_need_not_say_which(app: App, schema: GraphQLSchema) -> None:
    await app.followed()
    key = await app.key("shop", Scope.READ)
    async with stream(app, schema, EVENTS, {}, key) as results:
        await app.ingest("shop", {"eventType": "view"})

        assert (await data(results))["liveEvents"]["siteId"] == "shop"


@pytest.mark.parametrize("query", [EVENTS, ACTIVITY])
async def test_who_may_not_read_is_refused_before_the_first_event(
    app: App, schema: GraphQLSchema, query: str
) -> None:
    blog, ingesting = await app.key("blog", Scope.READ), await app.key("shop", Scope.INGEST)

    refusals = [
        await refusal(app, schema, query, {"siteId": "shop"}, blog),
        await refusal(app, schema, query, {"siteId": "shop"}, ingesting),
        await refusal(app, schema, query, {"siteId": "nowhere"}),
        await refusal(app, schema, query, {}),
    ]

    assert [one["code"] for one in refusals] == [
        "FORBIDDEN",
        "FORBIDDEN",
        "NOT_FOUND",
        "BAD_USER_INPUT",
    ]
    assert len(app.resources.live.every_event) == len(app.resources.live.current_activity) == 0


async def test_a_bad_pattern_is_refused_before_the_first_event(
    app: App, schema: GraphQLSchema
) -> None:
    wanted = {"siteId": "shop", "filter": {"path": {"matches": "("}}}

    assert (await refusal(app, schema, EVENTS, wanted))["argument"] == "filter"


async def test_what_is_closed_is_forgotten(app: App, schema: GraphQLSchema) -> None:
    await app.followed()
    async with stream(app, schema, EVENTS) as events, stream(app, schema, ACTIVITY) as activity:
        await data(activity)
        reading = asyncio.create_task(data(events))
        await asyncio.sleep(0.05)
        assert len(app.resources.live.every_event) == 1
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    assert len(app.resources.live.every_event) == len(app.resources.live.current_activity) == 0


async def test_a_reader_is_told_how_many_events_it_missed(app: App) -> None:
    await app.followed()
    source = await live_events(await context(app), "shop", EVERYTHING)
    source._stream._most_waiting = 2
    await app.ingest("shop", *({"eventType": f"e{number}"} for number in range(5)))

    async with asyncio.timeout(SECONDS):
        told = [(await anext(source)).event_type for _ in range(2)]

    assert isinstance(source, LiveEvents)
    assert (told, source.missed) == (["e3", "e4"], 3)
