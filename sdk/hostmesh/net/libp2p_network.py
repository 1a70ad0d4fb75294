"""A node as py-libp2p's network: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from libp2p.abc import (
    CMInfo,
    IMuxedConn,
    INetConn,
    INetStream,
    INetworkService,
    INotifee,
    IRawConnection,
)
from libp2p.custom_types import StreamHandlerFn
from libp2p.network.exceptions import SwarmException
from libp2p.network.tag_store import TagInfo, TagStore
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.tools.anyio_service import Service
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from hostmesh.errors import HostmeshError, InvalidAddressError, NodeNotRunningError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.libp2p_notifees import NotifeeFeed
from hostmesh.net.libp2p_peers import NodePeerStore
from hostmesh.net.libp2p_stream import (
    Libp2pConnection,
    Libp2pStream,
    RawByteStream,
    libp2p_id,
    node_peer_id,
    not_here,
)
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream


class Libp2pNetwork(Service, INetworkService):
    """The network under a :class:`hostmesh.net.libp2p_host.Libp2pHost`.

    Args:
        node: runs.
        peerstore: its peers.
        nursery: of the host's tasks.
    """

    def __init__(self, node: Node, peerstore: NodePeerStore, nursery: trio.Nursery) -> None:
        self.node = node
        self.tags = TagStore()
        """What protocols think of connected peers; the node does not heed it."""
        self.peerstore = peerstore
        self._nursery = nursery
        self._connections: dict[PeerId, Libp2pConnection] = {}
        self._streams: set[Libp2pStream] = set()
        self._feeds: dict[INotifee, NotifeeFeed] = {}
        self._is_closed = False
        nursery.start_soon(self._forget_disconnected)
        nursery.start_soon(peerstore.start_cleanup_task)

    # --- life ---

    async def run(self) -> None:
        """Not offered: the node runs.

        Raises:
            UsageError: always.
        """
        raise not_here("runs already", "use the host inside open_libp2p_host()")

    def check_open(self) -> None:
        """Check that the host is open.

        Raises:
            NodeNotRunningError: it was closed.
        """
        if self._is_closed:
            raise NodeNotRunningError("the libp2p host is closed", remedy="use it inside open_libp2p_host()")

    async def close(self) -> None:
        """Reset the streams of libp2p's protocols, and tell notifees no more. The node and its connections stay."""
        self._is_closed = True
        for feed in self._feeds.values():
            feed.scope.cancel()
        self._feeds.clear()
        for stream in list(self._streams):
            await stream.reset()

    # --- connections ---

    def connection_to(self, peer_id: PeerId) -> Libp2pConnection:
        """Return what stands for the connection to a peer, live or not."""
        connection = self._connections.get(peer_id)
        if connection is None:
            connection = Libp2pConnection(self.node, peer_id, self._streams)
            if not connection.is_closed:
                self._connections[peer_id] = connection
        return connection

    async def _forget_disconnected(self) -> None:
        with self.node.watch_connections() as watch:
            async for event in watch:
                if not event.connected:
                    self._connections.pop(event.peer_id, None)
                    self.tags.clear_peer(libp2p_id(event.peer_id))

    @property
    def connections(self) -> dict[ID, list[INetConn]]:  # type: ignore[override] # an attribute there, a view here
        """The live connections."""
        return self.get_connections_map()

    def get_connections_map(self) -> dict[ID, list[INetConn]]:
        """Return the live connections."""
        return {libp2p_id(peer_id): [self.connection_to(peer_id)] for peer_id in self.node.connected_peers()}

    def get_connections(self, peer_id: ID | None = None) -> list[INetConn]:
        """Return the live connection to a peer, in a list, or all."""
        if peer_id is None:
            return [self.connection_to(known_as) for known_as in self.node.connected_peers()]
        connection = self.get_connection(peer_id)
        return [] if connection is None else [connection]

    def get_connection(self, peer_id: ID) -> INetConn | None:
        """Return the live connection to a peer."""
        try:
            connection = self.connection_to(node_peer_id(peer_id))
        except InvalidAddressError:
            return None
        return None if connection.is_closed else connection

    def get_peer_id(self) -> ID:
        """Return the node's peer id."""
        return libp2p_id(self.node.peer_id)

    def get_total_connections(self) -> int:
        """Return how many connections the node has."""
        return self.node.usage().connections

    def get_metrics(self) -> dict[str, int]:
        """Return how many connections the node has."""
        usage = self.node.usage()
        return {
            "total_connections": usage.connections,
            "inbound_connections": usage.inbound_connections,
            "outbound_connections": usage.connections - usage.inbound_connections,
        }

    async def reach(
        self, peer_id: ID, addresses: Sequence[Multiaddr] = (), *, origin: AddressOrigin = AddressOrigin.REMOTE
    ) -> list[INetConn]:
        """Make sure that the node is connected to a peer; what the peer store knows is tried too.

        Raises:
            SwarmException: it is not, and cannot be; the node's own error is the cause.
        """
        try:
            self.check_open()
            known_as = self.prepare_dial(peer_id)
            await self.node.connect(known_as, [str(address) for address in addresses], origin=origin)
        except HostmeshError as error:
            raise SwarmException(str(error)) from error
        return [self.connection_to(known_as)]

    def prepare_dial(self, peer_id: ID) -> PeerId:
        """Tell the node what the peer store knows about a peer that it is not connected to; return its name there.

        Raises:
            InvalidAddressError: not a peer id of an Ed25519 key.
        """
        known_as = node_peer_id(peer_id)
        if not self.node.is_connected(known_as):
            try:
                stored = self.peerstore.addrs(peer_id)
            except PeerStoreError:
                stored = []
            # Others' protocols wrote them there: a stranger's word.
            self.node.add_addresses(known_as, [str(address) for address in stored], AddressOrigin.REMOTE)
        return known_as

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Make sure that there is a connection to a peer; see :meth:`reach`."""
        return await self.reach(peer_id)

    async def dial_addr(self, addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None) -> INetConn:
        """Not offered: a node chooses among the addresses, and does not dial a peer that it has.

        Raises:
            UsageError: always.
        """
        raise not_here("dials peers and not addresses", "call the host's connect(PeerInfo(peer_id, [addr]))")

    async def dial_addr_as_responder(
        self, addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None
    ) -> INetConn:
        """Not offered: a node punches no holes.

        Raises:
            UsageError: always.
        """
        raise not_here("punches no holes", "listen on an address that others can reach, or go through a relay")

    async def upgrade_outbound_raw_conn(self, raw_conn: IRawConnection, peer_id: ID) -> INetConn:
        """Shake hands over a raw connection, as the dialer, and hand the connection to the node.

        Raises:
            SwarmException: the handshake failed, or the node has no room; the raw connection was closed.
        """
        return await self._adopt(raw_conn, peer_id, raw_conn.get_transport_addresses())

    async def upgrade_inbound_raw_conn(self, raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        """Shake hands over a raw connection, as the listener; see :meth:`upgrade_outbound_raw_conn`."""
        return await self._adopt(raw_conn, None, [maddr])

    async def _adopt(self, raw: IRawConnection, peer_id: ID | None, addresses: Sequence[Multiaddr]) -> Libp2pConnection:
        before = self.node.connected_peers()
        stream = RawByteStream(raw)
        try:
            self.check_open()
            expected = None if peer_id is None else node_peer_id(peer_id)
            found = await self.node.adopt(stream, expected, timeout_s=self.node.config.connection_timeout_s)
        except HostmeshError as error:
            await stream.aclose()
            raise SwarmException(str(error)) from error
        connection = self.connection_to(found)
        if found not in before:
            connection.set_transport_info(addresses, raw.get_connection_type())
        return connection

    async def close_peer(self, peer_id: ID) -> None:
        """Disconnect a peer, if it is connected: its streams end, the other features' too."""
        connection = self.get_connection(peer_id)
        if connection is not None:
            await connection.close()

    async def listen(self, *multiaddrs: Multiaddr) -> bool:
        """Not offered: the node listens.

        Raises:
            UsageError: always.
        """
        raise not_here("listens where its configuration says", "set listen_addresses in NodeConfig")

    # --- streams ---

    def take(self, stream: Stream) -> Libp2pStream:
        """Return a node's stream as libp2p's protocols want it.

        Raises:
            NodeNotRunningError: the host was closed.
        """
        self.check_open()
        taken = Libp2pStream(stream, self.connection_to(stream.peer_id), self._streams.discard)
        self._streams.add(taken)
        taken.start(self._nursery)
        return taken

    async def new_stream(self, peer_id: ID) -> INetStream:
        """Not offered: a node's streams have their protocol from the start.

        Raises:
            UsageError: always.
        """
        raise not_here("opens streams by protocol", "call the host's new_stream(peer_id, protocol_ids)")

    def set_stream_handler(self, stream_handler: StreamHandlerFn) -> None:
        """Not offered; see :meth:`new_stream`."""
        raise not_here("serves streams by protocol", "call the host's set_stream_handler(protocol_id, handler)")

    # --- notifees ---

    def register_notifee(self, notifee: INotifee) -> None:
        """Tell somebody who comes and goes from now on, and first who is there.

        py-libp2p's network does not tell that; but it has no connections yet when its protocols are made. A node may.
        """
        self.check_open()
        if notifee not in self._feeds:
            feed = self._feeds[notifee] = NotifeeFeed(self, notifee)
            self._nursery.start_soon(feed.run)

    def remove_notifee(self, notifee: INotifee) -> None:
        """Tell a notifee no more."""
        feed = self._feeds.pop(notifee, None)
        if feed is not None:
            feed.scope.cancel()

    def tell_again(self, peer_id: PeerId) -> None:
        """Tell the notifees once more that a peer is connected."""
        for feed in self._feeds.values():
            feed.tell_again(peer_id)

    # --- tags: kept while a peer is connected; which connections a node gives up does not depend on them ---

    def tag_peer(self, peer_id: ID, tag: str, value: int) -> None:
        """Keep a tag of a connected peer."""
        if self.get_connection(peer_id) is not None:
            self.tags.tag_peer(peer_id, tag, value)

    def untag_peer(self, peer_id: ID, tag: str) -> None:
        """Drop a tag."""
        self.tags.untag_peer(peer_id, tag)

    def get_tag_info(self, peer_id: ID) -> TagInfo | None:
        """Return a peer's tags."""
        return self.tags.get_tag_info(peer_id)

    def protect(self, peer_id: ID, tag: str) -> None:
        """Keep a mark of protection of a connected peer."""
        if self.get_connection(peer_id) is not None:
            self.tags.protect(peer_id, tag)

    def unprotect(self, peer_id: ID, tag: str) -> bool:
        """Drop a mark of protection; return whether another is left."""
        return self.tags.unprotect(peer_id, tag)

    def is_protected(self, peer_id: ID, tag: str = "") -> bool:
        """Whether a peer has a mark of protection."""
        return self.tags.is_protected(peer_id, tag)

    def get_conn_mgr_info(self) -> CMInfo:
        """Return the node's bound and how many connections it has; it trims when it needs room, without a grace."""
        limit = self.node.config.max_connections
        return CMInfo(
            low_watermark=limit,
            high_watermark=limit,
            connected_count=self.get_total_connections(),
            grace_period=0.0,
            last_trim=None,
        )

    # --- health: not watched here, which py-libp2p's interface says with empty answers ---

    def get_peer_health_summary(self, peer_id: ID) -> dict[str, Any]:
        """Return nothing: not watched."""
        return {}

    def get_global_health_summary(self) -> dict[str, Any]:
        """Return nothing: not watched."""
        return {}

    def export_health_metrics(self, format: str = "json") -> str:  # noqa: A002 # its name in the interface
        """Return nothing: not watched."""
        return ""

    async def get_health_monitor_status(self) -> dict[str, Any]:
        """Return that health is not watched."""
        return {"enabled": False}
