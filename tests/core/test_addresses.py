from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.core.addresses import is_private_host, is_public


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.216.34", True, False),
        ("2606:2800:220:1::1", True, False),
        ("10.1.2.3", False, True),
        ("172.16.0.1", False, True),
        ("192.168.1.1", False, True),
        ("127.0.0.1", False, True),
        ("127.8.8.8", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("100.64.0.1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104  # an address like the others here
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("255.255.255.255", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::1", False, False),
        ("2001:0:7f00:1::1", False, False),
    ],
)
def test_which_addresses_are_whose(address: str, public: bool, private: bool) -> None:
    """Loopback, private, link-local, multicast and embedded IPv4 addresses are not public; of them few are hosts."""
    assert (is_public(ip_address(address)), is_private_host(ip_address(address))) == (public, private)
