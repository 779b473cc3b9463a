"""Know which addresses are globally reachable: a copy of IANA's special-purpose address registries.

``IPv4 Special-Purpose Address Registry`` and ``IPv6 Special-Purpose Address Registry`` (iana.org/assignments), each
line a block and whether it is globally reachable (N/A counts as not). Complete up to May 2025 (RFC 9780, the dummy
prefix). The most specific line decides. Python's ``ipaddress`` contains a copy as well, whose age depends on Python's
version; a test compares the two.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REGISTERED: tuple[tuple[str, bool], ...] = (
    ("0.0.0.0/8", False),  # "this network"
    ("0.0.0.0/32", False),  # "this host on this network"
    ("10.0.0.0/8", False),  # private use
    ("100.64.0.0/10", False),  # shared address space
    ("127.0.0.0/8", False),  # loopback
    ("169.254.0.0/16", False),  # link local
    ("172.16.0.0/12", False),  # private use
    ("192.0.0.0/24", False),  # IETF protocol assignments
    ("192.0.0.0/29", False),  # IPv4 service continuity
    ("192.0.0.8/32", False),  # dummy address
    ("192.0.0.9/32", True),  # port control protocol, anycast
    ("192.0.0.10/32", True),  # traversal using relays around NAT, anycast
    ("192.0.0.170/32", False),  # NAT64/DNS64 discovery
    ("192.0.0.171/32", False),  # NAT64/DNS64 discovery
    ("192.0.2.0/24", False),  # documentation
    ("192.31.196.0/24", True),  # AS112-v4
    ("192.52.193.0/24", True),  # AMT
    ("192.88.99.0/24", False),  # 6to4 relay anycast, deprecated: N/A
    ("192.88.99.2/32", False),  # 6a44 relay anycast
    ("192.168.0.0/16", False),  # private use
    ("192.175.48.0/24", True),  # direct delegation AS112
    ("198.18.0.0/15", False),  # benchmarking
    ("198.51.100.0/24", False),  # documentation
    ("203.0.113.0/24", False),  # documentation
    ("240.0.0.0/4", False),  # reserved
    ("255.255.255.255/32", False),  # limited broadcast
    ("::1/128", False),  # loopback
    ("::/128", False),  # unspecified
    ("::ffff:0:0/96", False),  # IPv4-mapped
    ("64:ff9b::/96", True),  # IPv4-IPv6 translation
    ("64:ff9b:1::/48", False),  # IPv4-IPv6 translation, local use
    ("100::/64", False),  # discard only
    ("100:0:0:1::/64", False),  # dummy prefix
    ("2001::/23", False),  # IETF protocol assignments
    ("2001::/32", False),  # Teredo: N/A
    ("2001:1::1/128", True),  # port control protocol, anycast
    ("2001:1::2/128", True),  # traversal using relays around NAT, anycast
    ("2001:1::3/128", True),  # DNS-SD service registration protocol, anycast
    ("2001:2::/48", False),  # benchmarking
    ("2001:3::/32", True),  # AMT
    ("2001:4:112::/48", True),  # AS112-v6
    ("2001:10::/28", False),  # ORCHID, deprecated: N/A
    ("2001:20::/28", True),  # ORCHIDv2
    ("2001:30::/28", True),  # drone remote identification
    ("2001:db8::/32", False),  # documentation
    ("2002::/16", False),  # 6to4: N/A
    ("2620:4f:8000::/48", True),  # direct delegation AS112
    ("3fff::/20", False),  # documentation
    ("5f00::/16", False),  # segment routing SIDs
    ("fc00::/7", False),  # unique local
    ("fe80::/10", False),  # link-local unicast
)

_LINES = sorted(
    ((ipaddress.ip_network(block), reachable) for block, reachable in REGISTERED),
    key=lambda line: line[0].prefixlen,
    reverse=True,
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # the only IPv6 space that IANA allocates to networks


def globally_reachable(address: Address) -> bool:
    """Return whether this is a unicast address that can be reached from anywhere on the Internet."""
    if address.is_multicast:
        return False
    for block, reachable in _LINES:
        if block.version == address.version and address in block:
            return reachable
    return isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_UNICAST
