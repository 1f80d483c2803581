"""Requests that are none, or hardly: whatever arrives, the answer is one of ours."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from data.events import MAX_BODY_BYTES
from tests.fixtures.app import App
from tests.fixtures.ledger import Database
from tests.server.fuzzing import SECONDS, open_production, require_sound

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as a server hands it on: bytes that no client library has looked at."""

    body: bytes = b""
    headers: Headers = ((b"content-type", b"application/json"),)
    method: str = "POST"
    query_string: bytes = b""
    cuts: int = 1


@dataclass(slots=True)
class Wire:
    """The application's end of a connection on which one request comes in."""

    sent: Sent
    parts: Iterator[Message] = field(init=False)
    answered: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = max(1, -(-len(self.sent.body) // self.sent.cuts))
        cut = [self.sent.body[at : at + size] for at in range(0, len(self.sent.body), size)]
        self.parts = iter(
            [{"type": "http.request", "body": part, "more_body": True} for part in cut]
            + [{"type": "http.request", "body": b"", "more_body": False}]
        )

    async def receive(self) -> Message:
        for message in self.parts:
            return message
        await asyncio.Event().wait()  # The client stays on the line.
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.answered.append(message)

    @property
    def response(self) -> httpx.Response:
        start, *bodies = self.answered
        content = b"".join(message.get("body", b"") for message in bodies)
        assert not bodies[-1].get("more_body")
        return httpx.Response(start["status"], headers=start["headers"], content=content)


async def answer(app: App, key: str, sent: Sent) -> httpx.Response:
    """What the application answers to a request with a good key, unless it brings another."""
    transport = app.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    wire = Wire(sent)
    names = {name for name, _ in sent.headers}
    keys = () if names & {b"x-api-key", b"authorization"} else ((b"x-api-key", key.encode()),)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "root_path": "",
        "query_string": sent.query_string,
        "headers": [(b"host", b"footfall"), *keys, *sent.headers],
        "client": ("127.0.0.1", 1234),
        "server": ("footfall", 80),
    }
    async with asyncio.timeout(SECONDS):
        await transport.app(scope, wire.receive, wire.send)
    return wire.response


def json_of(value: object) -> bytes:
    return json.dumps(value).encode()


# Jobs of the application are due a little late at random, in a thread beside the one that generates.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

DOCUMENTS = (
    "{ __typename }",
    "query A { viewer { name } } query B { sites { id } }",
    "query ($range: DateRange!, $filter: EventFilter) { dau(range: $range, filter: $filter) { total } }",
    "query ($eventIds: [UUID!]!) { receipts(eventIds: $eventIds) { status } }",
    "mutation ($input: IngestInput!) { ingest(input: $input) { accepted rejected } }",
    "subscription { nothing }",
    "{",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
# Names that mean something somewhere, so that what is wrong is found late.
NAMES = st.sampled_from(
    ["range", "from", "to", "filter", "eventType", "eq", "in", "and", "input", "events", "eventIds",
     "siteId", "properties", "occurredAt", "version", "sha256Hash", "persistedQuery", "cost",
     "dryRun"]
)  # fmt: skip
KNOWING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["shop", "2026-01-01", "x" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "query": st.sampled_from(DOCUMENTS) | st.text() | JSON,
        "variables": KNOWING | JSON,
        "operationName": st.sampled_from(["A", "B", "C", ""]) | JSON,
        "extensions": KNOWING | JSON,
        "documentId": st.sampled_from(["sha256:" + "0" * 64, "x", ""]) | JSON,
        "anything": JSON,
    },
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good body, a few of whose bytes are gone, others, or more."""
    request = {"query": draw(st.sampled_from(DOCUMENTS)), "variables": draw(KNOWING)}
    body = bytearray(json_of(request))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


BODIES = st.binary(max_size=200) | damaged() | JSON.map(json_of) | REQUESTS.map(json_of)
# What ASGI servers let through in a header: no line ends, no NUL.
HEADER = st.lists(st.integers(1, 255).filter(lambda n: n not in (10, 13)), max_size=30).map(bytes)
HEADERS = {
    b"accept": (b"*/*", b"application/json;q=0", b"text/html", b"text/event-stream", b"*/*;q=x",
                b"application/graphql-response+json; charset=latin-1", b",;=,", b"a/b," * 9_000),
    b"accept-encoding": (b"gzip", b"br", b"gzip;q=nan", b"identity;q=0"),
    b"content-type": (b"application/json; charset=utf-16", b"APPLICATION/JSON;;", b"text/plain",
                      b"multipart/form-data", b"application/json-patch+json", b";"),
    b"content-encoding": (b"gzip", b"x-gzip", b"br", b"gzip, gzip", b"identity"),
    b"content-length": (b"0", b"-1", b"99999999999999999999", b"x", b"\xb2"),
    b"authorization": (b"Bearer", b"Bearer x", b"Basic eDp5", b"Bearer \xff"),
    b"x-api-key": (b"", b"ff_nobody_00", b"\xff\xfe", b"a" * 9_000),
    b"x-correlation-id": (b"", b"a b", b"\xff" * 300),
    b"if-none-match": (b"*", b'"', b'W/"x", "y"', b"," * 9_000),
    b"cache-control": (b"no-cache", b"max-age=x", b"only-if-cached", b"="),
    b"origin": (b"null", b"http://[", b"https://example.com"),
    b"apollo-require-preflight": (b"1",),
}  # fmt: skip


@st.composite
def headers(draw: st.DrawFn) -> Headers:
    """Some headers that are odd, among those that a request has."""
    chosen = draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=3, unique=True))
    odd = {name: draw(st.sampled_from(HEADERS[name]) | HEADER) for name in chosen}
    return tuple({b"content-type": b"application/json", **odd}.items())


def quoted(text: bytes) -> bytes:
    """Bytes as they stand in a query string, half of them escaped."""
    return b"".join(
        b"%%%02X" % byte if byte % 2 or byte in b" &=#+%" or byte > 126 else bytes([byte])
        for byte in text
    )


PARAMETERS = st.sampled_from(
    [b"query", b"variables", b"extensions", b"operationName", b"documentId", b"x", b""]
)
VALUES = (
    st.sampled_from(DOCUMENTS).map(str.encode) | KNOWING.map(json_of) | st.binary(max_size=20)
).map(quoted)
QUERY_STRINGS = st.binary(max_size=60) | st.lists(
    st.tuples(PARAMETERS, VALUES).map(b"=".join), max_size=5
).map(b"&".join)
METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "X"])

SENT = {
    "bodies": st.builds(Sent, BODIES, cuts=st.integers(1, 3)),
    "headers": st.builds(Sent, BODIES, headers()),
    "packed": st.builds(
        Sent,
        (BODIES.map(gzip.compress) | BODIES).flatmap(
            lambda body: st.sampled_from([body, body[: len(body) // 2], body * 2, body + b"x"])
        ),
        st.just(((b"content-type", b"application/json"), (b"content-encoding", b"gzip"))),
    ),
    "queries": st.builds(Sent, st.just(b""), headers(), METHODS, QUERY_STRINGS),
}


@pytest_asyncio.fixture
async def strange(database: Database, tmp_path: Path) -> AsyncIterator[App]:
    async with open_production(database, tmp_path / "home") as app:
        yield app


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_whatever_arrives_the_answer_is_sound(
    strange: App, sent: st.SearchStrategy[Sent]
) -> None:
    key = await strange.key("shop")
    loop = asyncio.get_running_loop()

    @settings(
        deadline=None,
        max_examples=8 * settings().max_examples,
        suppress_health_check=list(HealthCheck),
    )
    @given(sent)
    def each(one: Sent) -> None:
        found = asyncio.run_coroutine_threadsafe(answer(strange, key, one), loop).result()
        require_sound(found)

    await asyncio.to_thread(each)


TYPENAME = json_of({"query": "{ __typename }"})


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    """A request whose variables are nested so deep."""
    inside = opening * depth + b"1" + closing * depth
    return b'{"query": "{ __typename }", "variables": {"a": ' + inside + b"}}"


def padded(text: str) -> bytes:
    """A request whose document is this text, filled up to nearly the largest body."""
    return json_of({"query": text * ((MAX_BODY_BYTES - 100) // len(text))})


# Each has cost some server its time or its nerves.
CLEVER: dict[str, Sent] = {
    "lists, nested and closed": Sent(nested(b"[", b"]", 100_000)),
    "objects, nested and closed": Sent(nested(b'{"a":', b"}", 100_000)),
    "lists, nested and not closed": Sent(b"[" * 1_000_000),
    "a list as deep as it may be": Sent(nested(b"[", b"]", 900)),
    "a number of five million digits": Sent(b'{"query": "{ __typename }", "x": ' + b"9" * 5_000_000),
    "a number beyond all": Sent(json_of({"query": "{a}"})[:-1] + b', "variables": {"a": 1e999999}}'),
    "a number that Python doesn't read": Sent(
        json_of({"query": "{ site(id: 1) { id } topEvents(limit: " + "9" * 5_000 + ") { total } }"})
    ),
    "not a number": Sent(b'{"query": "{ __typename }", "variables": {"a": NaN}}'),
    "half a character": Sent(b'{"query": "{ __typename } # \\ud800"}'),
    "half a character in a name": Sent(b'{"query": "{ __typename }", "operationName": "\\udfff"}'),
    "NUL in the document": Sent(b'{"query": "{ __typename \\u0000 }"}'),
    "a byte order mark": Sent(b"\xef\xbb\xbf" + TYPENAME),
    "UTF-16": Sent(TYPENAME.decode().encode("utf-16")),
    "the same key twice": Sent(b'{"query": "{", "query": "{ __typename }"}'),
    "half a million keys": Sent(
        json_of({"query": "{ __typename }", "variables": {f"a{n}": 0 for n in range(400_000)}})
    ),
    "names that only differ in length": Sent(
        json_of({"query": "{ __typename }", "variables": {"a" * n: 0 for n in range(3_000)}})
    ),
    "half a million events": Sent(
        json_of(
            {
                "query": DOCUMENTS[4],
                "variables": {"input": {"events": [{"eventType": "x"}] * 200_000}},
            }
        )
    ),
    "half a million nothings": Sent(
        json_of({"query": DOCUMENTS[4], "variables": {"input": {"events": [None] * 500_000}}})
    ),
    "a document of blanks": Sent(padded("    ")),
    "a document of commas": Sent(padded(",")),
    "a document of brackets": Sent(padded("{a")),
    "a document of comments": Sent(padded("#\n")),
    "a document of quotes": Sent(padded('"')),
    "a document of dots": Sent(padded("...")),
    "a long operation name": Sent(json_of({"query": "{ __typename }", "operationName": "a" * 10**6})),
    "a bomb": Sent(
        gzip.compress(bytes(100_000_000)),
        ((b"content-type", b"application/json"), (b"content-encoding", b"gzip")),
    ),
    "very many empty members of gzip": Sent(
        gzip.compress(b"", mtime=0) * (MAX_BODY_BYTES // 20),
        ((b"content-type", b"application/json"), (b"content-encoding", b"gzip")),
    ),
    "very many parameters": Sent(method="GET", query_string=b"a&" * 500_000),
    "a long query string": Sent(method="GET", query_string=b"query=" + b"%7B" * 500_000),
    "a query string that is no UTF-8": Sent(method="GET", query_string=b"query=%FF%FE"),
    "deep variables in a query string": Sent(
        method="GET", query_string=b"query={__typename}&variables=" + b"[" * 100_000
    ),
    "very many media types": Sent(
        TYPENAME,
        ((b"content-type", b"application/json"), (b"accept", b"a/b;q=0.1;c=d," * 50_000)),
    ),
    "very many parameters of a media type": Sent(
        TYPENAME, ((b"content-type", b"application/json" + b";a=b" * 100_000),)
    ),
}  # fmt: skip


async def test_clever_requests_end_with_a_sound_answer(strange: App) -> None:
    key = await strange.key("shop")
    loop = asyncio.get_running_loop()
    odd = {}

    for name, sent in CLEVER.items():
        began = loop.time()
        try:
            require_sound(await answer(strange, key, sent))
        except Exception as problem:  # noqa: BLE001 - all of them are looked at together
            odd[name] = repr(problem)[:500]
        # What keeps the loop to itself cannot be interrupted, and is a hang as well.
        if loop.time() - began > SECONDS:
            odd[name] = "hangs"

    assert odd == {}


def test_a_mistake_is_noticed() -> None:
    def sound(status: int, body: Any, content_type: str = "application/json") -> None:
        require_sound(
            httpx.Response(status, headers={"content-type": content_type}, content=json_of(body))
        )

    error = {"message": "no", "extensions": {"code": "BAD_USER_INPUT"}}
    sound(200, {"data": None})
    sound(400, {"errors": [error]})
    for status, body in [
        (500, {"errors": [error]}),
        (503, {"errors": [error]}),
        (400, {"data": None}),
        (200, []),
        (200, {"errors": []}),
        (200, {"errors": [{**error, "extensions": {"code": "ODD"}}]}),
        (200, {"errors": [{**error, "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}),
        (200, {"data": "duckdb.Error"}),
        (200, {"data": "<x object at 0x7f>"}),
        (200, {"detail": "Not Found"}),
    ]:
        with pytest.raises(AssertionError):
            sound(status, body)
