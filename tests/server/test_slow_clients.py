"""Clients that do not send on, at a real socket of a real process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from server.slow_clients import MAX_HEAD_BYTES
from tests.fixtures.service import Service, running

# More than this process may be held up, between connecting and saying the first word.
PATIENCE = 3.0
# Not a timed assertion: a bound that only something that hangs would reach.
SOON = 60.0
EVENT = b'{"site": "shop", "event": "v"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that waits for a moment."""
    home: Path = tmp_path_factory.mktemp("slow") / "home"
    async with running(home, RECEIVE_TIMEOUT_SECONDS=str(PATIENCE)) as started:
        await started.data('mutation { saveSite(input: {id: "shop"}) { id } }')
        yield started


pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def answer_of(reader: asyncio.StreamReader) -> Answer:
    """All that comes until the service closes the connection."""
    async with asyncio.timeout(SOON):
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


async def connected(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", service.port)


def assert_late(answer: Answer, missing: str) -> None:
    assert answer.status == 408
    assert json.loads(answer.body)["code"] == "REQUEST_TIMEOUT"
    assert json.loads(answer.body)["message"].startswith(f"the {missing} of the request")
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/collect", "/graphql"])
async def test_a_body_that_does_not_come_is_not_waited_for(service: Service, path: str) -> None:
    reader, writer = await connected(service)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"x-api-key: {service.admin_key}\r\ncontent-length: 1000\r\n\r\n"
    )
    writer.write(head.encode() + b"{")

    assert_late(await answer_of(reader), "body")
    writer.close()


async def test_nor_one_that_comes_byte_by_byte(service: Service) -> None:
    reader, writer = await connected(service)
    writer.write(b"POST /collect HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")

    async def drip() -> None:
        with suppress(OSError):
            while True:
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert_late(await answer_of(reader), "body")
    dripping.cancel()
    writer.close()


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(service: Service) -> None:
    reader, writer = await connected(service)
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n")

    async def drip() -> None:
        with suppress(OSError):
            while True:
                writer.write(b"x-more: 1\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert_late(await answer_of(reader), "head")
    dripping.cancel()
    writer.close()


async def test_nor_the_next_one_on_a_connection_that_is_kept(service: Service) -> None:
    reader, writer = await connected(service)
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(SOON):
        assert b'{"status":"alive"}' in await reader.readuntil(b"}")
    writer.write(b"GET /hea")

    assert_late(await answer_of(reader), "head")
    writer.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word(service: Service) -> None:
    reader, writer = await connected(service)

    async with asyncio.timeout(SOON):
        assert await reader.read(-1) == b""
    writer.close()


async def test_a_head_without_end_is_refused(service: Service) -> None:
    reader, writer = await connected(service)
    start = b"GET /health HTTP/1.1\r\nx-more: "
    writer.write(start)
    # One byte too many, and no more: what nobody reads would reset the connection.
    writer.write(b"a" * (MAX_HEAD_BYTES - len(start) + 1))
    await writer.drain()

    answer = await answer_of(reader)
    assert (answer.status, json.loads(answer.body)["code"]) == (431, "HEAD_TOO_LARGE")
    writer.close()


async def test_what_is_no_http_is_refused_with_all_headers(service: Service) -> None:
    reader, writer = await connected(service)
    writer.write(b"hello\r\n\r\n")

    answer = await answer_of(reader)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "BAD_REQUEST")
    assert answer.headers["x-frame-options"] == "deny"
    assert "server" not in answer.headers
    writer.close()


async def test_large_bodies_in_many_pieces_are_no_heads(service: Service) -> None:
    reader, writer = await connected(service)
    filler = b" " * 512 * 1_024
    body = EVENT + filler
    writer.write(b"POST /collect HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 60_000):
        writer.write(body[start : start + 60_000])
        await writer.drain()
    async with asyncio.timeout(SOON):
        assert b" 200 " in await reader.readuntil(b"\r\n")
    writer.close()


async def test_those_who_wait_for_the_service_are_not_slow(service: Service) -> None:
    """An event stream goes on, whatever the patience; so does a connection between requests."""
    query = {"query": 'subscription { liveActivity(siteId: "shop") { users } }'}
    headers = {"x-api-key": service.admin_key, "accept": "text/event-stream"}
    async with (
        asyncio.timeout(SOON),
        service.client.stream("POST", "/graphql", json=query, headers=headers) as stream,
    ):
        assert stream.status_code == 200
        lines = stream.aiter_lines()
        seen = 0
        while seen < 3 * PATIENCE:  # one event a second
            seen += (await anext(lines)).startswith("event: next")


async def test_slow_clients_are_counted_and_the_service_goes_on(service: Service) -> None:
    idle = [await connected(service) for _ in range(50)]
    for _, writer in idle:
        writer.write(b"POST /collect HTTP/1.1\r\ncontent-length: 10\r\n\r\n")
    async with httpx.AsyncClient(base_url=service.url, timeout=SOON) as client:
        answers = [await client.post("/collect", content=EVENT) for _ in range(20)]
    for reader, writer in idle:
        assert_late(await answer_of(reader), "body")
        writer.close()
    page = (await service.client.get("/metrics")).text

    assert {answer.status_code for answer in answers} == {200}
    counted = next(
        line
        for line in page.splitlines()
        if line.startswith("footfall_http_slow_clients_total{") and "body" in line
    )
    assert float(counted.split()[-1]) >= 50
