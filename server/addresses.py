"""The client's address, which only trusted proxies may tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from server.settings import Network

# A house or a machine has at least as many IPv6 addresses as this leaves free; one may use them all
# in turn and is still one client.
_CLIENT_BITS = 64
# More proxies than any request goes through: what a longer header says has been made up.
_MAX_HOPS = 20


def client_address(scope: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a trusted proxy's.

    `X-Forwarded-For` is read from its end, as each proxy adds the address it saw; what stands
    before the first address that is not a trusted proxy may be made up, and is not looked at.
    """
    client = scope.get("client")
    address: str = client[0] if client else ""
    if not trusted or not _is_trusted(address, trusted):
        return address
    for hop in _hops_from_the_end(scope["headers"]):
        candidate = _plain(hop)
        if candidate is None:
            return address
        address = candidate
        if not _is_trusted(address, trusted):
            break
    return address


def is_trusted_peer(scope: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Whether whoever is connected is a trusted proxy."""
    client = scope.get("client")
    return client is not None and _is_trusted(client[0], trusted)


@lru_cache(maxsize=4_096)
def client_of(address: str) -> str:
    """Who counts as one client: an IPv4 address, or the network of an IPv6 one (its first half).

    What is no address is a client, too: that of tests and of sockets without one.
    """
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        plain = IPv6Address(int(found))  # without the name of an interface
        return str(IPv6Network((plain, _CLIENT_BITS), strict=False).network_address)
    return str(found) if found else address


def is_near(address: str) -> bool:
    """Whether the address is of this machine or of a private network."""
    found = _parsed(address)
    return found is not None and (found.is_private or found.is_loopback)


def _hops_from_the_end(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    # Some proxies add to the header that is there, others add one more.
    lines = [value for name, value in headers if name == b"x-forwarded-for"]
    hops = b",".join(lines).rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:]
    return [hop.strip().decode("latin-1") for hop in reversed(hops)]


def _plain(hop: str) -> str | None:
    """An address without a port or brackets; None where it is not one."""
    host = hop
    if hop.startswith("["):
        host = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        host = hop.partition(":")[0]
    found = _parsed(host)
    return None if found is None else str(found)


@lru_cache(maxsize=4_096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """The address; one of IPv4 also where a socket for both kinds shows it as one of IPv6."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    if parsed is None:
        return False
    return any(parsed in network for network in trusted if network.version == parsed.version)
