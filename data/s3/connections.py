"""The library's requests, sent over connections to addresses that were checked.

Whoever names an endpoint could otherwise have the service call what only it can reach. Nothing is
looked up twice: the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSResponse,
)
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from data.outbound.addresses import AddressRefused, HostUnknown, require_public
from data.outbound.failures import OutboundFailed

if TYPE_CHECKING:
    _Mixed = HTTPConnection
else:
    _Mixed = object


class CheckedSession(URLLib3Session):
    """What sends the library's requests; to public addresses only, unless others are allowed.

    No proxies, whatever the environment says. Redirects are not followed here: the library makes
    a new request of one, which comes this way, too.
    """

    def __init__(self, *, allow_private: bool, seconds: tuple[float, float], most: int) -> None:
        super().__init__(proxies={}, timeout=seconds, max_pool_connections=most)
        self._manager.pool_classes_by_scheme = (
            {"http": AWSHTTPConnectionPool, "https": AWSHTTPSConnectionPool}
            if allow_private
            else {"http": _CheckedPool, "https": _CheckedTlsPool}
        )
        self._is_closed = False

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
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

    def close(self) -> None:
        """Send nothing any more."""
        self._is_closed = True
        super().close()


class _Checked(_Mixed):
    """Connects to an address that was found to be public, under the name that was asked for."""

    def _new_conn(self) -> socket.socket:
        assert self.port is not None
        failure: Exception = HostUnknown(f"there is no host named {self.host}")
        for address in _public_addresses(self.host, self.port):
            try:
                return create_connection(
                    (address, self.port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except TimeoutError:
                failure = ConnectTimeoutError(self, f"{self.host} does not answer")
            except OSError as error:
                failure = NewConnectionError(self, f"{self.host}: {error.strerror}")
        raise failure


class _CheckedConnection(_Checked, AWSHTTPConnection):
    pass


class _CheckedTlsConnection(_Checked, AWSHTTPSConnection):
    pass


class _CheckedPool(AWSHTTPConnectionPool):
    ConnectionCls = _CheckedConnection


class _CheckedTlsPool(AWSHTTPSConnectionPool):
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
