"""An operation ends at its deadline, and with it everything that was being asked for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

# Enough of both that the whole answer would take some fifteen seconds.
EVENTS = 10_000
PATTERNS = 95
# Far less, and enough to begin with the answer, however busy the machine is.
DEADLINE = 3
DAU = (
    "query ($filter: EventFilter) {"
    ' dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-31"}, filter: $filter)'
    " { total } }"
)
SLOW_FILTER = {
    "or": [{"url": {"matches": f"a.{{1,60}}b.{{1,60}}e{number}"}} for number in range(PATTERNS)]
}


@asynccontextmanager
async def _impatient_app(database: Database, home: Path) -> AsyncIterator[App]:
    """An application with a short deadline, over many events with long texts."""
    async with open_app(database, home) as app:
        await _fill(app)
    async with open_app(database, home, query_timeout_seconds=DEADLINE) as app:
        yield app


async def _fill(app: App) -> None:
    await app.site("shop")
    event = {"eventType": "view", "occurredAt": "2026-01-05T12:00:00Z"}
    for start in range(0, EVENTS, 2_000):
        urls = [f"/{number}{'abcd' * 450}" for number in range(start, start + 2_000)]
        await app.ingest("shop", *[{**event, "userId": url[:8], "url": url} for url in urls])
    await app.followed()


def _interrupted(app: App) -> float:
    metrics = app.resources.metrics.store.interruptions
    return float(metrics.labels("active_users")._value.get())


async def test_a_query_that_takes_too_long_is_ended_in_the_store(
    database: Database, tmp_path: Path
) -> None:
    async with _impatient_app(database, tmp_path) as app:
        response = await app.client.post(
            "/graphql",
            json={"query": DAU, "variables": {"filter": SLOW_FILTER}},
            headers={"x-api-key": app.admin_key, "accept": "application/graphql-response+json"},
        )

        # It was begun, so it has data, and that is null.
        assert response.status_code == 200
        body = response.json()
        assert body["data"] is None
        (error,) = body["errors"]
        assert error["extensions"]["code"] == "TIMEOUT"
        assert f"{DEADLINE} s" in error["message"]
        # The store has ended the statement itself, and not only stopped waiting for it.
        async with asyncio.timeout(30):
            while not _interrupted(app):
                await asyncio.sleep(0.05)
            while "errors" in (body := await app.post(DAU)):
                assert body["errors"][0]["extensions"]["code"] == "TIMEOUT"
        assert body["data"]["dau"]["total"] > 1_000


def told_of_questions(app: App) -> asyncio.Event:
    """Set when the store has begun with a question for users."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    runner = app.resources.columnar.store._runner
    run = runner.run

    async def noted(name: str, mode: Any, work: Any) -> Any:
        def told(cursor: Any) -> Any:
            if name == "active_users":
                loop.call_soon_threadsafe(begun.set)
            return work(cursor)

        return await run(name, mode, told)

    runner.run = noted  # type: ignore[method-assign]
    return begun


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_question_whose_asker_has_gone_is_ended_in_the_store(
    database: Database, tmp_path: Path, method: str
) -> None:
    async with open_app(database, tmp_path, query_timeout_seconds=300) as app:
        await _fill(app)
        variables = {"filter": SLOW_FILTER}
        scope, body = _asked(app, method, variables)
        sent: list[Any] = []
        begun = told_of_questions(app)

        async def receive() -> dict[str, Any]:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            # Not before it is being answered.
            async with asyncio.timeout(60):
                await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        transport = app.client._transport
        assert isinstance(transport, httpx.ASGITransport)
        # It comes back, though its deadline is far away.
        await transport.app(scope, receive, send)

        assert sent[0]["status"] == 400
        async with asyncio.timeout(30):
            while not _interrupted(app):
                await asyncio.sleep(0.05)


def _asked(app: App, method: str, variables: object) -> tuple[dict[str, Any], list[bytes]]:
    """A request as a server hands it over, and what is left of its body."""
    is_get = method == "GET"
    query_string = urlencode({"query": DAU, "variables": json.dumps(variables)}) if is_get else ""
    body = b"" if is_get else json.dumps({"query": DAU, "variables": variables}).encode()
    headers = {
        "x-api-key": app.admin_key,
        "graphql-require-preflight": "1",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    scope = {
        "type": "http",
        "method": method,
        "path": "/graphql",
        "scheme": "http",
        "query_string": query_string.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    return scope, [body]
