"""What a node is told."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import InvalidAddressError, UsageError
from hostmesh.net.address import AddressScope, parse_address, scope_of_ip, split_peer_address
from hostmesh.net.backoff import FIRST_RETRY_S, MAX_RETRY_S
from hostmesh.net.fallback import FallbackPeers
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_scores import PeerScores


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What a node is told. Addresses are multiaddrs."""

    listen_addresses: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    """Where to listen; port 0 takes a free one. Empty: the node dials only."""
    announce_addresses: tuple[str, ...] = ()
    """Where others reach this node, instead of what it finds out itself."""
    bootstrap_addresses: tuple[str, ...] = ()
    """Peers to stay connected to, each with ``/p2p/<peer id>``."""
    fallback_peers: FallbackPeers | None = None
    """Names peers that were reached before, for when no bootstrap peer answers; see :mod:`hostmesh.net.fallback`."""
    peer_scores: PeerScores | None = None
    """Judges peers as neighbours: poor ones make room first, blacklisted ones are not dialled. None: nobody does."""
    enable_dht: bool = True
    dht_server: bool = False
    """Whether to answer other nodes' DHT queries."""
    serve_dial_back: bool | None = None
    """Whether to dial peers back that ask whether they can be reached; None: where this is a DHT server."""
    protocol_prefix: str = "/hostmesh"
    max_connections: int = 100
    """Connections in both directions together. Source: seed 003. With seed 002's 10, a client among 50 hosts closed and
    dialled 160 connections for each find; a connection that is kept costs some 22 KiB."""
    max_inbound_share: float = 0.25
    """Part of ``max_connections`` that peers of one network (IPv4 /24, IPv6 /48) may hold by dialling us, 4 at least.

    Loopback is exempt. 1.0: no bound of its own. Chosen here: one stranger's addresses cannot fill a node, and a few
    hundred machines behind one address still reach a host.
    """
    max_streams: int = 256
    """Streams that each side may have open on one connection, and one peer with one protocol.

    Source: Yamux of libp2p (go and js use 256 too). One over it is refused with an error.
    """
    max_unread_bytes: int = 256 * 1024 * 1024
    """What peers may have sent and nobody has read yet, over all connections; over it, the connection with most of it
    loses its fullest stream."""
    connection_timeout_s: float = 30.0
    """Dialling and opening a stream, unless the caller says otherwise. Source: seed 002."""
    bootstrap_first_retry_s: float = FIRST_RETRY_S
    bootstrap_max_retry_s: float = MAX_RETRY_S

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidAddressError: an address is malformed, cannot be announced, or lacks its peer id.
            UsageError: a number is out of range.
        """
        for text in self.listen_addresses:
            parse_address(text)
        for text in self.announce_addresses:
            ip = parse_address(split_peer_address(text)[0]).ip
            if ip is not None and scope_of_ip(ip) is AddressScope.UNUSABLE:
                raise InvalidAddressError(
                    f"{text} cannot be announced: nobody can dial it", remedy="announce a concrete address or a name"
                )
        for text in self.bootstrap_addresses:
            if split_peer_address(text)[1] is None:
                raise InvalidAddressError(
                    f"the bootstrap address {text} names no peer", remedy="append /p2p/<peer id of the bootstrap node>"
                )
        if self.max_connections < 1 or self.connection_timeout_s <= 0 or self.bootstrap_first_retry_s <= 0:
            raise UsageError("max_connections must be at least 1, and every time more than 0")
        if self.max_streams < 1 or self.max_unread_bytes < 1024 * 1024:
            raise UsageError("max_streams must be at least 1, and max_unread_bytes at least 1 MiB")
        if not 0 < self.max_inbound_share <= 1:
            raise UsageError("max_inbound_share must be above 0 and at most 1")

    def bootstrap_peers(self, own_peer_id: PeerId) -> list[tuple[str, PeerId]]:
        """Return the bootstrap addresses and who is there, without this node's own."""
        peers = map(split_peer_address, self.bootstrap_addresses)
        return [(address, peer_id) for address, peer_id in peers if peer_id is not None and peer_id != own_peer_id]
