"""Whose address counts: the peer's, or the one that a proxy tells which the operator trusts.

``X-Forwarded-For`` is a list to which each proxy appends the address that called it. So it is read from the right,
where the trusted proxies wrote; what stands left of the first address that is none of theirs is anybody's word.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:  # the command line reads its settings without waiting for Starlette
    from starlette.requests import HTTPConnection

Address: TypeAlias = IPv4Address | IPv6Address
Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

UNKNOWN: Final = "unknown"  # one name for all that have no address, such as the peers of a Unix socket
_HEADER = "x-forwarded-for"
# Some proxies write the port as well.
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]+)\](?::\d+)?|(?P<four>[^:]+):\d+")


def parse_networks(text: str) -> Networks:
    """``network,network`` in CIDR notation; a single address is a network of one. Empty text: none.

    Raises:
        ValueError: saying which entry is wrong.
    """
    entries = [entry.strip() for entry in text.split(",")] if text.strip() else []
    return tuple(_network(entry, number) for number, entry in enumerate(entries, start=1))


class ClientAddress:
    """Reads the address of a request's client.

    Args:
        trusted: the proxies whose word is taken.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted

    def __call__(self, connection: HTTPConnection) -> str:
        """The peer's address, unless a trusted proxy is the peer: then the right-most one in its header that is not a
        trusted proxy's, or the left-most if all are. A header that is not a list of addresses counts for nothing."""
        peer = connection.client.host if connection.client is not None else UNKNOWN
        found = _parsed(peer)
        if found is None or not self._trusts(found):
            return peer
        told = ",".join(connection.headers.getlist(_HEADER))
        for entry in reversed(told.split(",")):
            found = _parsed(_without_port(entry.strip()))
            if found is None:
                return peer
            if not self._trusts(found):
                break
        return str(found)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _network(entry: str, number: int) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"network {number} is none ({error}): write it as 10.0.0.0/8 or 2001:db8::/32") from None
    if network.prefixlen == 0:
        raise ValueError(f"network {number} is everybody, who could then claim any address: name your proxies")
    return network


def _parsed(text: str) -> Address | None:
    """An address, the same one however it is written; a listener for both families maps IPv4 into IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(entry: str) -> str:
    found = _WITH_PORT.fullmatch(entry)
    return (found["six"] or found["four"]) if found is not None else entry
