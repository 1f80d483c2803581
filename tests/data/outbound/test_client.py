"""Requests to a real server: where they may go, and what of them goes where."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from data.outbound.addresses import AddressRefused, resolve
from data.outbound.client import Answer, Call, Outbound, is_same_origin, open_outbound
from data.outbound.failures import OutboundFailed
from tests.fixtures.certificates import Authority
from tests.fixtures.source_answers import as_json, hang, redirect, text
from tests.fixtures.source_server import Asked, SourceServer, send, serve_sources

PRIVATE = {"authorization": "Bearer s3cret", "x-key": "0ther", "x-team": "shop", "accept": "a/b"}


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """What may call this machine."""
    async with open_outbound(allow_private=True) as opened:
        yield opened


@pytest.fixture
async def guarded() -> AsyncIterator[Outbound]:
    """What may call 127.0.0.1 as if it were public, and no other address of this machine."""

    async def resolving(host: str, port: int) -> list[str]:
        return await resolve(host, port, allow_private=host == "127.0.0.1")

    async with open_outbound(allow_private=False, resolving=resolving) as opened:
        yield opened


async def body_of(outbound: Outbound, call: Call) -> bytes:
    async with outbound.send(call) as answer:
        return b"".join([piece async for piece in answer.pieces()])


async def refusal(outbound: Outbound, url: str, **more: Any) -> OutboundFailed:
    with pytest.raises(OutboundFailed) as failed:
        async with outbound.send(Call(url, **more)):
            pass
    return failed.value


def asked_with(asked: Asked) -> dict[str, str]:
    return {name: asked.headers[name] for name in PRIVATE if name in asked.headers}


async def test_names_that_nobody_answers_for_take_no_threads_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, answered = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *more: Any, **options: Any) -> Any:
        if host.endswith(".silent.test"):
            answered.wait(120)
        return found(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        async with open_outbound(allow_private=True) as outbound:
            urls = [f"http://{number}.silent.test/" for number in range(40)]
            refused = await asyncio.gather(*(refusal(outbound, url, seconds=0.2) for url in urls))
            # There are 32 of them at the most.
            async with asyncio.timeout(30):
                assert await asyncio.to_thread(len, "others") == 6
    finally:
        answered.set()

    assert all("within 0.2 s" in str(one) for one in refused)


async def test_a_private_address_is_not_even_connected_to(source_server: SourceServer) -> None:
    async with open_outbound(allow_private=False) as outbound:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            failed = await refusal(outbound, source_server.url(host=host))

            assert isinstance(failed, AddressRefused), host
            assert not failed.may_pass

    assert source_server.asked == []


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/",
        "http://127.0.0.2:{port}/",
        "//[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f000001:{port}/",
    ],
)
async def test_a_redirect_to_a_private_address_is_refused(
    source_server: SourceServer, guarded: Outbound, target: str
) -> None:
    source_server.at("/away", redirect(target.format(port=source_server.port)))

    failed = await refusal(guarded, source_server.url("/away"))

    assert isinstance(failed, AddressRefused)
    assert [asked.path for asked in source_server.asked] == ["/away"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file:///etc/passwd", "only http:// and https:// addresses are called"),
        ("ftp://127.0.0.1/", "only http:// and https:// addresses are called"),
        ("gopher://127.0.0.1/", "only http:// and https:// addresses are called"),
        (
            "http://user:pass@127.0.0.1/",
            "the address on 127.0.0.1 has a user name or password in it",
        ),
        ("http://[::1", "127.0.0.1 leads to what is no URL"),
    ],
)
async def test_a_redirect_leads_to_http_alone(
    source_server: SourceServer, outbound: Outbound, target: str, message: str
) -> None:
    source_server.at("/away", redirect(target))

    assert str(await refusal(outbound, source_server.url("/away"))) == message


async def test_a_redirect_is_followed_with_everything_on_its_origin(
    source_server: SourceServer, outbound: Outbound
) -> None:
    source_server.at("/away", redirect("/there?a=b"))
    source_server.at("/there", text("there"))

    body = await body_of(outbound, Call(source_server.url("/away"), headers=PRIVATE))

    assert body == b"there"
    assert asked_with(source_server.asked[-1]) == PRIVATE
    assert source_server.asked[-1].query == {"a": "b"}


@pytest.mark.parametrize("private", [frozenset[str](), frozenset({"accept"})])
async def test_what_is_for_one_origin_goes_to_no_other(
    source_server: SourceServer, outbound: Outbound, private: frozenset[str]
) -> None:
    """Another port is another origin, and so is another name of the same machine."""
    async with serve_sources() as other:
        other.at("/there", redirect(source_server.url("/back", host="localhost")))
        source_server.at("/back", redirect(source_server.url("/end")))
        source_server.at("/end", text("end"))
        source_server.at("/away", redirect(other.url("/there")))

        call = Call(source_server.url("/away"), headers=PRIVATE, private=private)
        assert await body_of(outbound, call) == b"end"

        first, *later = [*source_server.asked[:1], *other.asked, *source_server.asked[1:]]
    assert asked_with(first) == PRIVATE
    # Once it has been away, it stays without them: who leads it back is somebody else.
    expected = {"accept": "a/b"} if not private else {}
    assert [asked_with(asked) for asked in later] == [expected] * 3


async def test_a_request_away_from_home_goes_without_what_is_private(
    source_server: SourceServer, outbound: Outbound
) -> None:
    source_server.at("/", text("x"))
    home = source_server.url("/prices", host="localhost")

    await body_of(outbound, Call(source_server.url(), headers=PRIVATE, home=home))
    await body_of(outbound, Call(source_server.url(), headers=PRIVATE, home=source_server.url("/")))

    away, at_home = source_server.asked
    assert asked_with(away) == {"accept": "a/b"}
    assert asked_with(at_home) == PRIVATE


@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_goes_to_no_other_origin(
    source_server: SourceServer, outbound: Outbound, status: int
) -> None:
    source_server.at("/away", redirect(source_server.url("/", host="localhost"), status))
    source_server.at("/near", redirect("/end", status))
    source_server.at("/end", text("end"))

    failed = await refusal(outbound, source_server.url("/away"), method="POST")
    near = Call(source_server.url("/near"), method="POST", body=b"what")

    assert "127.0.0.1 leads a POST on to localhost" in str(failed)
    assert await body_of(outbound, near) == b"end"
    assert (source_server.asked[-1].method, source_server.asked[-1].body) == ("POST", b"what")


async def test_a_circle_of_redirects_ends(source_server: SourceServer, outbound: Outbound) -> None:
    source_server.at("/away", redirect("/away"))

    failed = await refusal(outbound, source_server.url("/away"))

    assert str(failed) == "127.0.0.1 redirects more than 5 times"
    assert not failed.may_pass
    assert len(source_server.asked) == 6


async def test_the_environment_has_no_say(
    source_server: SourceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    source_server.at("/", text("x"))

    async with open_outbound(allow_private=True) as outbound:
        assert await body_of(outbound, Call(source_server.url())) == b"x"

    assert "authorization" not in source_server.asked[0].headers


async def test_cookies_of_one_call_are_not_sent_by_another(
    source_server: SourceServer, outbound: Outbound
) -> None:
    source_server.at("/", text("x", set_cookie="a=b; Path=/"))

    async with outbound.visit() as visit:
        for _ in range(2):
            async with visit.send(Call(source_server.url())):
                pass

    assert "cookie" not in source_server.asked[1].headers


def connections_to(server: SourceServer) -> int:
    """How many connections of this process lead to the server."""
    found = psutil.Process().net_connections("tcp")
    return sum(one.raddr[1:] == (server.port,) for one in found)


async def test_connections_end_with_a_call_however_it_ends(
    source_server: SourceServer, outbound: Outbound
) -> None:
    source_server.at("/", as_json(list(range(50_000))))
    source_server.at("/hang", hang)

    async def left_early() -> None:
        async with outbound.send(Call(source_server.url())):
            pass

    await body_of(outbound, Call(source_server.url()))
    await left_early()
    await refusal(outbound, source_server.url("/hang"), seconds=0.1)
    # Given up at any moment, also right between the connection and the request.
    for turns in range(100):
        task = asyncio.create_task(left_early())
        for _ in range(turns % 50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    assert connections_to(source_server) == 0


async def test_the_calls_of_a_visit_share_a_connection(
    source_server: SourceServer, outbound: Outbound
) -> None:
    source_server.at("/", text("x"))

    async with outbound.visit() as visit:
        for _ in range(5):
            async with visit.send(Call(source_server.url())) as answer:
                assert [piece async for piece in answer.pieces()] == [b"x"]
        assert connections_to(source_server) == 1

    assert connections_to(source_server) == 0


async def test_a_name_is_tried_at_all_of_its_addresses(source_server: SourceServer) -> None:
    async def resolving(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "::1", "127.0.0.1"]

    source_server.at("/", text("x"))
    async with open_outbound(allow_private=False, resolving=resolving) as outbound:
        call = Call(f"http://prices.example:{source_server.port}/")
        assert await body_of(outbound, call) == b"x"

    assert source_server.asked[0].headers["host"] == f"prices.example:{source_server.port}"


async def test_the_certificate_is_checked_by_name_though_an_address_is_called(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    certificate = authority.certificate_for("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    trusted = ssl.create_default_context(cafile=str(authority.roots))
    async with (
        serve_sources(context) as server,
        open_outbound(allow_private=True, trusted=trusted) as outbound,
        open_outbound(allow_private=True) as stranger,
    ):
        server.at("/", text("x"))

        assert await body_of(outbound, Call(server.url(host="localhost"))) == b"x"
        by_address = await refusal(outbound, server.url())
        unknown = await refusal(stranger, server.url(host="localhost"))

    assert str(by_address).startswith("the certificate of 127.0.0.1 is not trusted")
    assert str(unknown).startswith("the certificate of localhost is not trusted")
    assert not by_address.may_pass


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", b""], ids=["talks", "silent"])
async def test_a_server_without_tls_is_told_from_one_that_is_not_there(
    outbound: Outbound, greeting: bytes
) -> None:
    """And nothing is left open: a socket that is, is a warning, which fails the run."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failed = await refusal(outbound, f"https://127.0.0.1:{port}/", seconds=1)

    if greeting:
        assert str(failed) == "no TLS connection to 127.0.0.1 can be made"
    else:
        assert str(failed) == "no answer from 127.0.0.1 within 1 s"


async def test_what_goes_wrong_names_no_path_and_no_query(outbound: Outbound) -> None:
    for url in ("http://127.0.0.1:1/s3cret?key=s3cret", "http://x.invalid/s3cret?key=s3cret"):
        assert "s3cret" not in str(await refusal(outbound, url))


@pytest.mark.parametrize("url", ["http://", "http:///x", "no url", "http://a:b:c/", "javascript:0"])
async def test_what_is_no_url_is_not_called(outbound: Outbound, url: str) -> None:
    assert not (await refusal(outbound, url)).may_pass


async def test_a_header_with_a_line_break_is_not_sent(
    source_server: SourceServer, outbound: Outbound
) -> None:
    call = Call(source_server.url(), headers={"x-team": "a\r\nX-Other: b"})

    with pytest.raises(OutboundFailed, match="a header cannot be sent"):
        await body_of(outbound, call)

    assert source_server.asked == []


async def test_the_next_link_is_found(source_server: SourceServer, outbound: Outbound) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        links = '<https://a.example/1>; rel="prev", </2?a=b,c>; rel="next"'
        await send(writer, 200, {"link": links})

    source_server.at("/", answer)
    source_server.at("/none", text("x"))

    async def link_of(path: str) -> str | None:
        async with outbound.send(Call(source_server.url(path))) as found:
            assert isinstance(found, Answer)
            return found.next_link

    assert await link_of("/") == "/2?a=b,c"
    assert await link_of("/none") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a.example/x", "http://a.example:80/y?z", True),
        ("https://a.example/", "https://A.example:443/", True),
        # Who got it in the open may have it again.
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example:8080/", "https://a.example/", False),
        ("http://a.example/", "https://a.example:8443/", False),
        ("http://a.example/", "http://a.example:8080/", False),
        ("http://a.example/", "http://www.a.example/", False),
        ("http://a.example/", "http://a.example./", False),
        ("http://bücher.example/", "http://xn--bcher-kva.example/", True),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, *, same: bool) -> None:
    assert is_same_origin(httpx.URL(one), httpx.URL(other)) is same


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_what_is_posted_follows_no_redirect_not_even_on_its_own_server(
    source_server: SourceServer, outbound: Outbound, status: int
) -> None:
    source_server.at("/hook", redirect("/other", status))

    told = await outbound.post(source_server.url("/hook"), b"{}", {"x": "y"}, seconds=10)

    assert told == status
    [asked] = source_server.asked
    assert (asked.method, asked.path, asked.body, asked.headers["x"]) == (
        "POST",
        "/hook",
        b"{}",
        "y",
    )
