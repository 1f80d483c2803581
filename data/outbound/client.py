"""Requests to addresses that people name: checked, bounded in time, and without a memory.

No cookies are kept, nothing is read from the environment (proxies, .netrc), and what belongs to one
origin goes to no other.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version

import httpcore
import httpx

from data.inflating import CutOff, Inflater, NotCompressed, TooManyMembers
from data.outbound.addresses import resolve
from data.outbound.failures import OutboundFailed
from data.outbound.links import next_link
from data.outbound.transport import CheckedTransport, Resolving, trusted_authorities
from data.outbound.words import in_words

MAX_REDIRECTS = 5
# What of a request may go to another origin, as far as `Call.private` does not name it.
_FOR_ANYBODY = frozenset(
    {"accept", "accept-encoding", "accept-language", "if-modified-since", "if-none-match"}
    | {"user-agent", "content-type", "content-length", "host"}
)
# The loop is not held up for longer than it takes to inflate so much.
_PIECE_BYTES = 64 * 1024
# Of names at a time. One that nobody answers for takes its thread longer than its call may take.
_LOOK_UPS = 16
_IDENTITY = ("", "identity")
_GZIP = ("gzip", "x-gzip")


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `seconds` is for all of it, from looking up the name to the last byte.

    `home` is the address whose origin may get all of the headers and a body; where it is not
    given, `url` is. `private` are the names of headers, in lower case, that no other may get.
    Where it is not to follow redirects, those are answers like others.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = None
    home: str | None = None
    private: frozenset[str] = frozenset()
    seconds: float = 10.0
    follows_redirects: bool = True


class Answer:
    """Status, headers and URL (after redirects) of an answer; its body comes as it is read."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.url = str(response.url)
        # Names in lower case; what came several times is joined by commas.
        self.headers: Mapping[str, str] = dict(response.headers)

    @property
    def next_link(self) -> str | None:
        """The target of the `Link` header that is called `next`."""
        return next_link(self.headers.get("link", ""))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, decompressed, in pieces of 64 KiB at most; whoever has enough stops asking."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding in _IDENTITY:
            async for chunk in self._response.aiter_raw(_PIECE_BYTES):
                yield chunk
            return
        if encoding not in (*_GZIP, "deflate"):
            raise OutboundFailed(
                f"the answer is compressed as {encoding[:40]!r}, which was not asked for",
                may_pass=False,
            )
        inflater = Inflater(is_gzip=encoding in _GZIP)
        try:
            async for chunk in self._response.aiter_raw():
                for piece in inflater.pieces(chunk, _PIECE_BYTES):
                    yield piece
                    # A small chunk may hold a thousand pieces.
                    await asyncio.sleep(0)
            inflater.finish()
        except (NotCompressed, TooManyMembers):
            raise OutboundFailed(
                f"the answer is not {encoding}, though it says so", may_pass=False
            ) from None
        except CutOff:
            raise OutboundFailed("the compressed answer broke off", may_pass=True) from None


class Visit:
    """Several calls that share their connections."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncIterator[Answer]:
        """The answer after redirects, each of which is checked like the first address.

        Raises `OutboundFailed`, also out of the block while the body is read.
        """
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(call.seconds):
                response = await self._follow(call)
                yield Answer(response)
        except (TimeoutError, httpcore.TimeoutException):
            what = "no answer" if response is None else "no whole answer"
            raise OutboundFailed(
                f"{what} from {_host(call.url)} within {call.seconds:g} s", may_pass=True
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, *_CORE_ERRORS) as error:
            url = str(response.url) if response is not None else call.url
            raise in_words(error, _host(url)) from None
        finally:
            if response is not None:
                await response.aclose()

    async def _follow(self, call: Call) -> httpx.Response:
        request = self._client.build_request(
            call.method,
            call.url,
            headers=dict(call.headers),
            content=call.body,
            # Of each step; the block has a time for all of them.
            timeout=call.seconds,
        )
        _require_plain(request.url)
        if call.home is not None:
            request = _for(request, httpx.URL(call.home), call)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            if not (call.follows_redirects and response.has_redirect_location):
                return response
            await response.aclose()
            following = response.next_request
            if following is None:
                return response
            _require_plain(following.url)
            request = _for(following, request.url, call)
        raise OutboundFailed(
            f"{_host(call.url)} redirects more than {MAX_REDIRECTS} times", may_pass=False
        )


_CORE_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class Outbound:
    """The way out, for all who call addresses that people named."""

    def __init__(self, resolving: Resolving, trusted: ssl.SSLContext) -> None:
        self._resolving = resolving
        self._trusted = trusted

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[Visit]:
        """Calls that belong together; their connections end with the block.

        None are kept for others: httpcore forgets a connection that was given up right after it
        was made, and a pool that lives as long as the process would fill up with those.
        """
        async with httpx.AsyncClient(
            transport=CheckedTransport(self._resolving, self._trusted),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers={
                "user-agent": f"Footfall/{version('footfall')}",
                "accept-encoding": "gzip, deflate",
            },
        ) as client:
            yield Visit(client)

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncIterator[Answer]:
        """The answer to a call of its own, as `Visit.send` gives it."""
        async with self.visit() as visit, visit.send(call) as answer:
            yield answer

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float
    ) -> int:
        """The status with which something was taken, or not; redirects are not followed.

        What else is answered is not read. Raises `OutboundFailed`.
        """
        call = Call(url, "POST", headers, body, seconds=seconds, follows_redirects=False)
        async with self.send(call) as answer:
            return answer.status


@asynccontextmanager
async def open_outbound(
    *,
    allow_private: bool,
    trusted: ssl.SSLContext | None = None,
    resolving: Resolving | None = None,
) -> AsyncIterator[Outbound]:
    """The way out of this process.

    `trusted` instead of the authorities that the machine trusts; `resolving` instead of `resolve`.
    """
    threads = ThreadPoolExecutor(_LOOK_UPS, thread_name_prefix="look-up")
    checked = resolving or partial(resolve, allow_private=allow_private, threads=threads)
    try:
        yield Outbound(checked, trusted or trusted_authorities())
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _for(request: httpx.Request, before: httpx.URL, call: Call) -> httpx.Request:
    """The request without what only the origin it comes from may get."""
    if is_same_origin(before, request.url):
        return request
    if request.method not in ("GET", "HEAD"):
        raise OutboundFailed(
            f"{before.host} leads a {request.method} on to {request.url.host}; "
            "what is sent goes to no other origin",
            may_pass=False,
        )
    for name in set(request.headers):
        if name not in _FOR_ANYBODY or name in call.private:
            del request.headers[name]
    return request


def _require_plain(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise OutboundFailed("only http:// and https:// addresses are called", may_pass=False)
    if url.userinfo:
        raise OutboundFailed(
            f"the address on {url.host} has a user name or password in it", may_pass=False
        )


def is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether scheme, host and port agree, or the other is the same host by HTTPS instead."""
    if one.host != other.host:
        return False
    if (one.scheme, _port(one)) == (other.scheme, _port(other)):
        return True
    return (one.scheme, _port(one), other.scheme, _port(other)) == ("http", 80, "https", 443)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "the address"
