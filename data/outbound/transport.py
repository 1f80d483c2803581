"""Connections to the very addresses that were checked, whatever the name leads to a moment later."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import Any, Self

import certifi
import httpcore
import httpx

from data.outbound.addresses import HostUnknown

# Of one visit, which makes its calls one after another.
_MAX_CONNECTIONS = 10
_KEEPALIVE_SECONDS = 15.0

# The addresses of a host and a port, all of which may be called.
Resolving = Callable[[str, int], Awaitable[list[str]]]


class CheckedTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 by httpcore, on connections to addresses that may be called.

    `httpx`'s own transport has no place for a network backend.
    """

    def __init__(self, resolving: Resolving, trusted: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=_CheckedBackend(resolving),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._pool.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, its body still to come; raises exceptions of httpcore and `OutboundFailed`."""
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks all of its addresses, and connects to one of these."""

    def __init__(self, resolving: Resolving) -> None:
        self._plain = httpcore.AnyIOBackend()
        self._resolving = resolving

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that answers; the time is shared among them."""
        begun = monotonic()
        addresses = await self._resolving(host, port)
        failure: Exception = HostUnknown(f"there is no host named {host}")
        for index, address in enumerate(addresses):
            share = None
            if timeout is not None:
                left = max(timeout - (monotonic() - begun), 0.001)
                share = left / (len(addresses) - index)
            try:
                return _Stream(
                    await self._plain.connect_tcp(
                        address, port, share, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed, too, when it is given up in the middle of a TLS handshake."""

    def __init__(self, plain: httpcore.AsyncNetworkStream) -> None:
        self._plain = plain

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> bytes:
        return await self._plain.read(max_bytes, timeout)

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> None:
        await self._plain.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._plain.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._plain.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            # httpcore does so for every exception but this.
            await self._plain.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def trusted_authorities() -> ssl.SSLContext:
    """Those whom this machine trusts, and the public ones, which an image may lack."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
