"""A node's peers as py-libp2p's peer store: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerstore import PeerStore, PeerStoreError

from hostmesh.errors import InvalidAddressError
from hostmesh.net.libp2p_stream import libp2p_id, node_peer_id, to_multiaddr
from hostmesh.net.node import Node
from hostmesh.net.peer_id import public_key_of

ADDRESS_TTL_S = 7200
"""How long addresses are kept after their peer was connected last. Source: py-libp2p's own protocols keep them so."""


class _Peers(dict[ID, PeerData]):
    """What is known of peers. Of a connected one the node is asked when it is looked for: there is no event to miss.

    What Identify told is put in once, so that what a protocol puts there afterwards stays.

    Args:
        node: whose peers.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._told: WeakKeyDictionary[PeerData, tuple[tuple[str, ...], ...]] = WeakKeyDictionary()

    def __contains__(self, peer_id: object) -> bool:
        if isinstance(peer_id, ID):
            self.look_up(peer_id)
        return super().__contains__(peer_id)

    def setdefault(self, peer_id: ID, default: PeerData, /) -> PeerData:
        self.look_up(peer_id)
        return super().setdefault(peer_id, default)

    def look_up(self, peer_id: ID) -> None:
        """Ask the node about a peer, if it is connected, or is the node."""
        try:
            known_as = node_peer_id(peer_id)
        except InvalidAddressError:
            return
        if known_as != self._node.peer_id and not self._node.is_connected(known_as):
            return
        data = super().setdefault(peer_id, PeerData())
        if data.pubkey is None:
            data.add_pubkey(Ed25519PublicKey.from_bytes(public_key_of(known_as)))
        data.update_last_identified()
        told = self._node.protocols_of(known_as), self._node.addresses_of(known_as)
        if self._told.get(data) == told:
            return
        self._told[data] = told
        protocols, addresses = told
        if protocols:
            data.set_protocols(protocols)
        if addresses:
            data.add_addrs([to_multiaddr(address) for address in addresses])
            data.set_ttl(ADDRESS_TTL_S)

    def look_up_all(self) -> None:
        """Ask the node about all connected peers."""
        for peer_id in self._node.connected_peers():
            self.look_up(libp2p_id(peer_id))


class NodePeerStore(PeerStore):
    """py-libp2p's peer store in memory, with its bounds; connected peers are as the node knows them from Identify.

    It holds public keys, and never a private one unless a protocol puts it there.

    Args:
        node: whose peers.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.peer_data_map: _Peers = _Peers(node)

    def peer_ids(self) -> list[ID]:
        """Return the peers of which something is known."""
        self.peer_data_map.look_up_all()
        return super().peer_ids()

    def peers_with_addrs(self) -> list[ID]:
        """Return the peers with addresses."""
        self.peer_data_map.look_up_all()
        return super().peers_with_addrs()

    def peer_with_keys(self) -> list[ID]:
        """Return the peers whose public keys are known."""
        self.peer_data_map.look_up_all()
        return super().peer_with_keys()

    def maybe_delete_peer_record(self, peer_id: ID) -> None:
        """Forget a peer's signed record if its addresses are gone, or have expired, where py-libp2p's store raises."""
        try:
            super().maybe_delete_peer_record(peer_id)
        except PeerStoreError:
            self.peer_record_map.pop(peer_id, None)
