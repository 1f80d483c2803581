"""What a failed request means, said for people."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import httpcore
import httpx

from data.outbound.failures import OutboundFailed


def in_words(error: Exception, host: str) -> OutboundFailed:
    """What an exception of httpx or httpcore says, without URLs and without their words."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return OutboundFailed(
                f"the certificate of {host} is not trusted: {cause.verify_message}", may_pass=False
            )
        if isinstance(cause, ssl.SSLError):
            return OutboundFailed(f"no TLS connection to {host} can be made", may_pass=True)
    if isinstance(error, httpcore.ConnectError):
        return OutboundFailed(f"cannot connect to {host}: {_reason(error)}", may_pass=True)
    if isinstance(error, httpcore.NetworkError):
        return OutboundFailed(f"the connection to {host} broke", may_pass=True)
    if isinstance(error, httpcore.RemoteProtocolError):
        if "without sending" in str(error):
            return OutboundFailed(f"the answer of {host} broke off", may_pass=True)
        return OutboundFailed(f"what {host} answers is not HTTP", may_pass=True)
    if isinstance(error, httpcore.LocalProtocolError):
        return OutboundFailed("a header cannot be sent as it is written", may_pass=False)
    if isinstance(error, httpx.InvalidURL | httpx.RemoteProtocolError):
        return OutboundFailed(f"{host} leads to what is no URL", may_pass=False)
    return OutboundFailed(f"the request to {host} failed", may_pass=True)


def _reason(error: Exception) -> str:
    """The words of the operating system for why there is no connection."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
    return "nothing answers there"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
