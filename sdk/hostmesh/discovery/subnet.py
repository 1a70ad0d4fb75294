"""Which neighbourhoods an address list belongs to: what one machine's owner holds many of. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import parse_address
from hostmesh.net.dial_policy import target_network

NOWHERE = "nowhere"
"""Of a list in which no address says where it leads."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def subnets_of(addresses: Iterable[str]) -> frozenset[str]:
    """Return the networks of addresses: /24 of IPv4 (also inside IPv6), /48 of IPv6, the last two labels of a name.

    Args:
        addresses: multiaddrs as a record carries them. They are claims: whoever is counted by them may lie.

    >>> sorted(subnets_of(["/ip4/192.0.2.7/tcp/1", "/ip6/2001:db8:1:2::3/tcp/1", "/dns4/a.b.example.org/tcp/443"]))
    ['192.0.2.0/24', '2001:db8:1::/48', 'example.org']
    >>> subnets_of([])
    frozenset({'nowhere'})
    """
    return frozenset(map(_subnet_of, addresses)) or frozenset((NOWHERE,))


def _subnet_of(address: str) -> str:
    try:
        endpoint = parse_address(address)
    except InvalidAddressError:
        return NOWHERE
    ip = endpoint.ip
    if ip is None:
        return ".".join(endpoint.host.rstrip(".").split(".")[-2:])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ipaddress.IPv4Address(ip.packed[-4:]) if ip in _NAT64 else ip.sixtofour or ip
    return target_network(str(ip))
