"""Which addresses the service may call for somebody: public ones, checked after name resolution.

Whoever can have the service call an address could otherwise have it ask what only it can reach:
the metadata service of a cloud, which hands out credentials, or a database without a password.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import Executor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from data.outbound.failures import OutboundFailed

# IPv4 in IPv6: a gateway of this network turns them back, so what counts is what is inside.
_NAT64 = IPv6Network("64:ff9b::/96")
# All that the public internet has of IPv6.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# What `is_global` takes for public, at least in some versions of Python.
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # the metadata service of Azure
            "192.0.0.0/24",  # protocols; the metadata service of Oracle
            "192.88.99.0/24",  # relays of 6to4
            "2001::/23",  # protocols; Teredo, which has IPv4 addresses inside
            "3fff::/20",  # documentation
        ),
    )
)


class AddressRefused(OutboundFailed):
    """The address is not a public one, and only those may be called."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_pass=False)


class HostUnknown(OutboundFailed):
    """The name of the host leads to no address, at least now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_pass=True)


def require_public(address: str) -> None:
    """Raises `AddressRefused` unless the address, an IP as text, is one of the public internet."""
    try:
        found = ip_address(address)
    except ValueError:
        raise AddressRefused(f"{address!r} is not an IP address") from None
    if not _is_public(_inside(found)):
        raise AddressRefused(f"{address} is not a public address")


async def resolve(
    host: str, port: int, *, allow_private: bool, threads: Executor | None = None
) -> list[str]:
    """The addresses of a host, in the order in which they should be tried.

    Whatever `host` is written as (a name, 127.1, 0x7f000001, ::ffff:127.0.0.1), the addresses are
    those that would be connected to. Raises `AddressRefused` if a single one of them is refused:
    a name with public and private addresses is a trick or a mistake. Raises `HostUnknown`.

    A look-up holds its thread until it ends, also when nobody waits for it any more: `threads` are
    those of whoever makes many of them, so that others have theirs.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise HostUnknown(f"the name {host} could not be looked up") from None
        raise HostUnknown(f"there is no host named {host}") from None
    except (OSError, ValueError):  # a label of more than 63 characters, a NUL
        raise HostUnknown(f"there is no host named {host}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise HostUnknown(f"there is no host named {host}")
    if not allow_private:
        for address in addresses:
            _require_public_of(host, address)
    return addresses


def _require_public_of(host: str, address: str) -> None:
    try:
        require_public(address)
    except AddressRefused:
        where = "it" if host == address else f"{host} is at {address}, which"
        whose = f"{address} may not be called: " if host == address else ""
        raise AddressRefused(
            f"{whose}{where} is not a public address (OUTBOUND_ALLOW_PRIVATE allows those)"
        ) from None


def _inside(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that one of IPv6 stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address.version == one.version and address in one for one in _NOT_PUBLIC):
        return False
    # Some multicast and reserved addresses are global, too.
    return address.is_global and not (address.is_multicast or address.is_reserved)
