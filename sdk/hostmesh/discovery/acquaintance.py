"""Which connected peers to turn to first: those of our configuration, then those that we dialled, then who came. Pure.

A key costs a stranger nothing, and a connection to us hardly more. What he cannot choose is whom we configured or
dialled; addresses in many networks cost him something.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hostmesh.discovery.subnet import NOWHERE, subnets_of
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import AddressScope, scope_of, split_peer_address
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """A connected peer, and how we came to know it."""

    peer_id: PeerId
    is_configured: bool
    """It is one of our bootstrap peers."""
    is_dialled: bool
    """We dialled it."""
    address: str | None
    """At the other end of its connection; None = not known."""

    @property
    def network(self) -> str:
        """Of its address: the /24 or /48, or a name's last two labels; on loopback, which all there share, itself."""
        if self.address is None:
            return NOWHERE
        try:
            if scope_of(self.address) is AddressScope.LOOPBACK:
                return self.peer_id
        except InvalidAddressError:
            return NOWHERE
        return next(iter(subnets_of((self.address,))))


def acquaintances(
    peers: Iterable[PeerId], views: Iterable[ConnectionView], configured: Collection[PeerId]
) -> list[Acquaintance]:
    """Return peers in the order to turn to them: configured, dialled, inbound; within each as they were given.

    Args:
        peers: who is connected, the oldest first.
        views: their connections. Of a peer with several, one that we dialled counts.
        configured: our bootstrap peers.
    """
    by_peer: dict[PeerId, ConnectionView] = {}
    for view in views:
        known = by_peer.get(view.peer_id)
        if known is None or (view.is_outbound and not known.is_outbound):
            by_peer[view.peer_id] = view
    found = []
    for peer_id in peers:
        view_of = by_peer.get(peer_id)
        found.append(
            Acquaintance(
                peer_id=peer_id,
                is_configured=peer_id in configured,
                is_dialled=view_of is not None and view_of.is_outbound,
                address=None if view_of is None else view_of.address,
            )
        )
    return sorted(found, key=lambda each: (not each.is_configured, not each.is_dialled))


def one_of_each_network(known: Iterable[Acquaintance], limit: int) -> tuple[list[Acquaintance], list[Acquaintance]]:
    """Return the configured ones with the first other of each network, at most ``limit``, and whom that passed over.

    Both are in the order given, in which configured ones come first. Their networks are taken by them.
    """
    first: list[Acquaintance] = []
    passed: list[Acquaintance] = []
    taken: set[str] = set()
    for each in known:
        if len(first) == limit:
            break
        if each.is_configured or each.network not in taken:
            first.append(each)
            taken.add(each.network)
        else:
            passed.append(each)
    return first, passed


def peers_of(addresses: Iterable[str]) -> frozenset[PeerId]:
    """Return the peers that multiaddrs with ``/p2p`` name; others are left out."""
    found: set[PeerId] = set()
    for address in addresses:
        try:
            peer_id = split_peer_address(address)[1]
        except InvalidAddressError:
            continue
        if peer_id is not None:
            found.add(peer_id)
    return frozenset(found)
