"""Connections to the very addresses that were checked, whatever the name leads to a moment later."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from time import monotonic
from types import TracebackType
from typing import Self

import certifi
import httpcore
import httpx

from data.outbound.addresses import HostUnknown, resolve

# Far more than fetches and notices at a time; a limit only so that a mistake shows.
_MAX_CONNECTIONS = 100
_KEEPALIVE_SECONDS = 15.0


class CheckedTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 by httpcore, on connections to addresses that may be called.

    `httpx`'s own transport has no place for a network backend.
    """

    def __init__(self, *, allow_private: bool, trusted: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted or trusted_authorities(),
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=_CheckedBackend(allow_private=allow_private),
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

    def __init__(self, *, allow_private: bool) -> None:
        self._plain = httpcore.AnyIOBackend()
        self._allow_private = allow_private

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
        addresses = await resolve(host, port, allow_private=self._allow_private)
        failure: Exception = HostUnknown(f"there is no host named {host}")
        for index, address in enumerate(addresses):
            share = None
            if timeout is not None:
                left = max(timeout - (monotonic() - begun), 0.001)
                share = left / (len(addresses) - index)
            try:
                return await self._plain.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def trusted_authorities() -> ssl.SSLContext:
    """Those whom this machine trusts, and the public ones, which an image may lack."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
