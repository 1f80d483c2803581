"""The client's address, which only trusted proxies may tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from starlette.types import Scope

from server.settings import Network


def client_address(scope: Scope, headers: Mapping[bytes, bytes], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a trusted proxy's.

    `X-Forwarded-For` is read from its end, as each proxy adds the address it saw; what stands
    before the first address that is not a trusted proxy may be made up, and is not looked at.
    """
    client = scope.get("client")
    address: str = client[0] if client else ""
    if not trusted or not _is_trusted(address, trusted):
        return address
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
    for hop in reversed(forwarded):
        candidate = _plain(hop.strip())
        if candidate is None:
            return address
        address = candidate
        if not _is_trusted(address, trusted):
            break
    return address


def _plain(hop: str) -> str | None:
    """An address without a port or brackets; None where it is not one."""
    host = hop
    if hop.startswith("["):
        host = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        host = hop.partition(":")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted if network.version == parsed.version)
