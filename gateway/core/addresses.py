"""Which network addresses are public: what tenants name must not lead into the operator's own networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # neither IPv4-mapped nor NAT64 nor multicast (RFC 4291 section 2.4)

_PRIVATE: Final = tuple(
    map(
        ip_network,
        # RFC 1918, RFC 6598 and loopback; not 169.254.0.0/16 and fe80::/10, where clouds serve credentials.
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128"),
    )
)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet; one that embeds an IPv4 address is not."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    embeds_v4 = address.teredo is not None or address.sixtofour is not None
    return address in _GLOBAL_UNICAST and address.is_global and not embeds_v4


def is_private_host(address: Address) -> bool:
    """Tell whether an address is of a private network or of this host, link-local ones apart."""
    return any(address in network for network in _PRIVATE)
