"""A client that nobody here wrote, against the running service: `gql` by HTTP and WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from tests.fixtures.service import Service, running

INGEST = gql(
    "mutation ($input: IngestInput!) { ingest(input: $input) { accepted receipts { status } } }"
)
EVENTS = gql(
    'subscription ($site: ID) { liveEvents(siteId: $site, filter: {eventType: {in: ["buy"]}}) '
    "{ eventType userId properties } }"
)
ACTIVITY = gql('subscription { liveActivity(siteId: "shop") { at users events topPaths } }')


# One service for all of them: starting it takes far longer than what they ask of it.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("gql") / "home") as started:
        await started.data('mutation { saveSite(input: {id: "shop"}) { id } }')
        yield started


def by_http(service: Service) -> Client:
    """A client that asks for the schema first and checks documents against it."""
    transport = AIOHTTPTransport(f"{service.url}/graphql", headers={"x-api-key": service.admin_key})
    return Client(transport=transport, fetch_schema_from_transport=True)


def by_websocket(service: Service, key: str) -> Client:
    address = f"ws://127.0.0.1:{service.port}/graphql"
    return Client(transport=WebsocketsTransport(address, init_payload={"apiKey": key}))


def event(event_type: str, user: str) -> dict[str, object]:
    path = "/p" if event_type == "buy" else None
    return {
        "eventType": event_type,
        "userId": user,
        "path": path,
        "properties": {"é": [1, None]},
    }


def batch(*events: dict[str, object]) -> dict[str, object]:
    return {"input": {"siteId": "shop", "events": list(events)}}


async def test_gql_asks_and_commands_by_http(service: Service) -> None:
    async with by_http(service) as session:
        assert session.client.schema is not None
        INGEST.variable_values = batch(event("signup", "u1"), event("signup", "u2"))
        found = await session.execute(INGEST)
        assert found["ingest"]["accepted"] == 2
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(gql('{ site(id: "nobody") { id } }'))
        assert refused.value.errors is not None
        assert refused.value.errors[0]["extensions"]["code"] == "NOT_FOUND"


async def test_gql_listens_by_websocket_while_events_come_in(service: Service) -> None:
    async with by_websocket(service, service.admin_key) as session:
        assert await session.execute(gql("{ __typename }")) == {"__typename": "Query"}
        EVENTS.variable_values = {"site": "shop"}
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def listen() -> None:
            async for result in session.subscribe(EVENTS):
                heard.put_nowait(result["liveEvents"])

        async def watch() -> dict[str, Any]:
            async for result in session.subscribe(ACTIVITY):
                if "/p" in result["liveActivity"]["topPaths"]:
                    return dict(result["liveActivity"])
            raise AssertionError("the subscription ended")

        listening, watching = asyncio.create_task(listen()), asyncio.create_task(watch())
        await until_listening(service)
        INGEST.variable_values = batch(event("buy", "u1"), event("view", "u2"), event("buy", "u3"))
        assert (await session.execute(INGEST))["ingest"]["accepted"] == 3
        async with asyncio.timeout(60):
            activity = await watching
            events = [await heard.get() for _ in range(2)]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert (activity["users"] >= 2, activity["topPaths"]) == (True, ["/p"])
    assert [one["userId"] for one in events] == ["u1", "u3"]
    assert events[0] == {"eventType": "buy", "userId": "u1", "properties": {"é": [1, None]}}


async def until_listening(service: Service) -> None:
    """Return when both subscriptions have their streams."""
    async with asyncio.timeout(60):
        while True:
            page = (await service.client.get("/metrics")).text
            opened = [line for line in page.splitlines() if "live" in line and "open" in line]
            if sum(line.endswith(" 1.0") for line in opened) == 2:
                return
            await asyncio.sleep(0.01)


async def test_gql_is_told_when_its_key_is_no_good(service: Service) -> None:
    with pytest.raises((TransportConnectionFailed, TransportError)):
        async with by_websocket(service, "ff_nobody_00") as session:
            await session.execute(gql("{ __typename }"))
    async with by_websocket(service, service.admin_key) as session:
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(gql('subscription { liveActivity(siteId: "nobody") { at } }'))
        assert refused.value.errors is not None
        assert refused.value.errors[0]["extensions"]["code"] == "NOT_FOUND"
        assert await session.execute(gql("{ __typename }")) == {"__typename": "Query"}
