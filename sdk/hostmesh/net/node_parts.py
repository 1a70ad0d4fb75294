"""The parts of a node, put together and run together; :class:`hostmesh.net.node.Node` is their face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.net.address import AddressOrigin, AddressScope, keep_usable, scope_of
from hostmesh.net.autonat import AutonatNode
from hostmesh.net.config import NodeConfig
from hostmesh.net.connection import HOUSEKEEPING
from hostmesh.net.connection_keeper import TICK_S, ConnectionKeeper
from hostmesh.net.connector import Connector
from hostmesh.net.dht import Dht
from hostmesh.net.dht_server import DhtNode
from hostmesh.net.dial_backs import DialBacks
from hostmesh.net.event_feed import EventFeed
from hostmesh.net.events import NetworkChanged, NodeEvent
from hostmesh.net.identify import IDENTIFY_ID, PUSH_ID, Identify
from hostmesh.net.ledger import Ledger
from hostmesh.net.listening import Listening
from hostmesh.net.liveness import Liveness
from hostmesh.net.network import Network
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.peering import Peering
from hostmesh.net.ping import PING_ID, Ping
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stream import StreamHandler
from hostmesh.net.upgrade import Upgrader
from hostmesh.system import System
from hostmesh.wire.yamux import YamuxLimits

if TYPE_CHECKING:
    from trio_typing import TaskStatus


class NodeFace(AutonatNode, DhtNode, Protocol):
    """What some parts use of the node itself."""


class NodeParts:
    """What a node is made of.

    Args:
        node: the node, for its DHT and its dial-backs; not used before :meth:`run`.
        config: addresses, limits and names.
        key: the peer key.
        system: clock and randomness.
        network: the sockets.
    """

    def __init__(self, node: NodeFace, config: NodeConfig, key: PeerKey, *, system: System, network: Network) -> None:
        self._config = config
        self.events: EventFeed[NodeEvent] = EventFeed()
        self.protocols: dict[str, StreamHandler] = {}
        """Who serves which protocol."""
        self.ledger = Ledger(max_streams_per_protocol=config.max_streams, max_unread_bytes=config.max_unread_bytes)
        self.pool = ConnectionPool(
            config.max_connections,
            frozenset(peer_id for _, peer_id in config.bootstrap_peers(key.peer_id)),
            max_inbound_share=config.max_inbound_share,
            tell=self.events.tell,
            is_wanted=lambda peer_id: self.peering.is_wanted(peer_id),
            scores=config.peer_scores,
        )
        self.background = set(HOUSEKEEPING)
        self.identify = Identify(
            key.public_bytes,
            self.protocols.keys,
            self.announced_addresses,
            self.pool,
            lambda peer_id, addresses, origin: self.peering.add_addresses(peer_id, addresses, origin),
        )
        self._liveness = Liveness(
            network, self.pool, self.events.tell, lambda: self.peering.hurry(), every_s=TICK_S, system=system
        )
        self._keeper = ConnectionKeeper(
            self.pool,
            self.protocols,
            self.identify,
            self._on_connected,
            ledger=self.ledger,
            background=self.background,
            limits=YamuxLimits(max_inbound_streams=config.max_streams, max_outbound_streams=config.max_streams),
            look=self._liveness.look,
        )
        upgrader = Upgrader(key, system.random_bytes)
        self.listening = Listening(network, upgrader, self._keeper.adopt_inbound, self.pool.has_room_for)
        self.connector = Connector(
            key.peer_id,
            network,
            upgrader,
            self.pool,
            self.own_scopes,
            self._keeper.adopt,
            system=system,
            tell=self.events.tell,
        )
        self.peering = Peering(
            key.peer_id,
            config,
            self.pool,
            self.connector,
            lambda: self.is_running,
            tell=self.events.tell,
            system=system,
        )
        self.events.listen(self.peering.note)
        if config.peer_scores is not None:
            self.events.listen(config.peer_scores.note)
        self.events.listen_for(NetworkChanged, self._on_network_changed)
        self.dial_backs = DialBacks(
            node, self.pool, self.identify, self.listening, self.connector, self._keeper, network, system=system
        )
        serves_dial_backs = config.dht_server if config.serve_dial_back is None else config.serve_dial_back
        self.protocols.update(
            {IDENTIFY_ID: self.identify.answer, PUSH_ID: self.identify.take_push, PING_ID: Ping().answer}
        )
        self.protocols.update(self.dial_backs.handlers(serve=serves_dial_backs))
        self.dht: Dht | None = None
        if config.enable_dht:
            self.dht = Dht(node, protocol_prefix=config.protocol_prefix, server=config.dht_server, system=system)

    @property
    def is_running(self) -> bool:
        """Whether connections are taken in and made."""
        return self._keeper.is_open

    async def run(self, until: trio.Event, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and serve until an event, or cancelled; see :meth:`hostmesh.net.node.Node.run`."""
        _keep_freed_blocks()
        try:
            await self.listening.bind(self._config.listen_addresses)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._keeper.run)
                try:
                    nursery.start_soon(self.listening.run)
                    await nursery.start(self._liveness.run)
                    await nursery.start(self.peering.run)
                    nursery.start_soon(self.identify.run)
                    if self.dht is not None:
                        nursery.start_soon(self.dht.run)
                    task_status.started()
                    await until.wait()
                finally:
                    nursery.cancel_scope.cancel()
                    await self._keeper.end()
        finally:
            await self.listening.close()

    def announced_addresses(self) -> tuple[str, ...]:
        """See :meth:`hostmesh.net.node.Node.announced_addresses`."""
        configured = self._config.announce_addresses
        return keep_usable(configured) if configured else self.listening.reachable_addresses()

    def own_scopes(self) -> frozenset[AddressScope]:
        """See :meth:`hostmesh.net.node.Node.own_scopes`."""
        told = {
            scope_of(connection.address)
            for connection in self.pool
            if connection.address is not None and connection.origin is not AddressOrigin.REMOTE
        }
        return self.listening.scopes() | (told - {AddressScope.NAME, AddressScope.METADATA})

    def _on_connected(self, peer_id: PeerId) -> None:
        if self.dht is not None:
            self.dht.note_connected(peer_id)

    def _on_network_changed(self, change: NetworkChanged) -> None:
        if change.added or change.removed:
            self.identify.announce()  # it tells our addresses


def _keep_freed_blocks() -> None:
    """Have the C library keep freed blocks of up to 4 MiB for the next ones of the kind.

    glibc asks the kernel for each block over 128 KiB, and gets zeroed pages every time, until one was freed: then the
    threshold is as large as that (mallopt(3), M_MMAP_THRESHOLD). Messages of 256 KiB took three times the CPU without,
    unless the program had happened to free such a block before. Elsewhere this does nothing.
    """
    bytes(4 * 1024 * 1024)
