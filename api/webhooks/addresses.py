"""Which IP addresses webhooks may go to: public ones.

Python's ``is_global`` is not enough: of 22 hostile addresses it called 9 public (6to4 and NAT64 forms of private ones,
documentation ranges, a cloud's metadata host …). So the lists stand here: everything in IPv4 that is not named is
allowed, everything in IPv6 outside of 2000::/3 is not. Sources: the IANA special-purpose address registries (RFC 6890),
RFC 9637 for 3fff::/20, and 168.63.129.16, a cloud provider's host services behind a public-looking address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_DENIED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
)
_ALLOWED_V6: Final = IPv6Network("2000::/3")
# Of those: protocol assignments with Teredo, documentation, 6to4, documentation again.
_DENIED_V6: Final = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
# What `webhook_allow_private` opens. Link-local stays shut: no receiver lives there, but metadata services do.
_PRIVATE_V4: Final = tuple(
    IPv4Network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_V6: Final = tuple(IPv6Network(text) for text in ("::1/128", "fc00::/7"))


def parse(text: str) -> Address:
    """The address, an IPv4 address that was mapped into IPv6 as itself: that is where a connection would go.

    Raises:
        ValueError: no address.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def allowed(address: Address, *, allow_private: bool) -> bool:
    """Whether webhooks may be sent there.

    Args:
        address: as ``parse`` returns it.
        allow_private: loopback and private networks too.
    """
    if isinstance(address, IPv4Address):
        private = allow_private and any(address in network for network in _PRIVATE_V4)
        return private or not any(address in network for network in _DENIED_V4)
    if address.scope_id is not None:
        return False  # "…%eth0" means something on this machine's own links only
    private = allow_private and any(address in network for network in _PRIVATE_V6)
    return private or (address in _ALLOWED_V6 and not any(address in network for network in _DENIED_V6))
