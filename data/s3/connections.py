"""The library's requests, sent over connections to addresses that were checked.

Whoever names an endpoint could otherwise have the service call what only it can reach. Nothing is
looked up twice: the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakSet

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSRequest,
    AWSResponse,
)
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from data.outbound.addresses import AddressRefused, HostUnknown, require_public
from data.outbound.failures import OutboundFailed


class _Made:
    """The connections of a session. Those that are in use are nowhere else to be found."""

    def __init__(self) -> None:
        self._known: WeakSet[HTTPConnection] = WeakSet()
        self._lock = Lock()

    def add(self, connection: HTTPConnection) -> None:
        """Note one, in whatever thread it is made."""
        with self._lock:
            self._known.add(connection)

    def cut(self) -> None:
        """End whatever waits for the other side."""
        with self._lock:
            sockets = [connection.sock for connection in self._known]
        for one in sockets:
            # Not by TLS, which would have to be taken from the thread that reads.
            if one is not None:
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)


class CheckedSession(URLLib3Session):
    """What sends the library's requests; to public addresses only, unless others are allowed.

    No proxies, whatever the environment says, and no redirects: those of S3 are answers like others.
    """

    def __init__(self, *, allow_private: bool, seconds: tuple[float, float], most: int) -> None:
        super().__init__(
            proxies={},
            timeout=seconds,  # type: ignore[arg-type]  # for connecting and for reading
            max_pool_connections=most,
        )
        plain, tls = (_AnyPool, _AnyTlsPool) if allow_private else (_CheckedPool, _CheckedTlsPool)
        self._made = _Made()
        pools = {"http": partial(plain, made=self._made), "https": partial(tls, made=self._made)}
        self._manager.pool_classes_by_scheme = pools  # type: ignore[attr-defined]
        self._is_closed = False

    def send(self, request: AWSRequest | AWSPreparedRequest) -> AWSResponse:
        """The answer; raises the library's errors and `OutboundFailed`, which it does not retry."""
        if self._is_closed:
            raise OutboundFailed("the bucket was closed meanwhile", may_pass=True)
        try:
            return super().send(request)
        except HTTPClientError as error:
            cause = error.kwargs.get("error")
            if isinstance(cause, OutboundFailed):
                raise cause from None
            raise

    def _get_ssl_context(self) -> ssl.SSLContext:
        # Those whom this machine trusts, beside the library's own list: a house's own authority.
        context: ssl.SSLContext = super()._get_ssl_context()  # type: ignore[misc]
        context.load_default_certs()
        return context

    def close(self) -> None:
        """Send nothing any more, and wait for nothing: threads that do come to their end."""
        self._is_closed = True
        self._made.cut()
        super().close()


def _connected(asking: HTTPConnection) -> socket.socket:
    """A connection to an address that was found to be public, for the name that was asked for."""
    assert asking.port is not None
    failure: Exception = HostUnknown(f"there is no host named {asking.host}")
    for address in _public_addresses(asking.host, asking.port):
        try:
            return create_connection(
                (address, asking.port),
                asking.timeout,
                source_address=asking.source_address,
                socket_options=asking.socket_options,
            )
        except TimeoutError:
            failure = ConnectTimeoutError(asking, f"{asking.host} does not answer")
        except OSError as error:
            failure = NewConnectionError(asking, f"{asking.host}: {error.strerror}")
    raise failure


class _CheckedConnection(AWSHTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _CheckedTlsConnection(AWSHTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _Noting:
    """A pool that notes its connections."""

    def __init__(self, *given: Any, made: _Made, **named: Any) -> None:
        super().__init__(*given, **named)
        self._made = made

    def _new_conn(self) -> HTTPConnection:
        connection: HTTPConnection = super()._new_conn()  # type: ignore[misc]
        self._made.add(connection)
        return connection


class _AnyPool(_Noting, AWSHTTPConnectionPool):
    pass


class _AnyTlsPool(_Noting, AWSHTTPSConnectionPool):  # type: ignore[misc]
    pass


class _CheckedPool(_Noting, AWSHTTPConnectionPool):
    ConnectionCls = _CheckedConnection


class _CheckedTlsPool(_Noting, AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _CheckedTlsConnection


def _public_addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # a label of more than 63 characters, a NUL
        raise HostUnknown(f"there is no host named {host}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        try:
            require_public(address)
        except AddressRefused:
            raise AddressRefused(
                f"{host} is at {address}, which is not a public address"
                " (OUTBOUND_ALLOW_PRIVATE allows those)"
            ) from None
    return addresses
