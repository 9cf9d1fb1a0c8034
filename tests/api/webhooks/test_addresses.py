"""Which addresses webhooks may go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.webhooks.addresses import allowed, parse

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0",
    "223.255.255.255",
    "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e", "2001:200::", "2001:db7:ffff::1",
    "2001:db9::1", "2003::1", "3ffe:ffff::1", "3fff:1000::", "3fff:ffff::1", "2000::1",
    "::ffff:8.8.8.8",  # mapped: it is 8.8.8.8
]  # fmt: skip
HOSTILE = [
    # IPv4: each range's first and last address.
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
    "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0",
    "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255",
    "198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.1",
    "239.255.255.255", "240.0.0.0", "255.255.255.255", "168.63.129.16",
    # IPv6.
    "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:168.63.129.16", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1",  # NAT64
    "100::1", "100:0:0:1::1",  # discard
    "2001::1", "2001:0:53aa:64c::1", "2001:10::1", "2001:20::1", "2001:1ff:ffff::1",  # Teredo, ORCHID, assignments
    "2001:db8::1", "2001:db8:ffff:ffff::1", "3fff::1", "3fff:fff:ffff::1",  # documentation
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1",  # 6to4
    "4000::1", "5f00::1", "8000::1", "fc00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "ff0e::1", "2606:4700:4700::1111%eth0",
]  # fmt: skip
LOCAL = [
    "127.0.0.1", "127.255.255.255", "10.1.2.3", "172.16.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_allowed(text: str) -> None:
    assert allowed(parse(text), allow_private=False)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_addresses_are_not(text: str) -> None:
    assert not allowed(parse(text), allow_private=False)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_private_setting_opens_loopback_and_private_networks_only(text: str) -> None:
    opened = [ip_network(net) for net in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    opened += [ip_network("::1/128"), ip_network("fc00::/7")]
    address = parse(text)
    expected = any(address in network for network in opened)
    assert allowed(address, allow_private=True) is expected


@pytest.mark.parametrize("text", LOCAL)
def test_the_private_setting_opens_these(text: str) -> None:
    assert allowed(parse(text), allow_private=True)
    assert not allowed(parse(text), allow_private=False)


def test_a_mapped_address_is_connected_to_as_what_it_is() -> None:
    assert parse("::ffff:8.8.8.8") == IPv4Address("8.8.8.8")


@given(st.ip_addresses(v=4))
def test_mapping_an_address_changes_nothing(address: IPv4Address) -> None:
    mapped = parse(f"::ffff:{address}")
    assert allowed(mapped, allow_private=False) == allowed(address, allow_private=False)


@given(st.ip_addresses(v=6))
def test_nothing_outside_of_2000_3_is_allowed(address: IPv6Address) -> None:
    if allowed(address, allow_private=False):
        assert int(address) >> 125 == 1
        assert address.sixtofour is None
        assert address.teredo is None


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.2.3.4.5", "::g"]
)
def test_what_is_no_plain_address_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parse(text)
