"""Which addresses may be called, however they are written."""

import pytest

from data.outbound.addresses import AddressRefused, HostUnknown, require_public, resolve

PUBLIC = (
    "1.1.1.1",
    "93.184.215.14",
    "2606:4700:4700::1111",
    # A gateway, or the operating system, makes the public IPv4 address of these.
    "64:ff9b::5db8:d70e",
    "::ffff:93.184.215.14",
)

REFUSED = {
    "this machine": "127.0.0.1",
    "all of its network": "127.8.9.10",
    "this machine by IPv6": "::1",
    "no address": "0.0.0.0",  # noqa: S104 - refused here
    "no address by IPv6": "::",
    "class A": "10.1.2.3",
    "class B": "172.31.255.255",
    "class C": "192.168.0.1",
    "carriers": "100.64.0.1",
    "metadata of most clouds": "169.254.169.254",
    "metadata of containers": "169.254.170.2",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "metadata of AWS by IPv6": "fd00:ec2::254",
    "the wire server of Azure": "168.63.129.16",
    "link-local": "fe80::1",
    "link-local of an interface": "fe80::1%1",
    "unique local": "fc00::1",
    "site-local": "fec0::1",
    "multicast": "224.0.0.1",
    "multicast that is global": "239.255.255.250",
    "multicast by IPv6": "ff0e::1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "benchmarks": "198.18.0.1",
    "documentation": "203.0.113.5",
    "documentation by IPv6": "2001:db8::1",
    "mapped": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:169.254.169.254",
    "compatible": "::127.0.0.1",
    "NAT64 of a private one": "64:ff9b::a00:1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "NAT64 of one's own": "64:ff9b:1::a00:1",
    "6to4 of a private one": "2002:a00:1::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "not an address": "localhost",
    "nothing": "",
}

# How this machine can be written, and what resolves to it without any DNS.
LOOPBACK = (
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    require_public(address)


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_other_addresses_may_not(address: str) -> None:
    with pytest.raises(AddressRefused):
        require_public(address)


@pytest.mark.parametrize("host", LOOPBACK)
async def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    try:
        with pytest.raises(AddressRefused, match="OUTBOUND_ALLOW_PRIVATE"):
            await resolve(host, 80, allow_private=False)
    except HostUnknown:
        # Not every resolver knows each way of writing; what it does not know is not called.
        assert host in ("LOCALHOST", "localhost.")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_odd_ways_of_writing_are_the_addresses_that_they_lead_to(host: str) -> None:
    assert await resolve(host, 80, allow_private=True) == ["127.0.0.1"]


async def test_a_name_is_refused_with_the_address_that_it_leads_to() -> None:
    with pytest.raises(AddressRefused) as refused:
        await resolve("localhost", 80, allow_private=False)

    assert str(refused.value).startswith("localhost is at ")
    assert not refused.value.may_pass


async def test_private_addresses_can_be_allowed() -> None:
    assert "127.0.0.1" in await resolve("localhost", 80, allow_private=True)


@pytest.mark.parametrize(
    "host", ["", "no-such-host.invalid", "a" * 64 + ".example", "a..example", "with\0nul.example"]
)
async def test_a_host_that_is_not_there_is_unknown(host: str) -> None:
    with pytest.raises((HostUnknown, AddressRefused)):
        await resolve(host, 80, allow_private=False)
