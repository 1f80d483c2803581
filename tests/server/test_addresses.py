"""The client's address: from the connection, and from trusted proxies only."""

from ipaddress import ip_network
from typing import Any

import pytest

from server.addresses import client_address, client_of, is_near, is_trusted_peer

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def scope_of(peer: str | None, *forwarded: str, **others: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in others.items()]
    return {"client": (peer, 1) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # Nobody vouches for what a stranger says.
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),
        ("8.8.8.8", [], "8.8.8.8"),
        # From the right, up to the first that is not trusted.
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 10.9.9.9, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        # Proxies that add a header each.
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1", "10.0.0.2"], "1.1.1.1"),
        # All of them are trusted: a client of the private network.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # What is no address ends the walk where it is known.
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["\xff\xfe, <script>"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, " + "10.0.0.2, " * 5_000 + "10.0.0.2"], "10.0.0.2"),
        # Ports and brackets, and both kinds of addresses.
        ("10.0.0.1", ["1.1.1.1:4711"], "1.1.1.1"),
        ("10.0.0.1", ["[2a00::1]:4711"], "2a00::1"),
        ("fd00::1", ["2a00::1, fd12::1"], "2a00::1"),
        ("::ffff:10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("not an address", ["1.1.1.1"], "not an address"),
        (None, ["1.1.1.1"], ""),
    ],
)
def test_the_address_is_the_nearest_that_is_no_trusted_proxy(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(scope_of(peer, *forwarded), TRUSTED) == address


def test_no_other_header_tells_the_address() -> None:
    scope = scope_of("10.0.0.1", x_real_ip="6.6.6.6", forwarded="for=6.6.6.6", client_ip="6.6.6.6")

    assert client_address(scope, TRUSTED) == "10.0.0.1"


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address(scope_of("127.0.0.1", "6.6.6.6"), []) == "127.0.0.1"
    assert not is_trusted_peer(scope_of("127.0.0.1"), [])


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2a00:1450:1:2::1", "2a00:1450:1:2:ffff::9", True),
        ("2a00:1450:1:2::1", "2a00:1450:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:1.1.1.1", "1.1.1.1", True),
        ("1.1.1.1", "1.1.1.2", False),
        ("", "1.1.1.1", False),
    ],
)
def test_the_addresses_of_one_ipv6_network_are_one_client(
    one: str, other: str, is_same: bool
) -> None:
    assert (client_of(one) == client_of(other)) == is_same


def test_near_is_this_machine_and_private_networks() -> None:
    near = ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd00::1", "::ffff:172.16.0.1"]

    assert all(map(is_near, near))
    assert not any(map(is_near, ["8.8.8.8", "2a00::1", "", "here", "::ffff:8.8.8.8"]))
