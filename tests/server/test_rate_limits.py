"""Rate limits at the door: by key, else by address; over HTTP, server-sent events and WebSocket."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import OperationDefinitionNode, parse
from websockets.exceptions import ConnectionClosedError

from data.postgres.keys import Scope
from schema.metering import rate_kind
from server.collect import PIXEL
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.live import serving
from tests.fixtures.redis import RedisServer
from tests.fixtures.windows import lasting_window

# None ends while a test runs.
WINDOW = lasting_window()
TYPENAME = {"query": "{ __typename }"}
INGEST = {
    "query": 'mutation { ingest(input: {siteId: "shop", events: [{eventType: "v"}]}) { accepted } }'
}
EVENT = {"site": "shop", "event": "v", "user": "u"}


@asynccontextmanager
async def limited(
    database: Database, folder: Path, *, queries: int = 0, ingests: int = 0, **more: Any
) -> AsyncIterator[App]:
    """The application with limits and the site `shop`."""
    rates = {"rate_limit_requests": queries, "rate_limit_ingest_requests": ingests}
    async with open_app(
        database, folder / "home", **{"rate_limit_window_seconds": WINDOW, **rates, **more}
    ) as app:
        await app.site("shop")
        yield app


@asynccontextmanager
async def from_address(app: App, address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport: Any = app.client._transport
    there = httpx.ASGITransport(transport.app, client=(address, 4711))
    async with httpx.AsyncClient(transport=there, base_url="http://footfall") as client:
        yield client


async def ask(
    app: App, key: str | None, body: Mapping[str, object] = TYPENAME, accept: str = "*/*"
) -> httpx.Response:
    sent = {"accept": accept} | ({"x-api-key": key} if key else {})
    return await app.client.post("/graphql", json=body, headers=sent)


def standing(answer: httpx.Response) -> tuple[int, int]:
    """Limit and what remains, as an answer tells."""
    assert int(answer.headers["x-ratelimit-reset"]) >= 0
    return int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


def is_refusal(answer: httpx.Response) -> bool:
    """Whether GraphQL says that it was too much; then the status and all headers must say so."""
    errors = answer.json().get("errors", [])
    if not errors or errors[0]["extensions"]["code"] != "RATE_LIMITED":
        assert answer.status_code != 429
        return False
    assert answer.status_code == 429
    assert standing(answer)[1] == 0
    assert 1 <= int(answer.headers["retry-after"]) == errors[0]["extensions"]["retryAfter"]
    assert answer.headers["cache-control"] == "no-store"
    assert "data" not in answer.json()
    return True


async def test_without_a_limit_nothing_is_counted_and_nothing_is_said(app: App) -> None:
    answers = [await ask(app, app.admin_key), await app.client.post("/collect", json=EVENT)]

    assert app.resources.rate_limits is None
    assert all("x-ratelimit-limit" not in answer.headers for answer in answers)
    viewer = await app.data("{ viewer { limits { requests { limit } } } }")
    assert viewer["viewer"]["limits"]["requests"] is None


@pytest.mark.parametrize("profile", ["compatible", "draft"])
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_a_key_may_ask_so_often_and_is_told_what_remains(
    database: Database, tmp_path: Path, profile: str, accept: str
) -> None:
    opened = limited(database, tmp_path, queries=3, graphql_status_profile=profile)
    async with opened as app:
        key, other = await app.key("shop"), await app.key("shop")
        answers = [await ask(app, key, accept=accept) for _ in range(5)]

        assert [standing(answer) for answer in answers] == [(3, 2), (3, 1), (3, 0), (3, 0), (3, 0)]
        assert [is_refusal(answer) for answer in answers] == [False] * 3 + [True] * 2
        # Behind the same address, with a key of its own.
        assert standing(await ask(app, other, accept=accept)) == (3, 2)


async def test_requests_without_a_good_key_count_by_their_address(
    database: Database, tmp_path: Path
) -> None:
    async with limited(database, tmp_path, queries=3) as app:
        key = await app.key("shop")
        wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
        tries = [await ask(app, one) for one in (None, wrong, "ff_nobody_00", "guess", wrong)]

        assert [answer.status_code for answer in tries] == [401, 401, 401, 429, 429]
        assert [is_refusal(answer) for answer in tries] == [False] * 3 + [True] * 2
        # Others behind that address go on by their keys.
        assert standing(await ask(app, key)) == (3, 2)
        async with from_address(app, "198.51.100.7") as client:
            assert (await client.post("/graphql", json=TYPENAME)).status_code == 401


async def test_requests_that_come_to_nothing_count_once(database: Database, tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"json": {"query": "{"}},
        {"json": {"query": "{ nothing }"}},
        {"json": {"query": "query ($a: Int!) { __typename }"}},
        {"json": {}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        {"json": TYPENAME, "headers": {"accept": "image/png"}},
    ]
    async with limited(database, tmp_path, queries=len(bad)) as app:
        for left, request in enumerate(reversed(bad)):
            headers = request.get("headers", {}) | {"x-api-key": app.admin_key}
            answer = await app.client.post("/graphql", **{**request, "headers": headers})

            # Before the key is looked at, it is the address that counts.
            is_unknown = "accept" in request.get("headers", {})
            assert standing(answer)[1] == len(bad) - (1 if is_unknown else left)
        assert not is_refusal(await ask(app, app.admin_key))
        assert is_refusal(await ask(app, app.admin_key))


async def test_events_and_questions_are_counted_apart(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, queries=2, ingests=3) as app:
        key = await app.key("shop")
        both = {"query": INGEST["query"][:-1] + " __typename }"}
        sent = [await ask(app, key, body) for body in (INGEST, both, INGEST, INGEST)]
        asked = [await ask(app, key) for _ in range(3)]

        assert [standing(answer) for answer in sent] == [(3, 2), (3, 1), (3, 0), (3, 0)]
        assert [is_refusal(answer) for answer in sent] == [False, False, False, True]
        assert [standing(answer) for answer in asked] == [(2, 1), (2, 0), (2, 0)]
        # What was refused was not done.
        pages = await app.client.post("/collect", json=EVENT)
        assert standing(pages) == (3, 2)
    async with open_app(database, tmp_path / "again") as app:
        await app.followed()
        events = await app.data('{ events(siteId: "shop") { nodes { eventType } } }')
        assert len(events["events"]["nodes"]) == 4


async def test_only_what_has_a_limit_is_counted(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, ingests=1) as app:
        key = await app.key("shop")
        asked = [await ask(app, key) for _ in range(3)]
        assert all("x-ratelimit-limit" not in answer.headers for answer in asked)
        assert not is_refusal(await ask(app, key, INGEST))
        assert is_refusal(await ask(app, key, INGEST))


async def test_collect_counts_by_address(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, ingests=2) as app:
        origin = {"origin": "https://shop.example"}
        first = await app.client.post("/collect", json=EVENT)
        bad = await app.client.post("/collect", content=b"{")
        third = await app.client.post("/collect", json=EVENT, headers=origin)
        pixel = await app.client.get("/collect?site=shop&event=v&user=u")
        uncounted = [
            await app.client.head("/collect"),
            await app.client.options("/collect", headers=origin),
            await app.client.get("/health"),
            await app.client.get("/metrics"),
        ]

        assert [standing(one) for one in (first, bad, third, pixel)] == [
            (2, 1),
            (2, 0),
            (2, 0),
            (2, 0),
        ]
        assert (first.status_code, bad.status_code, third.status_code) == (200, 400, 429)
        assert third.json()["code"] == "RATE_LIMITED"
        assert int(third.headers["retry-after"]) >= 1
        assert third.headers["access-control-allow-origin"] == origin["origin"]
        assert (pixel.status_code, pixel.content) == (200, PIXEL)
        assert pixel.headers["x-footfall"].startswith("ignored: more than 2 requests")
        for answer in uncounted:
            assert answer.status_code in (200, 204)
            assert "x-ratelimit-limit" not in answer.headers
        async with from_address(app, "198.51.100.7") as client:
            assert standing(await client.post("/collect", json=EVENT)) == (2, 1)


async def test_the_address_is_what_trusted_proxies_tell(database: Database, tmp_path: Path) -> None:
    opened = limited(database, tmp_path, ingests=1, trusted_proxies="127.0.0.1")
    async with opened as app:

        async def status(forwarded: str) -> int:
            headers = {"x-forwarded-for": forwarded, "x-real-ip": "6.6.6.6"}
            answer = await app.client.post("/collect", json=EVENT, headers=headers)
            return answer.status_code

        assert [await status("2.2.2.2"), await status("3.3.3.3, 2.2.2.2")] == [200, 429]
        assert [await status("2a00:1:2:3::1"), await status("2a00:1:2:3:4::5")] == [200, 429]
        assert await status("2a00:1:2:4::1") == 200


async def test_answers_from_the_cache_count(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, queries=3) as app:
        headers = {"x-api-key": app.admin_key}
        query = {"query": '{ site(id: "shop") { id } }'}
        answers = [
            await app.client.get("/graphql", params=query, headers=headers) for _ in range(4)
        ]

        assert "age" in answers[1].headers
        assert [standing(answer)[1] for answer in answers] == [2, 1, 0, 0]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


async def test_streams_of_events_count(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, queries=3, ingests=1) as app:
        key = await app.key("shop")
        stream = "text/event-stream"
        good, bad = await ask(app, key, accept=stream), await ask(app, key, {"query": "{"}, stream)
        sent = [await ask(app, key, INGEST, stream) for _ in range(2)]
        last = [await ask(app, key, accept=stream) for _ in range(2)]

        assert [standing(one) for one in (good, bad, *sent, *last)] == [
            (3, 2),
            (3, 1),
            (1, 0),
            (1, 0),
            (3, 0),
            (3, 0),
        ]
        # In a stream a refusal is an event, as of another answer a browser would show nothing.
        assert ["RATE_LIMITED" in one.text for one in (good, bad, *sent, *last)] == [
            False,
            False,
            False,
            True,
            False,
            True,
        ]


async def test_sockets_count_when_they_open_and_for_each_operation(
    database: Database, tmp_path: Path
) -> None:
    async with limited(database, tmp_path, queries=3) as app, serving(app) as endpoint:
        async with endpoint.acknowledged(app.admin_key) as socket:
            for name in ("1", "2"):
                await socket.subscribe(name, "{ hello }")
                assert (await socket.hear())["type"] == "next"
                assert (await socket.hear())["type"] == "complete"
            await socket.subscribe("3", "{ hello }")
            refused = await socket.hear()
        with pytest.raises(ConnectionClosedError) as closed:
            async with endpoint.acknowledged(app.admin_key):
                pass

    assert refused["type"] == "error"
    assert refused["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert closed.value.rcvd.reason.startswith("Try again later: more than 3 requests")


async def test_keys_tried_over_sockets_count_by_their_address(
    database: Database, tmp_path: Path
) -> None:
    codes = []
    async with limited(database, tmp_path, queries=2) as app, serving(app) as endpoint:
        for _ in range(3):
            with pytest.raises(ConnectionClosedError) as closed:
                async with endpoint.acknowledged("ff_nobody_00"):
                    pass
            assert closed.value.rcvd is not None
            codes.append(closed.value.rcvd.code)
        async with endpoint.acknowledged(app.admin_key):
            pass

    assert codes == [4403, 4403, 1013]


async def test_viewers_see_their_limit(database: Database, tmp_path: Path) -> None:
    question = "{ viewer { limits { requests { limit remaining windowSeconds resetSeconds } } } }"
    async with limited(database, tmp_path, queries=5) as app:
        viewer = (await app.data(question, key=await app.key("shop", Scope.READ)))["viewer"]

    requests = viewer["limits"]["requests"]
    assert (requests["limit"], requests["remaining"]) == (5, 4)
    assert requests["windowSeconds"] == WINDOW
    assert 0 <= requests["resetSeconds"] <= WINDOW


async def test_what_was_used_up_comes_back(database: Database, tmp_path: Path) -> None:
    opened = limited(database, tmp_path, queries=2, rate_limit_window_seconds=1)
    async with opened as app:
        async with asyncio.timeout(30):
            while not is_refusal(refused := await ask(app, app.admin_key)):
                pass
            await asyncio.sleep(int(refused.headers["retry-after"]))
            # Two more waits: of what came at the end of a window a part still counts in the next.
            for _ in range(2):
                if not is_refusal(answer := await ask(app, app.admin_key)):
                    break
                await asyncio.sleep(int(answer.headers["retry-after"]))
            else:
                pytest.fail("nothing came back")


async def test_many_at_once_get_no_more_than_the_limit(database: Database, tmp_path: Path) -> None:
    async with limited(database, tmp_path, queries=20) as app:
        answers = await asyncio.gather(*(ask(app, app.admin_key) for _ in range(60)))

    assert sum(not is_refusal(answer) for answer in answers) == 20


async def test_with_redis_the_state_of_the_service_tells_who_counts(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    opened = limited(database, tmp_path, queries=50, redis_url=redis_server.url)
    async with opened as app:
        assert standing(await ask(app, app.admin_key)) == (50, 49)
        assert standing(await ask(app, app.admin_key)) == (50, 48)
        together = (await app.client.get("/health")).json()["details"]["rate_limits"]
        keys = await _keys_in(redis_server)
        await redis_server.kill()
        alone = await ask(app, app.admin_key)
        async with asyncio.timeout(60):
            while app.resources.redis and app.resources.redis.is_available:
                alone = await ask(app, app.admin_key)
        apart = await app.client.get("/health")

    assert together == "all processes count together"
    # Begun anew by this process alone.
    assert standing(alone)[0] == 50
    assert apart.status_code == 200
    assert "each process counts for itself" in apart.json()["details"]["rate_limits"]
    assert keys
    assert not any(app.admin_key.encode() in key for key in keys)


async def test_addresses_do_not_get_into_redis(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    opened = limited(database, tmp_path, ingests=50, redis_url=redis_server.url)
    async with opened as app:
        await app.client.post("/collect", json=EVENT)
        keys = await _keys_in(redis_server)

    assert any(b":rates:" in key for key in keys)
    assert not any(b"127.0.0.1" in key for key in keys)


async def _keys_in(server: RedisServer) -> list[bytes]:
    async with server.client() as client:
        return [key async for key in client.scan_iter()]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{ __typename }", "query"),
        ("mutation { saveSite { id } }", "query"),
        ("mutation { ingest { accepted } }", "ingest"),
        ("mutation { alias: ingest { accepted } }", "ingest"),
        ("mutation { saveSite { id } ... { ... { ingest { accepted } } } }", "ingest"),
        (
            "mutation { ...A } fragment A on M { ...B ...C } fragment B on M { x } fragment C on M {...B ingest}",
            "ingest",
        ),
        ("mutation { ...A } fragment A on M { saveSite { ingest } }", "query"),
        ("query { ingest }", "query"),
    ],
)
def test_an_operation_with_events_is_one_wherever_they_stand(text: str, kind: str) -> None:
    document = parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)

    assert rate_kind(document, operation) == kind


async def test_with_a_redis_that_is_full_each_process_counts_for_itself_and_says_so(
    database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    opened = limited(database, tmp_path, queries=50, redis_url=redis_server.url)
    async with opened as app, redis_server.client() as redis:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", 1)
        full = standing(await ask(app, app.admin_key))
        said = (await app.client.get("/health")).json()
        assert app.resources.redis
        assert app.resources.redis.is_available
        await redis.config_set("maxmemory", 0)
        again = standing(await ask(app, app.admin_key))
        mended = (await app.client.get("/health")).json()

    assert (full, again) == ((50, 49), (50, 49))
    assert mended["details"]["rate_limits"] == "all processes count together"
    assert said["status"] == "degraded"
    assert "each process counts for itself" in said["details"]["rate_limits"]
