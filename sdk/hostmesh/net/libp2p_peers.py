"""A node's peers as py-libp2p's peer store: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.crypto.keys import PublicKey
from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from hostmesh.errors import InvalidAddressError
from hostmesh.net.libp2p_stream import libp2p_id, node_peer_id
from hostmesh.net.node import Node
from hostmesh.net.peer_id import public_key_of

ADDRESS_TTL_S = 7200
"""How long what a peer told is kept after it was asked for last. Source: py-libp2p's own protocols keep it so long."""


@lru_cache(maxsize=4096)
def _multiaddr(text: str) -> Multiaddr:
    return Multiaddr(text)


class NodePeerStore(PeerStore):
    """py-libp2p's peer store in memory, where connected peers are as the node knows them from Identify.

    What is known of a connected peer is looked up when it is asked for: there is no event to miss. The store holds
    public keys, and never a private one unless a protocol puts it there.

    Args:
        node: whose peers.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self.add_pubkey(libp2p_id(node.peer_id), Ed25519PublicKey.from_bytes(public_key_of(node.peer_id)))

    def _look_up(self, peer_id: ID) -> None:
        try:
            known_as = node_peer_id(peer_id)
        except InvalidAddressError:
            return
        if not self._node.is_connected(known_as):
            return
        data = self.peer_data_map.setdefault(peer_id, PeerData())
        if data.pubkey is None:
            data.add_pubkey(Ed25519PublicKey.from_bytes(public_key_of(known_as)))
        protocols = self._node.protocols_of(known_as)
        if protocols:
            data.set_protocols(list(protocols))
        addresses = self._node.addresses_of(known_as)
        if addresses:
            data.add_addrs([_multiaddr(address) for address in addresses])
            data.set_ttl(ADDRESS_TTL_S)
            data.update_last_identified()

    def _look_up_all(self) -> None:
        for peer_id in self._node.connected_peers():
            self._look_up(libp2p_id(peer_id))

    def peer_ids(self) -> list[ID]:
        """Return the peers of which something is known."""
        self._look_up_all()
        return super().peer_ids()

    def has_peer(self, peer_id: ID) -> bool:
        """Whether anything is known of a peer."""
        self._look_up(peer_id)
        return super().has_peer(peer_id)

    def peers_with_addrs(self) -> list[ID]:
        """Return the peers with addresses."""
        self._look_up_all()
        return super().peers_with_addrs()

    def peer_info(self, peer_id: ID) -> PeerInfo:
        """Return a peer's addresses."""
        self._look_up(peer_id)
        return super().peer_info(peer_id)

    def addrs(self, peer_id: ID) -> list[Multiaddr]:
        """Return a peer's addresses."""
        self._look_up(peer_id)
        return super().addrs(peer_id)

    def pubkey(self, peer_id: ID) -> PublicKey:
        """Return a peer's public key."""
        self._look_up(peer_id)
        return super().pubkey(peer_id)

    def get_protocols(self, peer_id: ID) -> list[str]:
        """Return what a peer said it speaks."""
        self._look_up(peer_id)
        return super().get_protocols(peer_id)

    def supports_protocols(self, peer_id: ID, protocols: Sequence[str]) -> list[str]:
        """Return those of the protocols that a peer speaks."""
        self._look_up(peer_id)
        return super().supports_protocols(peer_id, protocols)

    def first_supported_protocol(self, peer_id: ID, protocols: Sequence[str]) -> str:
        """Return the first of the protocols that a peer speaks."""
        self._look_up(peer_id)
        return super().first_supported_protocol(peer_id, protocols)
