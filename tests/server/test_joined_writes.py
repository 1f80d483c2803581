"""Answers in one write: what is joined, what is not, and that nothing is lost or out of order."""

import asyncio
import logging
import socket
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from server.joined_writes import JoinedWrites, JoiningTransport, QuickCycle

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.told: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def close(self) -> None:
        self.told.append(b"closed")


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def joining(recorder: Recorder) -> JoiningTransport:
    return JoiningTransport(recorder, asyncio.get_running_loop())


async def test_head_and_body_go_out_together_when_the_turn_is_done(
    recorder: Recorder, joining: JoiningTransport
) -> None:
    joining.write(HEAD)
    joining.write(b"ok")
    before = list(recorder.told)
    await asyncio.sleep(0)
    joining.write(HEAD)
    joining.write(b"no")
    await asyncio.sleep(0)

    assert before == []
    assert recorder.told == [HEAD + b"ok", HEAD + b"no"]


async def test_answers_of_one_turn_go_out_in_their_order(
    recorder: Recorder, joining: JoiningTransport
) -> None:
    joining.write(HEAD)
    joining.write(b"ok")
    joining.write(HEAD)
    joining.write(b"no")
    await asyncio.sleep(0)

    assert recorder.told == [HEAD + b"ok" + HEAD + b"no"]


async def test_a_long_body_waits_for_nobody(recorder: Recorder, joining: JoiningTransport) -> None:
    joining.write(HEAD)
    joining.write(b"x" * 100_000)
    joining.write(b"y")

    assert recorder.told == [HEAD + b"x" * 100_000, b"y"]


async def test_a_head_whose_body_is_not_there_yet_goes_out_by_itself(
    recorder: Recorder, joining: JoiningTransport
) -> None:
    joining.write(HEAD)
    await asyncio.sleep(0)
    joining.write(b"data: 1\n\n")

    assert recorder.told == [HEAD, b"data: 1\n\n"]


async def test_everything_else_is_passed_on_at_once(
    recorder: Recorder, joining: JoiningTransport
) -> None:
    joining.write(b"\x81\x02ok")
    joining.write(b"ends like a head\r\n\r\n")

    assert recorder.told == [b"\x81\x02ok", b"ends like a head\r\n\r\n"]
    assert joining.get_extra_info("peername") == ("127.0.0.1", 1)


async def test_closing_loses_nothing(recorder: Recorder, joining: JoiningTransport) -> None:
    joining.write(HEAD)
    joining.close()
    await asyncio.sleep(0)

    assert recorder.told == [HEAD, b"closed"]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The body back: whole, in chunks for `/chunks`, and without any for 204."""
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/chunks":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for byte in body:
            await asyncio.sleep(0)
            part = bytes([byte])
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        return
    headers = [(b"content-length", b"%d" % len(body))] if body else []
    status = 200 if body else 204
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_a_server_that_joins_answers_pipelined_requests_in_order() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(echo, http=JoinedWrites, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        requests = [
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none",
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"POST /chunks HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\ntwo",
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nthree",
        ]
        writer.write(b"".join(requests))
        async with asyncio.timeout(60):
            answered = await reader.read()
        writer.close()
        server.should_exit = True
        await serving

    bodies = [b"one", b"204 No Content", b"1\r\nt\r\n1\r\nw\r\n1\r\no\r\n0\r\n\r\n", b"three"]
    assert answered.count(b"HTTP/1.1 20") == 4
    places = [answered.index(body) for body in bodies]
    assert places == sorted(places)


Headers = list[tuple[bytes, bytes]]


async def said_by(
    cycle_type: type[RequestResponseCycle], status: int, headers: Headers, body: bytes
) -> list[bytes] | str:
    """What goes over the wire for an answer, or the error that it comes to."""
    recorder = Recorder()
    transport: Any = recorder
    log = logging.getLogger("test")
    cycle = cycle_type(
        scope={"method": "GET", "http_version": "1.1"},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=log,
        access_logger=log,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    try:
        await cycle.send(start)
        await cycle.send({"type": "http.response.body", "body": body, "more_body": False})
    except RuntimeError as error:
        return str(error)
    return recorder.told


NAMES = st.sampled_from(
    [b"etag", b"vary", b"x-a", b"Content-Type", b"connection", b"transfer-encoding", b"a b", b"x\n"]
)
VALUES = st.sampled_from(
    [b"", b"1", b"close", b"chunked", b"a\r\nset-cookie: b", b"a\nb", b"a\0b", b"a\x7fb", b"a\tb"]
)
SOME_HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@given(
    status=st.sampled_from([200, 204, 304, 404, 503]),
    some=SOME_HEADERS,
    length=st.sampled_from([None, 0, 2]),
    body=st.sampled_from([b"", b"ok"]),
)
@example(status=200, some=[(b"x-a", b"a\r\nset-cookie: b")], length=2, body=b"ok")
@example(status=200, some=[(b"Content-Type", b"1")], length=2, body=b"ok")
@example(status=304, some=[(b"etag", b"1")], length=None, body=b"")
def test_the_short_way_says_what_uvicorn_says(
    status: int, some: Headers, length: int | None, body: bytes
) -> None:
    headers = [*some, *([(b"content-length", b"%d" % length)] if length is not None else [])]

    async def both() -> tuple[object, object]:
        return (
            await said_by(QuickCycle, status, list(headers), body),
            await said_by(RequestResponseCycle, status, list(headers), body),
        )

    quick, usual = asyncio.run(both())

    assert quick == usual
