"""What a node dials for others that ask whether they can be reached, and how often. Pure.

A request to be dialled is a request that this machine connect to a place that a stranger names. So private, loopback
and link-local addresses are dialled only where the stranger is seen at that very address; any other address only after
it has sent more than the dial costs whoever is there.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hostmesh.net.address import AddressScope, IpAddress, parse_address, scope_of, scope_of_ip
from hostmesh.net.dial_policy import target_network
from hostmesh.net.peer_id import PeerId

WINDOW_S = 60.0
MAX_PER_WINDOW = 60
MAX_PER_NETWORK = 24
"""Of one network (IPv4 /24, IPv6 /48) in a window: keys cost nothing, addresses do. Loopback is exempt."""
MAX_PER_PEER = 12
MAX_PAID_PER_WINDOW = 12
"""Dials to addresses that are not the asker's own. Source of these but the network's: go-libp2p's defaults."""
MAX_AT_ONCE = 16
MIN_DATA_BYTES = 30_000
MAX_DATA_BYTES = 100_000
"""Source: the specification, "amplification attack prevention"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The one address of a request that is dialled."""

    index: int
    address: str
    is_paid: bool
    """Whether the asker must send data first: it is not seen at this address."""


def choose_address(addresses: Sequence[str | None], *, asker_ip: str | None, own_ips: Collection[str]) -> Chosen | None:
    """Return the first address that may be dialled for an asker, or None.

    Args:
        addresses: as the asker listed them; None: cannot be read.
        asker_ip: where the asker is seen; None: nowhere, through a relay for one.
        own_ips: of this machine; they tell which IP versions it can dial.

    >>> choose_address(["/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1"], asker_ip="8.8.8.8", own_ips=["9.9.9.9"])
    Chosen(index=1, address='/ip4/8.8.8.8/tcp/1', is_paid=False)
    """
    seen_at = None if asker_ip is None else _plain(ipaddress.ip_address(asker_ip))
    for index, address in enumerate(addresses):
        if address is None:
            continue
        ip = parse_address(address).ip
        scope = scope_of(address)
        if ip is None:
            return Chosen(index=index, address=address, is_paid=True)
        if scope in (AddressScope.UNUSABLE, AddressScope.METADATA):
            continue
        if _plain(ip) == seen_at:
            return Chosen(index=index, address=address, is_paid=False)
        if scope is AddressScope.PUBLIC and _reaches_out(ip.version, own_ips):
            return Chosen(index=index, address=address, is_paid=True)
    return None


def _plain(ip: IpAddress) -> IpAddress:
    inner = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if inner is None else inner


def _reaches_out(version: int, own_ips: Collection[str]) -> bool:
    """Whether this machine reaches public addresses: IPv4 has NAT nearly everywhere, IPv6 nearly nowhere."""
    scopes = {scope_of_ip(ip) for ip in map(ipaddress.ip_address, own_ips) if ip.version == version}
    return bool(scopes & ({AddressScope.PUBLIC, AddressScope.PRIVATE} if version == 4 else {AddressScope.PUBLIC}))


class DialBackLimiter:
    """Admits requests: one at a time of a peer, and so many a minute of a peer, of a network, and of all."""

    def __init__(self) -> None:
        self._running: set[PeerId] = set()
        self._lately: deque[tuple[float, PeerId, str | None]] = deque()
        self._paid: deque[float] = deque()
        self.refused: Counter[str] = Counter()
        """Requests that were not admitted, by reason."""

    def begin(self, peer_id: PeerId, ip: str | None, now: float) -> bool:
        """Say whether a request is served, and count it if so; :meth:`end` follows then.

        Args:
            peer_id: who asks.
            ip: where it is seen.
            now: monotonic seconds.

        Cost: linear in the requests of the last minute, 60 at most.
        """
        while self._lately and now - self._lately[0][0] >= WINDOW_S:
            self._lately.popleft()
        network = None if ip is None or ipaddress.ip_address(ip).is_loopback else target_network(ip)
        reason = self._objection(peer_id, network)
        if reason:
            self.refused[reason] += 1
            return False
        self._running.add(peer_id)
        self._lately.append((now, peer_id, network))
        return True

    def _objection(self, peer_id: PeerId, network: str | None) -> str:
        if peer_id in self._running:
            return "one_at_a_time"
        if len(self._running) >= MAX_AT_ONCE or len(self._lately) >= MAX_PER_WINDOW:
            return "busy"
        if sum(each == peer_id for _, each, _ in self._lately) >= MAX_PER_PEER:
            return "peer"
        if network is not None and sum(each == network for _, _, each in self._lately) >= MAX_PER_NETWORK:
            return "network"
        return ""

    def end(self, peer_id: PeerId) -> None:
        """Know that the request of a peer is over."""
        self._running.discard(peer_id)

    def admit_paid(self, now: float) -> bool:
        """Say whether an address is dialled that is not the asker's own, and count it if so."""
        while self._paid and now - self._paid[0] >= WINDOW_S:
            self._paid.popleft()
        if len(self._paid) >= MAX_PAID_PER_WINDOW:
            self.refused["paid"] += 1
            return False
        self._paid.append(now)
        return True
