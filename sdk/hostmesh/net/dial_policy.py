"""How often a target may be dialled. Pure.

A record or a DHT answer is a request of a stranger that this machine connect somewhere. Whoever collects many such
requests could aim them at one victim, or scan its ports; so dials that strangers asked for are counted by the target's
network (IPv4 /24, IPv6 /48), and by network and port.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from hostmesh.net.token_bucket import TokenBucket

PORT_BURST = 16
PORT_PER_S = 2.0
"""Dials to one network and port. Chosen here: some hosts behind one address reconnect at once, a flood cannot."""
NETWORK_BURST = 64
NETWORK_PER_S = 8.0
"""Dials to one network, all ports. Chosen here."""
MAX_TARGETS = 8192
"""Targets remembered; the least recently dialled is forgotten, which gives it a full burst again."""

_Target = tuple[str, int | None]


class DialLimiter:
    """Token buckets by target network and port; at most :data:`MAX_TARGETS` of them."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[_Target, TokenBucket] = OrderedDict()

    def allow(self, host: str, port: int, *, now: float) -> bool:
        """Say whether a dial may start, and count it if so.

        Args:
            host: IP address, without a zone.
            port: TCP port.
            now: monotonic seconds.

        Cost: O(1).
        """
        network = target_network(host)
        wanted: tuple[tuple[_Target, int, float], ...] = (
            ((network, port), PORT_BURST, PORT_PER_S),
            ((network, None), NETWORK_BURST, NETWORK_PER_S),
        )
        known = self._buckets
        buckets = {
            target: known.get(target) or TokenBucket(per_s=per_s, burst=burst) for target, burst, per_s in wanted
        }
        if any(bucket.wait_s(now) for bucket in buckets.values()):
            return False
        for target, bucket in buckets.items():
            bucket.take(now)
            self._buckets[target] = bucket
            self._buckets.move_to_end(target)
        while len(self._buckets) > MAX_TARGETS:
            self._buckets.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._buckets)


def target_network(host: str) -> str:
    """Return the network that counts as one target: /24 of IPv4 (also inside IPv6), /48 of IPv6.

    >>> target_network("192.0.2.77"), target_network("2001:db8:1:2::3")
    ('192.0.2.0/24', '2001:db8:1::/48')
    """
    ip = ipaddress.ip_address(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
