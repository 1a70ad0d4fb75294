"""The node: our endpoint in the network.

It listens on TCP and WebSocket, dials peers by all their addresses, keeps at most ``max_connections`` connections,
holds on to its bootstrap peers, and gives streams to the features. Every connection is Noise and Yamux: a peer has
proven the key that its id names before a byte of a feature's is read. Addresses that others named are dialled under the
policy of :mod:`hostmesh.net.address`. Whatever a peer or a handler does ends its own stream or connection and no other.

Every error that leaves a node is one of :mod:`hostmesh.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import AlreadyRunningError, NodeNotRunningError, UsageError
from hostmesh.net.address import AddressOrigin, AddressScope, join_peer_address
from hostmesh.net.agreement import open_reached
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.config import NodeConfig
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.dht import Dht
from hostmesh.net.event_feed import MAX_WAITING_EVENTS, EventWatch
from hostmesh.net.events import NetworkChanged, NodeEvent
from hostmesh.net.ledger import NodeUsage
from hostmesh.net.network import Network, SocketNetwork
from hostmesh.net.node_parts import NodeParts
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.pool import ConnectionEvent, ConnectionWatch
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

__all__ = ["ConnectionEvent", "ConnectionWatch", "Node", "NodeConfig"]


class Node:
    """A running or stopped endpoint. It runs once: :meth:`run`, then :meth:`stop` or cancellation.

    Args:
        config: addresses, limits and names.
        key: the peer key; its file's lock is the caller's.
        system: clock and randomness.
        network: the sockets; the machine's by default.
    """

    def __init__(
        self, config: NodeConfig, key: PeerKey, *, system: System | None = None, network: Network | None = None
    ) -> None:
        self.config = config
        self.peer_id: PeerId = key.peer_id
        self.sign = key.sign
        """Returns the peer key's Ed25519 signature of some bytes; the key itself does not leave the node."""
        self._parts = NodeParts(self, config, key, system=system or System(), network=network or SocketNetwork())
        self._pool = self._parts.pool
        self._protocols = self._parts.protocols
        self._identify = self._parts.identify
        self._peering = self._parts.peering
        self._has_run = False
        self._stop_wanted = trio.Event()
        self._stopped = trio.Event()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped" if self._has_run else "new"
        return f"<Node {self.peer_id} {state}, {self._pool!r}>"

    # --- life ---

    @property
    def is_running(self) -> bool:
        """Whether the node listens and dials."""
        return self._parts.is_running

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the node until it is cancelled or :meth:`stop` is called; ``started()`` comes once it listens.

        Raises:
            AlreadyRunningError: a node runs once.
            StartFailedError: an address cannot be listened on; nothing is left open.

        Cancellation: safe; peers are told within a second, every socket and task is gone.
        """
        if self._has_run:
            raise AlreadyRunningError("the node runs or ran already", remedy="make a new Node")
        self._has_run = True
        try:
            await self._parts.run(self._stop_wanted, task_status=task_status)
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Stop, and return once nothing is left. Idempotent; a node that never ran is stopped already."""
        if self._has_run:
            self._stop_wanted.set()
            await self._stopped.wait()

    # --- addresses ---

    def listen_addresses(self) -> tuple[str, ...]:
        """Return the bound addresses, with their ports, without ``/p2p``."""
        return self._parts.listening.addresses()

    def peer_addresses(self) -> tuple[str, ...]:
        """Return the announced addresses with ``/p2p/<our id>``: what another node's configuration wants."""
        return tuple(join_peer_address(address, self.peer_id) for address in self.announced_addresses())

    def announced_addresses(self) -> tuple[str, ...]:
        """Return what others may be told: the configured addresses, or those that the listeners can be reached at.

        Never 0.0.0.0 or ``::``, at most 16, the farthest-reaching first.
        """
        return self._parts.announced_addresses()

    def own_scopes(self) -> frozenset[AddressScope]:
        """Return the scopes that this node lives in: those of its listeners, and of the peers it was told to reach.

        A node that listens on loopback alone but has a configured peer in a private network is in that network too.
        """
        return self._parts.own_scopes()

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Note where a peer may be. Unusable entries are skipped; at most 16 a peer are kept."""
        self._peering.add_addresses(peer_id, addresses, origin)

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return where a peer may be, the address to try first in front."""
        return self._peering.addresses_of(peer_id)

    # --- reachability ---

    @property
    def reachability(self) -> ReachabilityReport | None:
        """What the last :meth:`check_reachability` came to; None: there was none."""
        return self._parts.dial_backs.last

    async def check_reachability(self, timeout_s: float = 60.0) -> ReachabilityReport:
        """Ask connected peers to dial this node back; see :meth:`hostmesh.net.autonat.AutonatClient.check`.

        Args:
            timeout_s: for everything; what was answered by then counts.

        Raises:
            NodeNotRunningError: the node does not run.

        Cancellation: safe.
        """
        if not self.is_running:
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        return await self._parts.dial_backs.check(timeout_s)

    # --- connections ---

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with a live connection."""
        return self._pool.peers()

    def is_connected(self, peer_id: PeerId) -> bool:
        """Whether there is a live connection to a peer."""
        return self._pool.get(peer_id) is not None

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now, the oldest peer first; a peer may have several."""
        return self._pool.views()

    def remote_address(self, peer_id: PeerId) -> str:
        """Return the multiaddr at the other end of the connection to a peer, by number; empty when there is none."""
        return self._pool.remote_address(peer_id)

    def remote_ip(self, peer_id: PeerId) -> str | None:
        """Return the IP address at the other end of the connection to a peer; None when there is none."""
        return self._pool.remote_ip(peer_id)

    def watch_connections(self) -> AbstractContextManager[ConnectionWatch]:
        """Return a block that yields an async iterator of :class:`ConnectionEvent`; of a peer's several, the latest."""
        return self._pool.watch()

    def retain(self, peers: Callable[[], Iterable[PeerId]]) -> Callable[[], None]:
        """See :meth:`hostmesh.net.pool.ConnectionPool.retain`."""
        return self._pool.retain(peers)

    def watch_events(self, max_waiting: int = MAX_WAITING_EVENTS) -> AbstractContextManager[EventWatch[NodeEvent]]:
        """Return a block that yields an async iterator of every :data:`hostmesh.net.events.NodeEvent` from then on.

        Args:
            max_waiting: events that wait for the reader, >= 1; the oldest give way, counted in ``dropped``.
        """
        return self._parts.events.watch(max_waiting)

    def on_event(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call a function with every event of the node; return what ends that. It must neither wait nor raise."""
        return self._parts.events.listen(listener)

    def on_network_change(self, callback: Callable[[NetworkChanged], None]) -> Callable[[], None]:
        """Call back whenever the machine's addresses changed or it slept, 4 s later at most; return what ends that.

        The callback must neither wait nor raise.
        """
        return self._parts.events.listen_for(NetworkChanged, callback)

    def want(
        self, peer_id: PeerId, addresses: Sequence[str] = (), *, origin: AddressOrigin = AddressOrigin.REMOTE
    ) -> AbstractContextManager[None]:
        """Keep a connection to a peer while the block runs: it is dialled now, and again whenever it is lost.

        Between attempts the pause doubles up to 30 s, half of it random. The connection is not trimmed. The block's
        beginning and end wait for nothing; at its end the connection stays, as any other. Blocks for the same peer may
        overlap.

        Args:
            peer_id: whom.
            addresses: where to try first; what is known, or becomes known, is tried too.
            origin: who named the addresses; decides which may be dialled.

        Raises:
            UsageError: 64 peers are wanted already, or half of ``max_connections``; or the peer is this node.
        """
        return self._peering.want(peer_id, addresses, origin)

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = AddressOrigin.REMOTE,
        timeout_s: float | None = None,
    ) -> None:
        """Make sure that there is a connection to a peer.

        Args:
            peer_id: whom; the peer must prove it.
            addresses: where to try first, with or without ``/p2p``; what is known already is tried too.
            origin: who named the addresses; decides which may be dialled.
            timeout_s: seconds for everything; None = the configured timeout.

        Raises:
            InvalidAddressError: a configured address is malformed, or names another peer.
            DialError: no address worked; nothing was executed, and the call may be made again.
            NodeNotRunningError: the node does not run.

        Cancellation: safe.
        """
        await self._peering.connect(peer_id, addresses, origin=origin, timeout_s=timeout_s)

    async def adopt(self, stream: trio.abc.Stream, peer_id: PeerId | None, *, timeout_s: float) -> PeerId:
        """Make a connection of a byte stream; see :meth:`hostmesh.net.connector.Connector.adopt_stream`."""
        return await self._parts.connector.adopt_stream(stream, peer_id, timeout_s)

    async def disconnect(self, peer_id: PeerId) -> None:
        """Close the connections to a peer. Its open streams fail with ConnectionLostError."""
        for connection in self._pool.of(peer_id):
            self._pool.remove(connection)
            await connection.close()
        self._identify.forget(peer_id)

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        """Return once so many peers are connected.

        Raises:
            ReadyTimeoutError: they were not, in time; ``outcomes`` says what became of each bootstrap address.
        """
        await self._peering.wait_connected(min_peers, timeout_s)

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        """Return once there is no connection to a peer."""
        await self._peering.wait_disconnected(peer_id)

    def bootstrap_outcomes(self) -> dict[str, str]:
        """Return per bootstrap address what happened last: see :data:`hostmesh.net.bootstrap.OUTCOMES`."""
        return self._peering.bootstrap_outcomes

    # --- streams ---

    def set_stream_handler(self, protocol_id: str, handler: StreamHandler) -> None:
        """Serve a protocol, and tell the connected peers. What the handler raises resets its stream and no other."""
        if protocol_id not in self._protocols:
            self._identify.announce()
        self._protocols[protocol_id] = handler

    def remove_stream_handler(self, protocol_id: str) -> StreamHandler | None:
        """Serve a protocol no longer, tell the peers, and return who did, if anybody; streams that run go on."""
        handler = self._protocols.pop(protocol_id, None)
        if handler is not None:
            self._identify.announce()
        return handler

    def keep_in_background(self, protocol_ids: Iterable[str]) -> None:
        """Let open streams of these protocols not count as use: connections that have no others may be trimmed."""
        self._parts.background.update(protocol_ids)

    def start_stream(self, peer_id: PeerId, protocol_ids: Sequence[str]) -> Stream | None:
        """Return a stream as :meth:`open_stream` does, if nothing has to be waited for; else None.

        The way of every call but the first: there is a connection, and its peer told that it speaks one of them.

        Raises:
            DialError: too many streams are open.
            ConnectionLostError: the connection ended; ``may_have_executed`` is False.
        """
        ready = self._pool.get(peer_id)
        if ready is not None:
            spoken = ready.spoken
            for each in protocol_ids:
                if each in spoken:
                    return ready.start_stream(each, protocol_ids)
        return None

    async def open_stream(
        self, peer_id: PeerId, protocol_id: str | Sequence[str], *, timeout_s: float | None = None
    ) -> Stream:
        """Open a stream, dialling the peer's known addresses if there is no connection.

        A connection that turns out to be dead is replaced by a new one, once.

        Args:
            peer_id: whom to.
            protocol_id: what to speak; or several protocols, of which the first that the peer speaks is taken, as
                ``protocol_id`` of the stream tells. Where the peer told that it speaks one, nothing is waited for.
            timeout_s: seconds for everything; None = the configured timeout.

        Raises:
            DialError: the peer cannot be reached, or too many streams are open.
            ProtocolNotSupportedError: the peer speaks none of the protocols. Where it told that it does, the stream's
                use raises this.
            ConnectionLostError: the connection ended or was silent; ``may_have_executed`` is False.
            NodeNotRunningError: the node does not run.

        Cancellation: safe; the connection stays usable.
        """
        protocol_ids = (protocol_id,) if isinstance(protocol_id, str) else protocol_id
        started = self.start_stream(peer_id, protocol_ids)
        if started is not None:
            return started
        limit_s = self.config.connection_timeout_s if timeout_s is None else timeout_s
        return await open_reached(
            peer_id, protocol_ids, peering=self._peering, pool=self._pool, identify=self._identify, timeout_s=limit_s
        )

    # --- what is used ---

    def usage(self) -> NodeUsage:
        """Return what the node uses now: connections, streams by protocol, bytes that wait.

        Cost: linear in the open streams of ours.
        """
        return self._pool.usage(self._parts.ledger)

    def rtt_s(self, peer_id: PeerId) -> float | None:
        """Return the round-trip time to a connected peer, by the last ping of its connection.

        Measured once in three minutes at least, on every connection, whatever the peer speaks. None: not connected, or
        not measured yet.
        """
        connection = self._pool.get(peer_id)
        return None if connection is None else connection.rtt_s

    # --- identify ---

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the protocols that a connected peer said it speaks, by its latest word; empty until it said so.

        Each version of a protocol has an id: see :func:`hostmesh.wire.versions.split_version`.
        """
        return self._identify.protocols_of(peer_id)

    # --- DHT ---

    @property
    def dht(self) -> Dht | None:
        """The DHT, or None when it is off."""
        return self._parts.dht

    async def provide(self, key: bytes) -> int:
        """Tell the DHT that this node provides a key; see :meth:`hostmesh.net.dht.Dht.provide`.

        Raises:
            UsageError: the DHT is off.
        """
        return await self._require_dht().provide(key)

    async def find_providers(self, key: bytes, *, limit: int, timeout_s: float) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Ask the DHT who provides a key; see :meth:`hostmesh.net.dht.Dht.find_providers`.

        Raises:
            UsageError: the DHT is off.
        """
        return await self._require_dht().find_providers(key, limit=limit, timeout_s=timeout_s)

    def _require_dht(self) -> Dht:
        if self.dht is None:
            raise UsageError("the DHT is off", remedy="set enable_dht")
        if not self.is_running:
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        return self.dht
