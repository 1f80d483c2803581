"""Headers that guard every answer, whatever route and status; who may call from other origins."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from data.events import MAX_BODY_BYTES
from server.graphiql import ROOT
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

JSON = {"content-type": "application/json"}
PAGE = "https://dash.example"
EVERYWHERE = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class _Broken:
    """A part that fails in a way nobody foresaw."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


@pytest_asyncio.fixture(params=["development", "production"])
async def service(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> AsyncIterator[App]:
    """The application in either environment, with a page of another origin that may call it."""
    environment = request.param
    home = tmp_path / "home"
    opened = open_app(database, home, environment=environment, cors_origins=PAGE)
    async with opened as app:
        await app.site("shop", origins=("https://shop.example",))
        yield app


def requests() -> list[tuple[str, str, dict[str, Any], int]]:
    """Method, path, what else, and the status that comes of it; {key} is an admin key."""
    query = {"content": b'{"query": "{ __typename }"}'}
    large = {"content": b"x" * (MAX_BODY_BYTES + 1)}
    key = {"x-api-key": "{key}"}
    event = {"site": "shop", "event": "v", "user": "u"}
    return [
        ("POST", "/graphql", {**query, "headers": key | JSON}, 200),
        ("POST", "/graphql", {**query, "headers": JSON}, 401),
        ("POST", "/graphql", {**query, "headers": key}, 415),
        ("POST", "/graphql", {"content": b"{", "headers": key | JSON}, 400),
        ("POST", "/graphql", {**large, "headers": key | JSON}, 413),
        (
            "POST",
            "/graphql",
            {**query, "headers": key | JSON | {"accept": "text/event-stream"}},
            200,
        ),
        ("GET", "/graphql", {"headers": key | {"accept": "image/png"}}, 406),
        ("PUT", "/graphql", {"headers": key}, 405),
        ("OPTIONS", "/graphql", {"headers": preflight(PAGE)}, 200),
        ("OPTIONS", "/graphql", {"headers": preflight("https://else.example")}, 400),
        ("POST", "/collect", {"json": event}, 200),
        ("POST", "/collect", {"content": b"{"}, 400),
        ("POST", "/collect", {"json": event, "headers": {"origin": "https://else.example"}}, 403),
        ("POST", "/collect", large, 413),
        ("GET", "/collect?site=shop&event=v", {}, 200),
        ("HEAD", "/collect", {}, 200),
        ("DELETE", "/collect", {}, 405),
        ("OPTIONS", "/collect", {"headers": {"origin": "https://shop.example"}}, 204),
        ("OPTIONS", "/collect", {"headers": {"origin": "https://else.example"}}, 403),
        ("GET", "/health", {}, 200),
        ("GET", "/health/live", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("POST", "/metrics", {}, 405),
        ("GET", "/", {}, 404),
        ("GET", "/nothing/here", {}, 404),
        ("GET", "/docs", {}, 404),
        ("GET", "/redoc", {}, 404),
        ("GET", "/openapi.json", {}, 404),
    ]


def preflight(origin: str) -> dict[str, str]:
    return {"origin": origin, "access-control-request-method": "POST"}


async def send(app: App, method: str, path: str, more: dict[str, Any]) -> httpx.Response:
    headers = {
        name: value.format(key=app.admin_key) for name, value in more.get("headers", {}).items()
    }
    return await app.client.request(method, path, **{**more, "headers": headers})


def guards_of(answer: httpx.Response) -> dict[str, list[str]]:
    names = (*EVERYWHERE, "cross-origin-resource-policy")
    return {name: answer.headers.get_list(name) for name in names}


async def test_every_answer_is_guarded_whatever_its_route_and_status(service: App) -> None:
    for method, path, more, status in requests():
        answer = await send(service, method, path, more)

        resource_policy = "cross-origin" if path.startswith("/collect") else "same-origin"
        expected = EVERYWHERE | {"cross-origin-resource-policy": resource_policy}
        assert answer.status_code == status, (method, path, answer.text)
        assert guards_of(answer) == {name: [value] for name, value in expected.items()}, (
            method,
            path,
        )
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers


async def test_an_answer_to_what_nobody_foresaw_is_guarded_too(service: App) -> None:
    state = {"resources": _Broken()}
    transport = httpx.ASGITransport(_with_state(service, state))
    async with httpx.AsyncClient(transport=transport, base_url="http://footfall") as client:
        answers = [
            await client.get("/health"),
            await client.post("/graphql", json={"query": "{ __typename }"}),
            await client.post("/collect", json={"site": "shop", "event": "v"}),
        ]

    for answer in answers:
        assert answer.status_code == 500
        assert "ZeroDivisionError" not in answer.text
        expected = {name: [value] for name, value in EVERYWHERE.items()}
        assert expected.items() <= guards_of(answer).items()


def _with_state(service: App, state: dict[str, Any]) -> Any:
    transport: Any = service.client._transport
    app = transport.app.app

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {**service.state, **state}}, receive, send)

    return call


async def test_the_page_of_development_has_its_own_policy_once(app: App) -> None:
    for path in ("/graphql", "/graphql/examples.json"):
        answer = await app.client.get(path, headers={"accept": "text/html"})

        assert answer.status_code == 200
        found = guards_of(answer)
        assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 1)
        assert "script-src 'self'" in found["content-security-policy"][0]


@pytest.mark.parametrize(
    ("environment", "peer", "headers", "is_strict"),
    [
        ("production", "10.0.0.1", {"x-forwarded-proto": "https"}, True),
        ("production", "10.0.0.1", {"x-forwarded-proto": "http, https"}, True),
        ("production", "10.0.0.1", {"x-forwarded-proto": "http"}, False),
        ("production", "10.0.0.1", {}, False),
        ("production", "192.0.2.1", {"x-forwarded-proto": "https"}, False),
        ("development", "10.0.0.1", {"x-forwarded-proto": "https"}, False),
    ],
)
async def test_who_came_by_https_is_to_come_by_https_again(
    database: Database,
    tmp_path: Path,
    environment: str,
    peer: str,
    headers: dict[str, str],
    is_strict: bool,
) -> None:
    opened = open_app(
        database, tmp_path / "home", environment=environment, trusted_proxies="10.0.0.0/8"
    )
    async with opened as app:
        transport = httpx.ASGITransport(_with_state(app, {}), client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://footfall") as client:
            for path in ("/graphql", "/collect", "/health/live", "/nothing"):
                answer = await client.get(path, headers=headers)
                found = answer.headers.get("strict-transport-security")
                assert found == ("max-age=63072000" if is_strict else None)


async def test_other_origins_may_call_graphql_only_where_they_are_named(service: App) -> None:
    asked = {"access-control-request-headers": "content-type, x-api-key"}
    named = await service.client.options("/graphql", headers=preflight(PAGE) | asked)
    other = await service.client.options("/graphql", headers=preflight("https://else.example"))
    cookie = await service.client.options(
        "/graphql", headers=preflight(PAGE) | {"access-control-request-headers": "cookie"}
    )

    assert named.headers["access-control-allow-origin"] == PAGE
    assert "x-api-key" in named.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-origin" not in other.headers
    assert (other.status_code, cookie.status_code) == (400, 400)
    for answer in (named, other, cookie):
        assert "access-control-allow-credentials" not in answer.headers


async def test_even_where_all_origins_may_call_none_may_with_credentials(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", cors_origins="*") as app:
        asked = await app.client.options("/graphql", headers=preflight(PAGE))
        sent = await app.client.post(
            "/graphql",
            json={"query": "{ __typename }"},
            headers={"origin": PAGE, "cookie": "a=b", "x-api-key": app.admin_key},
        )

    for answer in (asked, sent):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:192.168.1.1", {}, 200),
        ("172.16.3.4", {}, 200),
        ("fd00::7", {}, 200),
        ("198.51.100.7", {}, 200),  # kept for documentation: no address of anybody's
        ("8.8.8.8", {}, 403),
        ("2a00:1450::1", {}, 403),
        ("8.8.8.8", {"x-forwarded-for": "127.0.0.1"}, 403),
        ("10.1.1.1", {"x-forwarded-for": "8.8.8.8"}, 403),
        ("10.1.1.1", {"x-forwarded-for": "8.8.8.8, 192.168.0.1"}, 200),
        ("8.8.8.8", {"x-api-key": "{key}"}, 200),
        ("8.8.8.8", {"authorization": "Bearer {key}"}, 200),
        ("8.8.8.8", {"x-api-key": "ff_admin_0"}, 403),
    ],
)
async def test_metrics_in_production_are_for_the_near_and_for_admins(
    database: Database, tmp_path: Path, peer: str, headers: dict[str, str], status: int
) -> None:
    opened = open_app(
        database, tmp_path / "home", environment="production", trusted_proxies="10.0.0.0/8"
    )
    async with opened as app:
        transport = httpx.ASGITransport(_with_state(app, {}), client=(peer, 1))
        sent = {name: value.format(key=app.admin_key) for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://footfall") as client:
            answer = await client.get("/metrics", headers=sent)

    assert answer.status_code == status
    assert ("footfall_http" in answer.text) == (status == 200)


async def test_a_key_of_one_site_reads_no_metrics_from_afar(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        await app.site("shop")
        transport = httpx.ASGITransport(_with_state(app, {}), client=("8.8.8.8", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://footfall") as client:
            answer = await client.get("/metrics", headers={"x-api-key": await app.key("shop")})

    assert answer.status_code == 403


async def test_introspection_and_the_page_are_for_development(service: App) -> None:
    await service.site("blog")
    key = await service.key("shop")
    schema = await service.post("{ __schema { queryType { name } } }", key=key)
    page = await service.client.get("/graphql", headers={"accept": "text/html"})
    asset = next((ROOT / "web/graphiql/build/assets").glob("*.js"))
    script = await service.client.get(f"/graphql/assets/{asset.name}")

    is_open = page.status_code == 200
    assert ("errors" not in schema) == is_open
    assert (script.status_code == 200) == is_open
    assert is_open == bool(page.headers["content-type"].startswith("text/html"))
