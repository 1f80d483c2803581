"""What every answer has in common, whatever was asked."""

import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from resolvers.errors import Code
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

# Nothing takes as long on any machine; whatever does, hangs.
SECONDS = 60

# Texts of drivers, of the interpreter and of its files; in production, hints at other names too.
LEAKS = re.compile(
    r"traceback|asyncpg|duckdb|sqlalchemy|psycopg|pydantic|msgspec|graphql-core|strawberry"
    r"|object at 0x|did you mean|recursion depth|string conversion|encountered error|site-packages|\.py\b|/tmp/|/home/|/root/",
    re.IGNORECASE,
)
# `INTERNAL_SERVER_ERROR` is one of the contract's, too. It masks mistakes of ours.
CODES = {code.value for code in Code} - {Code.INTERNAL_SERVER_ERROR.value}
MEDIA_TYPES = {"application/json", "application/graphql-response+json", "text/event-stream"}


@asynccontextmanager
async def open_production(database: Database, home: Path) -> AsyncIterator[App]:
    """The application as it faces strangers, with two sites, some events and a deep purse."""
    settings = {"environment": "production", "query_cost_budget": 2**31 - 1}
    async with open_app(database, home, **settings) as app:
        await app.site("shop", timezone="Europe/Berlin")
        await app.site("blog")
        events = [
            {
                "eventType": event_type,
                "userId": f"u{number % 7}",
                "occurredAt": f"2026-01-{number % 28 + 1:02}T12:00:00Z",
                "path": "/a",
                "properties": {"n": number, "s": "x", "b": True, "z": None},
            }
            for number, event_type in enumerate(["page_view", "sign_up", "buy"] * 20)
        ]
        await app.ingest("shop", *events)
        await app.followed()
        yield app


def require_sound(response: httpx.Response) -> None:
    """Check that an answer is one of ours: JSON, a status that fits, nothing about the inside."""
    told = f"{response.status_code} {response.text[:2_000]}"
    assert response.status_code < 500 or response.status_code == 503, told
    assert response.headers["content-type"].split(";")[0] in MEDIA_TYPES, told
    assert not LEAKS.search(response.text), told
    codes = [code for body in bodies_of(response) for code in codes_of(body, told)]
    if response.status_code >= 400:
        assert codes, told
    if response.status_code == 503:
        assert set(codes) <= {"UNAVAILABLE", "OVERLOADED"}, told


def bodies_of(response: httpx.Response) -> Iterable[Any]:
    """The GraphQL answers in a response, of which a stream of events may have several."""
    text = response.content.decode()
    if not response.headers["content-type"].startswith("text/event-stream"):
        yield json.loads(text)
        return
    for event in text.strip().split("\n\n"):
        fields = dict(line.split(":", 1) for line in event.splitlines())
        if fields.get("event", "").strip() == "next":
            yield json.loads(fields["data"])
        else:
            assert fields.get("event", "complete").strip() == "complete"


def codes_of(body: object, told: str) -> list[str]:
    """The codes of an answer's errors; those of the contract."""
    assert isinstance(body, dict), told
    assert body.keys() <= {"data", "errors", "extensions"}, told
    assert "data" in body or "errors" in body, told
    errors = body.get("errors", [])
    assert errors or "errors" not in body, told
    assert all(isinstance(error["message"], str) for error in errors), told
    codes = [error["extensions"]["code"] for error in errors]
    assert set(codes) <= CODES, told
    return codes
