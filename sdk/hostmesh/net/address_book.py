"""Where peers may be reached, and who said so. Pure; bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, AddressOrigin
from hostmesh.net.peer_id import PeerId

MAX_PEERS = 4096
"""Peers remembered; the least recently touched is forgotten first."""

_STANDING = {
    AddressOrigin.CONFIGURED: 3,
    AddressOrigin.MDNS: 2,
    AddressOrigin.CONNECTED: 1,
    AddressOrigin.REMOTE: 0,
}


class AddressBook:
    """At most 16 addresses for each of at most 4096 peers.

    An address keeps the best origin it was ever given with. Where there is no room, the oldest of the least standing
    goes.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[PeerId, OrderedDict[str, AddressOrigin]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Note canonical addresses of a peer; the newest list is tried first, its order kept."""
        if not addresses:
            return
        known = self._peers.setdefault(peer_id, OrderedDict())
        self._peers.move_to_end(peer_id)
        for address in reversed(addresses[:MAX_ADDRESSES_PER_PEER]):
            before = known.get(address, origin)
            known[address] = max(before, origin, key=_STANDING.__getitem__)
            known.move_to_end(address, last=False)
        while len(known) > MAX_ADDRESSES_PER_PEER:
            del known[min(reversed(known), key=lambda address: _STANDING[known[address]])]
        while len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)

    def addresses_of(self, peer_id: PeerId) -> tuple[tuple[str, AddressOrigin], ...]:
        """Return a peer's addresses with their origins, the ones to try first in front."""
        return tuple(self._peers.get(peer_id, {}).items())
