"""GraphQL over WebSocket: the protocol, and what a client can do to it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from data.postgres.keys import Scope, split_key
from server.connections import Pace
from server.websocket import MAX_OPERATIONS
from server.websocket_messages import MAX_MESSAGE_BYTES
from tests.fixtures.app import App
from tests.fixtures.ledger import Database
from tests.fixtures.live import Endpoint, Socket, SourceFailed, serving, until
from tests.fixtures.service import Service, running
from tests.server.test_security_headers import EVERYWHERE

ACTIVITY = "subscription { liveActivity { users } }"
EVENTS = "subscription { liveEvents }"
INIT = {"type": "connection_init"}
HELLO = {"id": "1", "type": "subscribe", "payload": {"query": "{ hello }"}}


@pytest_asyncio.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", DATABASE_URL=database.url("postgres")) as started:
        yield started


@pytest_asyncio.fixture
async def endpoint(app: App) -> AsyncIterator[Endpoint]:
    async with serving(app) as served:
        yield served


async def users_until_closed(socket: Socket) -> list[int]:
    found: list[int] = []
    with suppress(ConnectionClosedError):
        async with asyncio.timeout(60):
            while True:
                found.append((await socket.hear())["payload"]["data"]["liveActivity"]["users"])
    return found


def subscribe(**payload: object) -> dict[str, object]:
    return {"id": "1", "type": "subscribe", "payload": payload}


async def test_queries_and_mutations_give_one_result_each(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe("a", "{ hello }")
        answer = await socket.hear()
        assert (answer["type"], answer["id"]) == ("next", "a")
        assert answer["payload"]["data"] == {"hello": "world"}
        assert answer["payload"]["extensions"]["cost"]["requestedQueryCost"] == 0
        assert await socket.hear() == {"id": "a", "type": "complete"}
        query = "mutation ($text: String!) { remember(text: $text) }"
        await socket.subscribe("a", query, variables={"text": "tea"})
        assert (await socket.hear())["payload"]["data"] == {"remember": "tea"}
        assert await socket.hear() == {"id": "a", "type": "complete"}
    assert endpoint.live.remembered == ["tea"]


async def test_a_subscription_goes_on_until_its_source_ends(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe('quote " and é', EVENTS)
        await endpoint.live.events.until_open()
        endpoint.live.events.push("one", "two", None)
        for event in ("one", "two"):
            assert await socket.hear() == {
                "id": 'quote " and é',
                "type": "next",
                "payload": {"data": {"liveEvents": event}},
            }
        assert await socket.hear() == {"id": 'quote " and é', "type": "complete"}


async def test_the_key_may_stand_in_the_first_message(app: App, endpoint: Endpoint) -> None:
    key = await app.key("shop", Scope.READ)
    parts = split_key(key)
    assert parts is not None
    payloads: list[dict[str, object]] = [
        {"X-API-Key": key},
        {"x-api-key": f" {key} "},
        {"apiKey": key},
        {"Authorization": f"Bearer {key}"},
        {"authorization": f"bearer {key}", "more": [1]},
    ]
    for payload in payloads:
        # The message says more than the header, which a proxy may have set.
        async with endpoint.connect(additional_headers={"x-api-key": app.admin_key}) as websocket:
            socket = Socket(websocket)
            await socket.say({**INIT, "payload": payload})
            assert await socket.hear() == {"type": "connection_ack"}
            await socket.subscribe("1", "{ who }")
            assert (await socket.hear())["payload"]["data"] == {"who": parts[0]}


async def test_the_key_may_stand_in_the_headers(app: App, endpoint: Endpoint) -> None:
    for headers in ({"X-API-Key": app.admin_key}, {"Authorization": f"Bearer {app.admin_key}"}):
        for payload in ({}, {"payload": None}, {"payload": {"other": 1}}):
            async with endpoint.connect(additional_headers=headers) as websocket:
                socket = Socket(websocket)
                await socket.say({**INIT, **payload})
                assert await socket.hear() == {"type": "connection_ack"}


async def test_without_a_good_key_nothing_is_acknowledged(endpoint: Endpoint) -> None:
    payloads: list[object] = [None, {}, {"apiKey": "ff_nobody_00"}, {"apiKey": 7}]
    for payload in payloads:
        async with endpoint.connect() as websocket:
            socket = Socket(websocket)
            await socket.say({**INIT, "payload": payload})
            assert await socket.ended() == (4403, "Forbidden")


MALFORMED: list[tuple[str | bytes, str]] = [
    ("[1]", "it is not an object"),
    ("1", "it is not an object"),
    ("null", "it is not an object"),
    ("", "it is not JSON"),
    ("{", "it is not JSON"),
    ('{"type":"ping"}{}', "it is not JSON"),
    ('{"type":"ping","x":"\\ud800"}', "it is not JSON"),
    ("[" * 100_000, "it is not JSON"),
    (b'{"type":"ping"}', "send text, not binary frames"),
    (json.dumps({"type": "ping", "x": "y" * MAX_MESSAGE_BYTES}), "it is larger than"),
    (json.dumps({"type": "ping", "x": "é" * 600_000}, ensure_ascii=False), "it is larger than"),
    ("{}", "a client sends no such type"),
    ('{"type":1}', "a client sends no such type"),
    ('{"type":["ping"]}', "a client sends no such type"),
    ('{"type":"start","id":"1"}', "a client sends no such type"),
    ('{"type":"next","id":"1","payload":{}}', "a client sends no such type"),
    ('{"type":"connection_ack"}', "a client sends no such type"),
    ('{"type":"connection_init","payload":"x"}', "payload must be an object"),
    ('{"type":"ping","payload":"x"}', "payload must be an object"),
    ('{"type":"pong","payload":[]}', "payload must be an object"),
    ('{"type":"complete"}', "id must be a text that is not empty"),
    ('{"type":"complete","id":1}', "id must be a text that is not empty"),
    ('{"type":"subscribe","id":"1"}', "payload must be an object"),
    ('{"type":"subscribe","payload":{"query":"{hello}"}}', "id must be a text that is not empty"),
    ('{"type":"subscribe","id":"","payload":{"query":"{hello}"}}', "id must be a text"),
    *(
        (json.dumps(subscribe(**payload)), reason)
        for payload, reason in (
            ({}, "payload has no query"),
            ({"query": ""}, "payload has no query"),
            ({"query": None}, "payload has no query"),
            ({"query": 1}, "query must be a text"),
            ({"query": "{hello}", "variables": []}, "variables must be an object"),
            ({"query": "{hello}", "variables": "x"}, "variables must be an object"),
            ({"query": "{hello}", "operationName": 1}, "operationName must be a text"),
            ({"query": "{hello}", "extensions": 1}, "extensions must be an object"),
            ({"documentId": 1}, "documentId must be a text"),
        )
    ),
]


@pytest.mark.parametrize("is_acknowledged", [False, True])
async def test_what_is_no_message_ends_the_connection_with_the_reason(
    app: App, endpoint: Endpoint, *, is_acknowledged: bool
) -> None:
    for frame, reason in MALFORMED:
        async with endpoint.connect(additional_headers={"x-api-key": app.admin_key}) as websocket:
            socket = Socket(websocket)
            if is_acknowledged:
                await socket.say(INIT)
                assert await socket.hear() == {"type": "connection_ack"}
            await websocket.send(frame)
            code, told = await socket.ended()
        assert code == 4400, frame[:100]
        assert told is not None
        assert told.startswith("Invalid message: "), frame[:100]
        assert reason in told, frame[:100]


async def test_a_message_too_large_for_the_server_ends_the_connection(
    app: App, endpoint: Endpoint
) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        with suppress(ConnectionClosedError):
            await socket.websocket.send("x" * 2**23)
        assert (await socket.ended())[0] == 1009


async def test_a_frame_that_is_none_ends_the_connection_in_the_midst_of_events(
    app: App, endpoint: Endpoint
) -> None:
    with capture_logs() as logs:
        for frame in (b"\x81\x82\x00\x00\x00\x00\xff\xff", b"\xff\xff\xff\xff", b"\x81\x05hello"):
            async with endpoint.acknowledged(app.admin_key) as socket:
                for number in range(20):
                    await socket.subscribe(str(number), ACTIVITY)
                await endpoint.live.activity.until_open()
                socket.websocket.transport.write(frame)
                while endpoint.live.activity.sources:
                    endpoint.live.activity.push({"users": 1})
                    await asyncio.sleep(0)
                assert (await socket.ended())[0] in (1002, 1007)
        await until(lambda: len(endpoint.connections) == 0)
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_the_states_of_a_connection(app: App, endpoint: Endpoint) -> None:
    headers = {"x-api-key": app.admin_key}
    async with endpoint.connect(additional_headers=headers) as websocket:
        socket = Socket(websocket)
        await socket.say(HELLO)
        assert await socket.ended() == (4401, "Unauthorized")
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.say(INIT)
        assert await socket.ended() == (4429, "Too many initialisation requests")
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe("mine", EVENTS)
        await socket.subscribe("mine", ACTIVITY)
        assert await socket.ended() == (4409, "Subscriber for mine already exists")
    async with endpoint.acknowledged(app.admin_key) as socket:
        for _ in range(2):
            await socket.subscribe("é" * 500, EVENTS)
        code, reason = await socket.ended()
        assert code == 4409
        assert reason == "Subscriber for " + "é" * 54
    await until(lambda: len(endpoint.connections) == 0)


async def test_who_says_nothing_is_not_waited_for(app: App) -> None:
    # Long enough for a greeting on a machine that is busy.
    async with serving(app, Pace(greeting=2.5)) as endpoint:
        async with endpoint.connect() as websocket:
            socket = Socket(websocket)
            await socket.say({"type": "ping"}, {"type": "pong"}, {"type": "complete", "id": "1"})
            assert await socket.hear() == {"type": "pong"}
            assert await socket.ended() == (4408, "Connection initialisation timeout")
        async with endpoint.acknowledged(app.admin_key) as socket:
            await asyncio.sleep(3)
            await socket.say({"type": "ping"})
            assert await socket.hear() == {"type": "pong"}


async def test_other_subprotocols_are_refused(endpoint: Endpoint) -> None:
    for offered in (None, ["graphql-ws"], ["graphql-ws", "chat"]):
        async with endpoint.connect(subprotocols=offered) as websocket:
            assert websocket.subprotocol is None
            assert await Socket(websocket).ended() == (4406, "Subprotocol not acceptable")


async def test_the_subprotocol_is_found_among_several(app: App, endpoint: Endpoint) -> None:
    offered = ["graphql-ws", "graphql-transport-ws"]
    async with endpoint.acknowledged(app.admin_key, subprotocols=offered) as socket:
        assert socket.websocket.subprotocol == "graphql-transport-ws"


async def test_pages_of_other_origins_may_not_connect(endpoint: Endpoint) -> None:
    foreign = ("https://evil.example", "https://allowed.example.evil.example", "http://[", "null")
    for origin in foreign:
        with pytest.raises(InvalidStatus) as refused:
            async with endpoint.connect(origin=origin):
                pass
        assert refused.value.response.status_code == 403
        body = json.loads(refused.value.response.body or b"")
        assert body["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        assert EVERYWHERE.items() <= dict(refused.value.response.headers.raw_items()).items()


async def test_there_is_no_other_path_to_connect_to_and_that_answer_is_guarded_too(
    service: Service,
) -> None:
    for path in ("/", "/graphql/", "/health", "/nothing/here"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{service.port}{path}"):
                pass
        answer = refused.value.response
        assert answer.status_code == 404
        body = json.loads(answer.body or b"")
        assert body["errors"][0]["message"] == "connect to /graphql"
        assert EVERYWHERE.items() <= dict(answer.headers.raw_items()).items()


async def test_pages_of_known_origins_may_connect(app: App, endpoint: Endpoint) -> None:
    own = f"http://127.0.0.1:{endpoint.port}"
    for origin in (own, "https://allowed.example", "HTTPS://Allowed.example/"):
        async with endpoint.acknowledged(app.admin_key, origin=origin) as socket:
            await socket.say({"type": "ping"})
            assert await socket.hear() == {"type": "pong"}


async def test_pings_are_answered_and_pongs_are_taken(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        payload = {"moment": 1, "é": None}
        await socket.say({"type": "pong"}, {"type": "pong", "payload": payload})
        await socket.say({"type": "ping", "payload": payload}, {"type": "ping", "payload": None})
        assert await socket.hear() == {"type": "pong", "payload": payload}
        assert await socket.hear() == {"type": "pong"}


async def test_what_cannot_be_executed_gives_errors_and_the_connection_stays(
    app: App, endpoint: Endpoint
) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        for query, code in (
            ("{ hello", "GRAPHQL_PARSE_FAILED"),
            ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("query A { hello } query B { hello }", "BAD_USER_INPUT"),
            ("mutation ($text: String!) { remember(text: $text) }", "BAD_USER_INPUT"),
            ("subscription { forbidden }", "FORBIDDEN"),
            ("subscription { broken }", "INTERNAL_SERVER_ERROR"),
        ):
            await socket.subscribe("1", query)
            answer = await socket.hear()
            assert (answer["type"], answer["id"]) == ("error", "1")
            assert [error["extensions"]["code"] for error in answer["payload"]] == [code]
            assert "hunter2" not in json.dumps(answer)
        await socket.say({**HELLO, "id": "2"})
        assert (await socket.hear())["payload"]["data"] == {"hello": "world"}


async def test_unexpected_failures_are_masked(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe("1", "{ broken }")
        answers = [await socket.hear()]
        assert (await socket.hear())["type"] == "complete"
        await socket.subscribe("2", EVENTS)
        await endpoint.live.events.until_open()
        endpoint.live.events.push("broken", "fine", SourceFailed("password=hunter2"))
        answers += [await socket.hear() for _ in range(3)]
        assert await socket.hear() == {"id": "2", "type": "complete"}
    assert answers.pop(2)["payload"] == {"data": {"liveEvents": "fine"}}
    for answer in answers:
        assert answer["type"] == "next"
        (error,) = answer["payload"]["errors"]
        assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
        assert error["extensions"]["correlationId"] in error["message"]
        assert "hunter2" not in json.dumps(answer)


async def test_complete_ends_an_operation_at_once(app: App, endpoint: Endpoint) -> None:
    live = endpoint.live
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe("1", EVENTS)
        await socket.subscribe("2", "{ never }")
        await live.events.until_open()
        await until(lambda: live.started == 1)
        await socket.say({"type": "complete", "id": "1"}, {"type": "complete", "id": "2"})
        await socket.say({"type": "complete", "id": "unknown"})
        # The ids are free again, and nothing more is heard of what they stood for.
        await socket.subscribe("1", "{ hello }")
        assert (await socket.hear())["payload"]["data"] == {"hello": "world"}
        await until(lambda: live.cancelled == 1 and not live.events.sources)
    await until(lambda: len(endpoint.streams) == 0)


async def test_everything_ends_with_the_connection(app: App, endpoint: Endpoint) -> None:
    live = endpoint.live
    for is_orderly in (True, False):
        async with endpoint.acknowledged(app.admin_key) as socket:
            for number, query in enumerate((EVENTS, ACTIVITY, "{ never }")):
                await socket.subscribe(str(number), query)
            await live.events.until_open()
            await live.activity.until_open()
            await until(lambda: live.started - live.cancelled == 1)
            if not is_orderly:
                socket.websocket.transport.abort()
        await until(lambda: live.started == live.cancelled and not live.events.sources)
        await until(lambda: len(endpoint.streams) == 0 and len(endpoint.connections) == 0)


async def test_one_connection_has_so_many_operations_at_once(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        for number in range(MAX_OPERATIONS + 1):
            await socket.subscribe(str(number), EVENTS)
        answer = await socket.hear()
        assert (answer["type"], answer["id"]) == ("error", str(MAX_OPERATIONS))
        assert answer["payload"][0]["extensions"]["code"] == "OVERLOADED"
        await socket.say({"type": "complete", "id": "0"}, HELLO | {"id": "more"})
        assert (await socket.hear())["payload"]["data"] == {"hello": "world"}
    assert endpoint.live.events.opened == 1


async def test_operations_may_be_named_by_a_hash(app: App, endpoint: Endpoint) -> None:
    query = "{ hello }"
    hashed = hashlib.sha256(query.encode()).hexdigest()
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": hashed}}
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.say(subscribe(extensions=extensions))
        answer = await socket.hear()
        assert answer["type"] == "error"
        assert answer["payload"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        for payload in ({"query": query}, {}):
            await socket.say(subscribe(extensions=extensions, **payload))
            assert (await socket.hear())["payload"]["data"] == {"hello": "world"}
            assert (await socket.hear())["type"] == "complete"


async def test_a_revoked_key_ends_its_connections_and_no_others(app: App) -> None:
    key = await app.key("shop", Scope.READ)
    parts = split_key(key)
    assert parts is not None
    pace = Pace(recheck=0.05, sweep=0.02)
    async with (
        serving(app, pace) as endpoint,
        endpoint.acknowledged(app.admin_key) as other,
        endpoint.acknowledged(key) as socket,
    ):
        await socket.subscribe("1", EVENTS)
        await other.subscribe("1", EVENTS)
        await asyncio.sleep(0.2)
        await app.data("mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": parts[0]})
        assert await socket.ended() == (4403, "Forbidden")
        await endpoint.live.events.until_open()
        endpoint.live.events.push("still here")
        assert (await other.hear())["payload"]["data"] == {"liveEvents": "still here"}


async def test_a_key_that_has_ended_can_begin_nothing_more(app: App, endpoint: Endpoint) -> None:
    key = await app.key("shop", Scope.READ)
    parts = split_key(key)
    assert parts is not None
    async with endpoint.acknowledged(key) as socket:
        await app.data("mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": parts[0]})
        await socket.subscribe("1", "{ __typename }")
        assert await socket.ended() == (4403, "Forbidden")


async def test_connections_end_with_the_service(app: App, endpoint: Endpoint) -> None:
    async with endpoint.acknowledged(app.admin_key) as socket:
        await socket.subscribe("1", EVENTS)
        await endpoint.live.events.until_open()
        endpoint.connections.end_all()
        assert await socket.ended() == (1012, "Service restart")
    await until(lambda: len(endpoint.connections) == 0)


async def test_a_thousand_subscriptions_are_one_execution(app: App, endpoint: Endpoint) -> None:
    connections, each = 50, 20
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(endpoint.acknowledged(app.admin_key))
            for _ in range(connections)
        ]
        for socket in sockets:
            for number in range(each):
                await socket.subscribe(str(number), ACTIVITY)
        await endpoint.live.activity.until_open()
        endpoint.live.activity.push({"users": 1})
        for socket in sockets:
            heard = [await socket.hear() for _ in range(each)]
            assert {message["id"] for message in heard} == {str(number) for number in range(each)}
            assert {json.dumps(message["payload"]) for message in heard} == {
                '{"data": {"liveActivity": {"users": 1}}}'
            }
        assert (endpoint.live.activity.opened, endpoint.live.activity.executed) == (1, 1)
        assert (len(endpoint.streams), len(endpoint.connections)) == (1, connections)
    await until(lambda: len(endpoint.streams) == 0 and len(endpoint.connections) == 0)


async def test_a_reader_that_stands_still_is_ended_and_others_go_on(app: App) -> None:
    """Its buffers are full before long; it reads again only when the service has given it up."""
    # The quick one may be held up by other work on this machine, and not for so long.
    pace = Pace(stall=3, sweep=0.05, farewell=60)
    async with (
        serving(app, pace) as endpoint,
        endpoint.acknowledged(app.admin_key) as quick,
        endpoint.acknowledged(app.admin_key, max_queue=1) as slow,
    ):
        query = "subscription { liveActivity { users padding } }"
        for socket in (quick, slow):
            await socket.subscribe("1", query)
        await endpoint.live.activity.until_open()
        heard, number = [], 0
        while len(endpoint.connections) == 2:
            endpoint.live.activity.push({"users": number, "padding": "x" * 200_000})
            heard.append((await quick.hear())["payload"]["data"]["liveActivity"]["users"])
            number += 1
            await asyncio.sleep(0.005)
        assert heard == list(range(number))
        late = await users_until_closed(slow)
        assert (slow.websocket.close_code, slow.websocket.close_reason) == (
            1013,
            "Try again later: nothing was read for too long",
        )
        assert late == sorted(late)
        assert len(late) < number
