"""What graphql-cop looks for, and what the service shows it in production.

Each check is written from the description of the tool's own (version 1.15): the requests that it
sends, and what in an answer it takes for a weakness. The tester brings the key of a site, as a
customer could. An admin key that is bound to no site is the operator's, who may introspect; the
last test says so.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

TYPES = "query cop { __schema { types { name fields { name } } } }"
CIRCLE = """
query cop {
  __schema { types { fields { type { fields { type { fields { type { fields { type {
    name
  } } } } } } } } } }
}
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: how it asks, and whether an answer shows the weakness."""

    ask: Mapping[str, Any]
    is_weak: Callable[[httpx.Response], object]
    method: str = "POST"


def post(query: str, **more: Any) -> dict[str, Any]:
    """A request as the tool sends most of its own."""
    return {"json": {"query": query, "operationName": "cop", **more}}


def data(response: httpx.Response, *path: str) -> Any:
    """What the answer has as data at a place; None where it has nothing."""
    found = body(response)
    for step in ("data", *path):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def first_error(response: httpx.Response) -> dict[str, Any]:
    """The first error of the answer; empty where there is none."""
    found = body(response)
    errors = found.get("errors") if isinstance(found, dict) else None
    return errors[0] if errors else {}


def body(response: httpx.Response) -> Any:
    """The answer, None if it is not JSON."""
    is_json = response.headers["content-type"].split(";")[0].endswith("json")
    return response.json() if is_json else None


def errors_of(response: httpx.Response) -> list[Any]:
    """All errors of the answer."""
    found = body(response)
    return found.get("errors", []) if isinstance(found, dict) else []


def repeated(selection: str, times: int) -> str:
    """A document that selects the same so many times; `%d` is the number of the time."""
    parts = " ".join(selection.replace("%d", str(number)) for number in range(times))
    return f"query cop {{ {parts} }}"


PAGES = ("GraphiQL", "GraphQL Playground", "graphiql.min.css", "graphql-playground")

CHECKS = {
    "field suggestions": Check(
        post("query cop { __schema { directive } }"),
        lambda answer: "Did you mean" in first_error(answer).get("message", ""),
    ),
    "introspection": Check(post(TYPES), lambda answer: data(answer, "__schema", "types")),
    "GraphiQL": Check(
        {"headers": {"accept": "text/html"}},
        lambda answer: any(word in answer.text for word in PAGES),
        "GET",
    ),
    "queries by GET": Check(
        {"params": {"query": "query cop {__typename}"}},
        lambda answer: data(answer, "__typename"),
        "GET",
    ),
    "alias overloading": Check(
        post(repeated("alias%d: __typename", 101)), lambda answer: data(answer, "alias100")
    ),
    "batches": Check(
        {"json": [{"query": "query cop { __typename }", "operationName": "cop"}] * 10},
        lambda answer: isinstance(body(answer), list) and len(body(answer)) >= 10,
    ),
    "tracing": Check(
        post("query cop { __typename }"),
        lambda answer: (
            "tracing" in first_error(answer).get("extensions", {})
            or "tracing" in (body(answer) or {}).get("extensions", {})
        ),
    ),
    "directive overloading": Check(
        post("query cop { __typename " + "@aa" * 10 + " }"),
        lambda answer: len(errors_of(answer)) == 10,
    ),
    "circular introspection": Check(
        post(CIRCLE), lambda answer: len(data(answer, "__schema", "types") or ()) > 25
    ),
    "mutations by GET": Check(
        {"params": {"query": "mutation cop {__typename}"}},
        lambda answer: data(answer, "__typename"),
        "GET",
    ),
    "forms by POST": Check(
        {"data": {"query": "query cop { __typename }"}},
        lambda answer: data(answer, "__typename"),
    ),
    "unhandled errors": Check(
        post("qwerty cop { abc }"),
        lambda answer: "exception" in first_error(answer).get("extensions", {}),
    ),
    # Not in the tool's own list at the moment.
    "field duplication": Check(
        post(repeated("__typename", 500)), lambda answer: data(answer, "__typename")
    ),
}


@pytest_asyncio.fixture
async def production(database: Database, tmp_path: Path) -> AsyncIterator[App]:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        await app.site("shop")
        yield app


async def asked(app: App, key: str, check: Check) -> httpx.Response:
    """The answer to what a check sends."""
    sent = dict(check.ask)
    headers = {"accept": "*/*", "x-api-key": key, **sent.pop("headers", {})}
    return await app.client.request(check.method, "/graphql", headers=headers, **sent)


async def test_nothing_is_found_in_production(production: App) -> None:
    key = await production.key("shop", Scope.READ)

    answers = {name: await asked(production, key, check) for name, check in CHECKS.items()}

    found = [name for name, check in CHECKS.items() if check.is_weak(answers[name])]
    assert found == []
    assert all(answer.status_code < 500 for answer in answers.values())
    # The key is good: what is refused is refused for what it is.
    assert 401 not in {answer.status_code for answer in answers.values()}


async def test_a_repeated_directive_is_one_error_however_often(production: App) -> None:
    key = await production.key("shop", Scope.READ)

    for times in (1, 2, 10, 100):
        query = "query cop { __typename " + "@aa" * times + " }"
        answer = await asked(production, key, Check(post(query), bool))
        assert len(errors_of(answer)) < max(times, 4)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("field suggestions", {"errors": [{"message": "Cannot. Did you mean 'directives'?"}]}),
        ("introspection", {"data": {"__schema": {"types": [{"name": "Query"}]}}}),
        ("queries by GET", {"data": {"__typename": "Query"}}),
        ("alias overloading", {"data": {"alias100": "Query"}}),
        ("batches", [{"data": {}}] * 10),
        ("tracing", {"data": {}, "extensions": {"tracing": {}}}),
        ("tracing", {"errors": [{"message": "", "extensions": {"tracing": {}}}]}),
        ("directive overloading", {"errors": [{"message": ""}] * 10}),
        ("circular introspection", {"data": {"__schema": {"types": [{}] * 26}}}),
        ("mutations by GET", {"data": {"__typename": "Mutation"}}),
        ("forms by POST", {"data": {"__typename": "Query"}}),
        ("unhandled errors", {"errors": [{"message": "", "extensions": {"exception": {}}}]}),
        ("field duplication", {"data": {"__typename": "Query"}}),
    ],
)
def test_each_check_can_find_something(name: str, answer: Any) -> None:
    assert CHECKS[name].is_weak(httpx.Response(200, json=answer))


def test_a_page_of_graphiql_would_be_found() -> None:
    page = httpx.Response(200, html="<title>GraphiQL</title>")

    assert CHECKS["GraphiQL"].is_weak(page)


async def test_a_browser_is_shown_no_page_in_production(production: App) -> None:
    key = await production.key("shop", Scope.READ)

    answer = await asked(production, key, CHECKS["GraphiQL"])

    assert answer.status_code == 406
    assert first_error(answer)["extensions"]["code"] == "BAD_USER_INPUT"


async def test_only_the_operator_may_introspect_in_production(production: App) -> None:
    site_admin = await production.key("shop", Scope.ADMIN)

    refused = await asked(production, site_admin, CHECKS["introspection"])
    told = await asked(production, production.admin_key, CHECKS["introspection"])

    assert data(refused) is None
    assert first_error(refused)["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert data(told, "__schema", "types")
