"""GraphQL over server-sent events: what a client reads, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio
from starlette.types import Message
from structlog.testing import capture_logs

from data.postgres.keys import Scope, split_key
from server.connections import Pace
from server.graphql import GraphQL, View
from server.middleware import Correlation
from tests.fixtures.app import App
from tests.fixtures.live import Endpoint, SourceFailed, serving, until

EVENTS = "subscription { liveEvents }"


@pytest_asyncio.fixture
async def endpoint(app: App) -> AsyncIterator[Endpoint]:
    async with serving(app) as served:
        yield served


@dataclass(slots=True)
class Stream:
    """A response that goes on; its blocks as (event, data), comments left out."""

    response: httpx.Response
    blocks: AsyncIterator[tuple[str, Any]]
    comments: list[str]

    async def next(self) -> Any:
        """The data of the next `next` event."""
        async with asyncio.timeout(60):
            event, data = await anext(self.blocks)
        assert event == "next"
        return data

    async def rest(self) -> list[tuple[str, Any]]:
        """All blocks until the response ends."""
        async with asyncio.timeout(60):
            return [block async for block in self.blocks]


async def read_blocks(
    response: httpx.Response, comments: list[str]
) -> AsyncIterator[tuple[str, Any]]:
    """Blocks, read by the letter: an empty line after each, nothing that is not expected."""
    event = ""
    data = None
    async for line in response.aiter_lines():
        if line.startswith(":"):
            comments.append(line)
        elif line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data:"):
            text = line.removeprefix("data:").strip()
            data = json.loads(text) if text else None
        else:
            assert line == ""
            if event:
                yield event, data
                event, data = "", None


@asynccontextmanager
async def streaming(endpoint: Endpoint, key: str, query: str) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream(
            "POST", endpoint.url, json={"query": query}, headers={"x-api-key": key}
        ) as response,
    ):
        comments: list[str] = []
        yield Stream(response, read_blocks(response, comments), comments)


async def test_events_come_until_the_source_ends(app: App, endpoint: Endpoint) -> None:
    async with streaming(endpoint, app.admin_key, EVENTS) as stream:
        headers = stream.response.headers
        assert stream.response.status_code == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache, no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["vary"] == "Accept"
        await endpoint.live.events.until_open()
        endpoint.live.events.push("one\ntwo", "é")
        assert await stream.next() == {"data": {"liveEvents": "one\ntwo"}}
        assert await stream.next() == {"data": {"liveEvents": "é"}}
        endpoint.live.events.push(None)
        assert await stream.rest() == [("complete", None)]
    await until(lambda: len(endpoint.connections) == 0)


async def test_queries_and_mutations_give_one_result(app: App, endpoint: Endpoint) -> None:
    for query, data in (
        ("{ hello }", {"hello": "world"}),
        ('mutation { remember(text: "tea") }', {"remember": "tea"}),
    ):
        async with streaming(endpoint, app.admin_key, query) as stream:
            assert (await stream.next())["data"] == data
            assert await stream.rest() == [("complete", None)]
    assert endpoint.live.remembered == ["tea"]


async def test_why_nothing_was_executed_is_told_as_an_event(app: App, endpoint: Endpoint) -> None:
    for query, code in (
        ("{ hello", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { forbidden }", "FORBIDDEN"),
        ("subscription { broken }", "INTERNAL_SERVER_ERROR"),
    ):
        async with streaming(endpoint, app.admin_key, query) as stream:
            (told, end) = await stream.rest()
        assert end == ("complete", None)
        assert told[0] == "next"
        assert "data" not in told[1]
        assert told[1]["errors"][0]["extensions"]["code"] == code
        assert "hunter2" not in json.dumps(told)


async def test_a_get_executes_no_mutation(app: App, endpoint: Endpoint) -> None:
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream(
            "GET",
            endpoint.url,
            headers={"x-api-key": app.admin_key},
            content=json.dumps({"query": 'mutation { remember(text: "tea") }'}).encode(),
        ) as response,
    ):
        ((event, data), _) = [block async for block in read_blocks(response, [])]
    assert event == "next"
    assert data["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert endpoint.live.remembered == []


async def test_a_failing_source_ends_the_stream_without_a_word_on_the_cause(
    app: App, endpoint: Endpoint
) -> None:
    async with streaming(endpoint, app.admin_key, EVENTS) as stream:
        await endpoint.live.events.until_open()
        endpoint.live.events.push(SourceFailed("password=hunter2"))
        (told, end) = await stream.rest()
    assert end == ("complete", None)
    assert told[1]["errors"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert "hunter2" not in json.dumps(told)


async def test_the_source_ends_when_the_client_leaves(app: App, endpoint: Endpoint) -> None:
    async with streaming(endpoint, app.admin_key, EVENTS):
        await endpoint.live.events.until_open()
    await until(lambda: not endpoint.live.events.sources)
    await until(lambda: len(endpoint.connections) == 0 and len(endpoint.streams) == 0)


async def test_an_idle_stream_says_that_it_is_alive(app: App) -> None:
    async with (
        serving(app, Pace(comment=0.02)) as endpoint,
        streaming(endpoint, app.admin_key, EVENTS) as stream,
    ):
        reading = asyncio.create_task(stream.rest())
        await until(lambda: len(stream.comments) > 3)
        endpoint.live.events.push(None)
        assert await reading == [("complete", None)]


async def test_a_revoked_key_ends_the_stream_with_the_reason(app: App) -> None:
    key = await app.key("shop", Scope.READ)
    parts = split_key(key)
    assert parts is not None
    async with (
        serving(app, Pace(recheck=0.05, sweep=0.02)) as endpoint,
        streaming(endpoint, key, EVENTS) as stream,
    ):
        await endpoint.live.events.until_open()
        await app.data("mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": parts[0]})
        (told, end) = await stream.rest()
        assert told[1]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert end == ("complete", None)
        await until(lambda: not endpoint.live.events.sources)


async def test_a_stream_that_the_service_leaves_is_not_complete(
    app: App, endpoint: Endpoint
) -> None:
    """So that a client knows that there is more to come, and connects anew."""
    async with streaming(endpoint, app.admin_key, EVENTS) as stream:
        await endpoint.live.events.until_open()
        endpoint.connections.end_all()
        assert await stream.rest() == []


async def test_a_reader_that_stands_still_is_ended(app: App) -> None:
    pace = Pace(stall=0.2, sweep=0.05, farewell=0.1)
    async with serving(app, pace) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port, limit=2**10)
        body = json.dumps({"query": "subscription { liveActivity { padding } }"}).encode()
        head = f"POST /graphql HTTP/1.1\r\nhost: x\r\nx-api-key: {app.admin_key}\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await endpoint.live.activity.until_open()
        async with asyncio.timeout(60):
            while endpoint.live.activity.sources:
                endpoint.live.activity.push({"padding": "x" * 200_000})
                await asyncio.sleep(0.005)
        await until(lambda: len(endpoint.connections) == 0)
        writer.transport.abort()
        assert reader.at_eof() is False


@dataclass(slots=True)
class Requester:
    """A request as a server hands it over: what comes after the body, a test says."""

    app: App
    endpoint: Endpoint
    query: str
    sent: list[Message] = field(default_factory=list)
    after_body: asyncio.Queue[Message | Exception] = field(default_factory=asyncio.Queue)

    async def ask(self) -> None:
        """Put the request to the view, in the middleware that it has in the service."""
        body = json.dumps({"query": self.query}).encode()
        self.after_body.put_nowait({"type": "http.request", "body": body, "more_body": False})
        streams = self.endpoint.streams
        view = Correlation(GraphQL(streams.operations, streams, View()))
        headers = {
            "accept": "text/event-stream",
            "content-type": "application/json",
            "x-api-key": self.app.admin_key,
            "x-correlation-id": "find-me-0003",
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/graphql",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "state": {"resources": self.app.resources, "connections": self.endpoint.connections},
        }
        async with asyncio.timeout(60):
            await view(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        come = await self.after_body.get()
        if isinstance(come, Exception):
            raise come
        return come

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def text(self) -> str:
        """All that was sent behind the head."""
        return b"".join(message["body"] for message in self.sent[1:]).decode()


def failures_in(logs: list[Any]) -> list[Any]:
    """What the log has of failures; jobs go on beside the request, and tell that they do."""
    return [entry for entry in logs if entry["log_level"] == "error"]


def require_masked(request: Requester, logs: list[Any], cause: type[Exception]) -> None:
    """The answer ends in order, and only the log has the cause, once."""
    head, *events = request.sent
    assert (head["type"], head["status"]) == ("http.response.start", 200)
    assert (b"content-type", b"text/event-stream; charset=utf-8") in head["headers"]
    assert [event["more_body"] for event in events] == [True] * (len(events) - 1) + [False]
    *_, told, end, nothing = request.text.split("\n\n")
    assert (end, nothing) == ("event: complete\ndata:", "")
    event, data = told.split("\n")
    assert event == "event: next"
    (error,) = json.loads(data.removeprefix("data: "))["errors"]
    assert error["extensions"] == {
        "code": "INTERNAL_SERVER_ERROR",
        "correlationId": "find-me-0003",
    }
    assert "hunter2" not in request.text
    (failure,) = failures_in(logs)
    assert failure["event"] == "graphql.operation.failed"
    assert isinstance(failure["exc_info"], cause)


async def test_a_failure_before_the_head_is_told_as_an_event(app: App, endpoint: Endpoint) -> None:
    # Half of a surrogate pair, which no text that is sent can have.
    schema, request = endpoint.streams.operations.schema, Requester(app, endpoint, "{ hello }")
    assert schema.query_type is not None
    schema.query_type.fields["hello"].resolve = lambda *_: "hunter2\ud800"
    with capture_logs() as logs:
        await request.ask()

    assert request.text.count("event: next") == 1
    require_masked(request, logs, UnicodeEncodeError)


async def test_a_failure_that_a_timeout_looks_like_is_told_too(
    app: App, endpoint: Endpoint
) -> None:
    request = Requester(app, endpoint, EVENTS)
    with capture_logs() as logs:
        asking = asyncio.create_task(request.ask())
        await endpoint.live.events.until_open()
        request.after_body.put_nowait(TimeoutError("hunter2"))
        await asking

    require_masked(request, logs, TimeoutError)


async def test_a_failure_in_the_middle_is_told_as_an_event(app: App, endpoint: Endpoint) -> None:
    request = Requester(app, endpoint, EVENTS)
    with capture_logs() as logs:
        asking = asyncio.create_task(request.ask())
        await endpoint.live.events.until_open()
        endpoint.live.events.push("one")
        await until(lambda: "one" in request.text)
        request.after_body.put_nowait(SourceFailed("password=hunter2"))
        await asking

    assert request.text.count("event: next") == 2
    require_masked(request, logs, SourceFailed)
    await until(lambda: not endpoint.live.events.sources and len(endpoint.connections) == 0)


async def test_who_has_left_is_told_nothing(app: App, endpoint: Endpoint) -> None:
    request = Requester(app, endpoint, EVENTS)
    with capture_logs() as logs:
        asking = asyncio.create_task(request.ask())
        await endpoint.live.events.until_open()
        request.after_body.put_nowait({"type": "http.disconnect"})
        await asking

    assert [message.get("body") for message in request.sent] == [None, b":\n\n"]
    assert failures_in(logs) == []
