"""The node: our endpoint in the network.

It listens on TCP and WebSocket, dials peers by all their addresses, keeps at most ``max_connections`` connections,
holds on to its bootstrap peers, and gives streams to the features. Every connection is Noise and Yamux: a peer has
proven the key that its id names before a byte of a feature's is read. Addresses that others named are dialled under the
policy of :mod:`hostmesh.net.address`. Whatever a peer or a handler does ends its own stream or connection and no other.

Every error that leaves a node is one of :mod:`hostmesh.errors`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import (
    AlreadyRunningError,
    ConnectionLostError,
    InvalidAddressError,
    NodeNotRunningError,
    ReadyTimeoutError,
    UsageError,
)
from hostmesh.net.address import (
    AddressOrigin,
    AddressScope,
    join_peer_address,
    keep_usable,
    scope_of,
    split_peer_address,
)
from hostmesh.net.address_book import AddressBook
from hostmesh.net.agreement import open_agreed
from hostmesh.net.autonat import AutonatClient
from hostmesh.net.autonat_message import DIAL_BACK_ID, DIAL_REQUEST_ID
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.autonat_server import AutonatServer
from hostmesh.net.bootstrap import BootstrapLoop
from hostmesh.net.config import NodeConfig
from hostmesh.net.connection import Connection
from hostmesh.net.connection_keeper import TICK_S, ConnectionKeeper
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.connector import Connector
from hostmesh.net.dht import Dht
from hostmesh.net.event_feed import MAX_WAITING_EVENTS, EventFeed, EventWatch
from hostmesh.net.events import NetworkChanged, NodeEvent
from hostmesh.net.fallback import FallbackLoop
from hostmesh.net.identify import IDENTIFY_ID, PUSH_ID, Identify
from hostmesh.net.ledger import Ledger, NodeUsage
from hostmesh.net.listening import Listening
from hostmesh.net.liveness import Liveness
from hostmesh.net.network import Network, SocketNetwork
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.ping import PING_ID, Ping
from hostmesh.net.pool import ConnectionEvent, ConnectionPool, ConnectionWatch
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.net.upgrade import Upgrader
from hostmesh.net.wanted import MAX_WANTED
from hostmesh.net.wanted_loop import WantedLoop
from hostmesh.system import System
from hostmesh.wire.yamux import YamuxLimits

if TYPE_CHECKING:
    from trio_typing import TaskStatus

__all__ = ["ConnectionEvent", "ConnectionWatch", "Node", "NodeConfig"]

_log = logging.getLogger("hostmesh.net")

_DEAF_S = 5.0
"""A call that ran out of time on a connection that was silent so long takes the connection with it."""


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
        self._system = system or System()
        self._network: Network = network or SocketNetwork()
        bootstrap = [(address, peer_id) for address, peer_id in map(split_peer_address, config.bootstrap_addresses)]
        peers = [(address, peer_id) for address, peer_id in bootstrap if peer_id not in (None, self.peer_id)]
        protected = frozenset(peer_id for _, peer_id in peers if peer_id)
        self._events: EventFeed[NodeEvent] = EventFeed()
        self._network_callbacks: dict[Callable[[NetworkChanged], None], None] = {}
        self._wanted = WantedLoop(
            self._reach_wanted,
            self.is_connected,
            self._tell,
            max_peers=min(MAX_WANTED, max(1, config.max_connections // 2)),
            system=self._system,
        )
        self._pool = ConnectionPool(
            config.max_connections,
            protected,
            max_inbound_share=config.max_inbound_share,
            tell=self._tell,
            is_wanted=self._wanted.__contains__,
        )
        self._liveness = Liveness(
            self._network, self._pool, self._tell, self._hurry, every_s=TICK_S, system=self._system
        )
        self._upgrader = Upgrader(key, self._system.random_bytes)
        self._protocols: dict[str, StreamHandler] = {}
        self._ledger = Ledger(max_streams_per_protocol=config.max_streams, max_unread_bytes=config.max_unread_bytes)
        self._book = AddressBook()
        self._identify = Identify(
            key.public_bytes,
            self._protocols.keys,
            self.announced_addresses,
            self._pool,
            self.add_addresses,
        )
        self._keeper = ConnectionKeeper(
            self._pool,
            self._protocols,
            self._identify,
            self._on_connected,
            ledger=self._ledger,
            limits=YamuxLimits(max_inbound_streams=config.max_streams, max_outbound_streams=config.max_streams),
            look=self._liveness.look,
        )
        self._listening = Listening(self._network, self._upgrader, self._keeper.adopt_inbound, self._pool.has_room_for)
        self._connector = Connector(
            self.peer_id,
            self._network,
            self._upgrader,
            self._pool,
            self.own_scopes,
            self._keeper.adopt,
            system=self._system,
            tell=self._tell,
        )
        self._bootstrap = BootstrapLoop(
            self,
            [(address, peer_id) for address, peer_id in peers if peer_id],
            system=self._system,
            first_retry_s=config.bootstrap_first_retry_s,
            max_retry_s=config.bootstrap_max_retry_s,
            timeout_s=config.connection_timeout_s,
            tell=self._tell,
        )
        self._fallback: FallbackLoop | None = None
        if config.fallback_peers is not None:
            self._fallback = FallbackLoop(
                self,
                protected,
                config.fallback_peers,
                max_connections=config.max_connections,
                timeout_s=config.connection_timeout_s,
                system=self._system,
            )
        self._dht: Dht | None = None
        self._has_run = False
        self._stop_wanted = trio.Event()
        self._stopped = trio.Event()
        self.set_stream_handler(IDENTIFY_ID, self._identify.answer)
        self.set_stream_handler(PUSH_ID, self._identify.take_push)
        self.set_stream_handler(PING_ID, Ping().answer)
        self._autonat = AutonatClient(self, self._listening.reachable_addresses, self._came_by, system=self._system)
        self.set_stream_handler(DIAL_BACK_ID, self._autonat.take_dial_back)
        if config.dht_server if config.serve_dial_back is None else config.serve_dial_back:
            server = AutonatServer(
                self.remote_ip, self._network.interface_addresses, self._use_apart, system=self._system
            )
            self.set_stream_handler(DIAL_REQUEST_ID, server.serve)
        if config.enable_dht:
            self._dht = Dht(self, protocol_prefix=config.protocol_prefix, server=config.dht_server, system=self._system)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped" if self._has_run else "new"
        return f"<Node {self.peer_id} {state}, {self._pool!r}>"

    # --- life ---

    @property
    def is_running(self) -> bool:
        """Whether the node listens and dials."""
        return self._keeper.is_open

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
        _keep_freed_blocks()
        try:
            await self._listening.bind(self.config.listen_addresses)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._keeper.run)
                try:
                    nursery.start_soon(self._listening.run)
                    await nursery.start(self._liveness.run)
                    nursery.start_soon(self._bootstrap.run)
                    nursery.start_soon(self._wanted.run)
                    if self._fallback is not None:
                        nursery.start_soon(self._fallback.run)
                    nursery.start_soon(self._identify.run)
                    if self._dht is not None:
                        nursery.start_soon(self._dht.run)
                    task_status.started()
                    await self._stop_wanted.wait()
                finally:
                    nursery.cancel_scope.cancel()
                    await self._keeper.end()
        finally:
            await self._listening.close()
            self._stopped.set()

    def _on_connected(self, peer_id: PeerId) -> None:
        if self._dht is not None:
            self._dht.note_connected(peer_id)

    async def stop(self) -> None:
        """Stop, and return once nothing is left. Idempotent; a node that never ran is stopped already."""
        if self._has_run:
            self._stop_wanted.set()
            await self._stopped.wait()

    # --- addresses ---

    def listen_addresses(self) -> tuple[str, ...]:
        """Return the bound addresses, with their ports, without ``/p2p``."""
        return self._listening.addresses()

    def peer_addresses(self) -> tuple[str, ...]:
        """Return the announced addresses with ``/p2p/<our id>``: what another node's configuration wants."""
        return tuple(join_peer_address(address, self.peer_id) for address in self.announced_addresses())

    def announced_addresses(self) -> tuple[str, ...]:
        """Return what others may be told: the configured addresses, or those that the listeners can be reached at.

        Never 0.0.0.0 or ``::``, at most 16, the farthest-reaching first.
        """
        configured = self.config.announce_addresses
        return keep_usable(configured) if configured else self._listening.reachable_addresses()

    def own_scopes(self) -> frozenset[AddressScope]:
        """Return the scopes that this node lives in: those of its listeners, and of the peers it was told to reach.

        A node that listens on loopback alone but has a configured peer in a private network is in that network too.
        """
        told = {
            scope_of(connection.address)
            for connection in self._pool
            if connection.address is not None and connection.origin is not AddressOrigin.REMOTE
        }
        return self._listening.scopes() | (told - {AddressScope.NAME, AddressScope.METADATA})

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Note where a peer may be. Unusable entries are skipped; at most 16 a peer are kept."""
        self._book.add(peer_id, keep_usable(addresses), origin)

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return where a peer may be, the address to try first in front."""
        return tuple(address for address, _ in self._book.addresses_of(peer_id))

    # --- reachability ---

    @property
    def reachability(self) -> ReachabilityReport | None:
        """What the last :meth:`check_reachability` came to; None: there was none."""
        return self._autonat.last

    async def check_reachability(self, timeout_s: float = 60.0) -> ReachabilityReport:
        """Ask connected peers to dial this node back; see :meth:`hostmesh.net.autonat.AutonatClient.check`.

        Args:
            timeout_s: for everything; what was answered by then counts.

        Raises:
            NodeNotRunningError: the node does not run.

        Cancellation: safe.
        """
        if not self._keeper.is_open:
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        async with trio.open_nursery() as nursery:
            for peer_id in self.connected_peers():
                connection = self._pool.get(peer_id)
                if connection is not None and not self.protocols_of(peer_id):
                    nursery.start_soon(partial(self._identify.refresh, connection, is_urgent=True))
        return await self._autonat.check(timeout_s=timeout_s)

    def _came_by(self, stream: Stream, since_s: float) -> str | None:
        """Return our IP address at which a peer made the connection of a stream, if it did so since a time."""
        for connection in self._pool.of(stream.peer_id):
            streams: Collection[object] = connection.streams
            if stream in streams:
                is_fresh = not connection.is_outbound and connection.began_s >= since_s
                return connection.local_host if is_fresh else None
        return None

    async def _use_apart(
        self, peer_id: PeerId, address: str, timeout_s: float, use: Callable[[Connection], Awaitable[None]]
    ) -> None:
        opened = await self._connector.dial_apart(peer_id, address, timeout_s)
        await self._keeper.use_apart(opened, address, use)

    # --- connections ---

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with a live connection."""
        return self._pool.peers()

    def is_connected(self, peer_id: PeerId) -> bool:
        """Whether there is a live connection to a peer."""
        return self._pool.get(peer_id) is not None

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now, the oldest peer first; a peer may have several."""
        now = trio.current_time()
        return tuple(
            ConnectionView(
                peer_id=each.peer_id,
                is_outbound=each.is_outbound,
                address=each.address or _address_of(each.remote),
                rtt_ms=None if each.rtt_s is None else 1000 * each.rtt_s,
                lasted_s=now - each.began_s,
            )
            for each in self._pool
            if not each.is_closed
        )

    def remote_address(self, peer_id: PeerId) -> str:
        """Return the multiaddr at the other end of the connection to a peer, by number; empty when there is none."""
        connection = self._pool.get(peer_id)
        return "" if connection is None else _address_of(connection.remote) or ""

    def remote_ip(self, peer_id: PeerId) -> str | None:
        """Return the IP address at the other end of the connection to a peer; None when there is none."""
        connection = self._pool.get(peer_id)
        return connection.remote[0] if connection is not None and connection.remote is not None else None

    def watch_connections(self) -> AbstractContextManager[ConnectionWatch]:
        """Return a block that yields an async iterator of :class:`ConnectionEvent`; of a peer's several, the latest."""
        return self._pool.watch()

    async def wait_connections_changed(self) -> None:
        """Return after the next peer that came or went."""
        await self._pool.wait_changed()

    def watch_events(self, max_waiting: int = MAX_WAITING_EVENTS) -> AbstractContextManager[EventWatch[NodeEvent]]:
        """Return a block that yields an async iterator of every :data:`hostmesh.net.events.NodeEvent` from then on.

        Args:
            max_waiting: events that wait for the reader, >= 1; the oldest give way, counted in ``dropped``.
        """
        return self._events.watch(max_waiting)

    def on_event(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call a function with every event of the node; return what ends that. It must neither wait nor raise."""
        return self._events.listen(listener)

    def on_network_change(self, callback: Callable[[NetworkChanged], None]) -> Callable[[], None]:
        """Call back whenever the machine's addresses changed or it slept, 4 s later at most; return what ends that.

        The callback must neither wait nor raise.
        """
        self._network_callbacks[callback] = None
        return lambda: self._network_callbacks.pop(callback, None)

    @contextmanager
    def want(
        self, peer_id: PeerId, addresses: Sequence[str] = (), *, origin: AddressOrigin = AddressOrigin.REMOTE
    ) -> Iterator[None]:
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
        if peer_id == self.peer_id:
            raise UsageError("that peer is this node", remedy="name another peer")
        self.add_addresses(peer_id, addresses, origin)
        with self._wanted.want(peer_id):
            yield

    async def _reach_wanted(self, peer_id: PeerId) -> None:
        await self._reach(peer_id, self._book.addresses_of(peer_id), self.config.connection_timeout_s)

    def _tell(self, event: NodeEvent) -> None:
        self._wanted.note(event)
        self._events.tell(event)
        if isinstance(event, NetworkChanged):
            if event.added or event.removed:
                self._identify.announce()  # it tells our addresses
            for callback in list(self._network_callbacks):
                callback(event)

    def _hurry(self) -> None:
        self._bootstrap.hurry()
        self._wanted.hurry()
        if self._fallback is not None:
            self._fallback.hurry()

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
        if origin is AddressOrigin.CONFIGURED:
            for text in addresses:
                named = split_peer_address(text)[1]
                if named not in (None, peer_id):
                    raise InvalidAddressError(f"{text} is an address of another peer than {peer_id}")
        self.add_addresses(peer_id, addresses, origin)
        limit_s = self.config.connection_timeout_s if timeout_s is None else timeout_s
        await self._reach(peer_id, self._book.addresses_of(peer_id), limit_s)

    async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
        """Make sure that there is a connection to a peer, dialling a configured address and no other."""
        self.add_addresses(peer_id, (address,), AddressOrigin.CONFIGURED)
        await self._reach(peer_id, ((address, AddressOrigin.CONFIGURED),), timeout_s)

    async def adopt(self, stream: trio.abc.Stream, peer_id: PeerId | None, *, timeout_s: float) -> PeerId:
        """Make a connection of a byte stream; see :meth:`hostmesh.net.connector.Connector.adopt_stream`."""
        return await self._connector.adopt_stream(stream, peer_id, timeout_s)

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
        with trio.move_on_after(timeout_s):
            while len(self.connected_peers()) < min_peers:
                await self._pool.wait_changed()
        if len(self.connected_peers()) < min_peers:
            outcomes = self.bootstrap_outcomes()
            shown = ", ".join(f"{address}: {outcome}" for address, outcome in outcomes.items())
            raise ReadyTimeoutError(
                f"{len(self.connected_peers())} of {min_peers} peers after {timeout_s:g} s ({shown or 'no bootstrap'})",
                outcomes=outcomes,
                remedy="check that a bootstrap node runs and can be reached from here; the node goes on trying",
            )

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        """Return once there is no connection to a peer."""
        while self.is_connected(peer_id):
            await self._pool.wait_changed()

    async def _reach(
        self, peer_id: PeerId, addresses: Sequence[tuple[str, AddressOrigin]], timeout_s: float
    ) -> Connection:
        if not self._keeper.is_open:
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        connection = await self._connector.reach(peer_id, addresses, timeout_s)
        if connection.address is not None:
            self._book.add(peer_id, (connection.address,), AddressOrigin.CONNECTED)
        return connection

    def bootstrap_outcomes(self) -> dict[str, str]:
        """Return per bootstrap address what happened last: see :data:`hostmesh.net.bootstrap.OUTCOMES`."""
        return self._bootstrap.outcomes

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
        deadline = trio.current_time() + limit_s
        for is_last in (False, True):
            left_s = max(0.0, deadline - trio.current_time())
            connection = await self._reach(peer_id, self._book.addresses_of(peer_id), left_s)
            with trio.move_on_at(deadline):
                try:
                    return await open_agreed(connection, protocol_ids, self._identify)
                except ConnectionLostError:
                    if is_last or not connection.is_closed:
                        raise
                    self._pool.remove(connection)
                    continue
            if trio.current_time() - connection.last_heard_s > _DEAF_S:
                _log.info("closing a silent connection", extra={"peer_id": peer_id})
                await connection.close()
            break
        raise ConnectionLostError(f"{peer_id} did not answer within {limit_s:g} s", may_have_executed=False)

    # --- what is used ---

    def usage(self) -> NodeUsage:
        """Return what the node uses now: connections, streams by protocol, bytes that wait.

        Cost: linear in the open streams of ours.
        """
        connections = list(self._pool)
        outbound: Counter[str] = Counter()
        for connection in connections:
            outbound.update(connection.outbound_streams())
        return NodeUsage(
            connections=len(connections),
            inbound_connections=sum(not each.is_outbound for each in connections),
            inbound_streams=self._ledger.inbound_streams(),
            outbound_streams=dict(outbound),
            unread_bytes=self._ledger.unread_bytes,
            unsent_bytes=sum(each.muxer.unsent_bytes for each in connections),
            refused_streams=self._ledger.refused_streams,
            overflowed_streams=self._ledger.overflowed_streams,
        )

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
        return self._dht

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
        if self._dht is None:
            raise UsageError("the DHT is off", remedy="set enable_dht")
        if not self._keeper.is_open:
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        return self._dht


def _address_of(remote: tuple[str, int] | None) -> str | None:
    return None if remote is None else f"/{'ip6' if ':' in remote[0] else 'ip4'}/{remote[0]}/tcp/{remote[1]}"


def _keep_freed_blocks() -> None:
    """Have the C library keep freed blocks of up to 4 MiB for the next ones of the kind.

    glibc asks the kernel for each block over 128 KiB, and gets zeroed pages every time, until one was freed: then the
    threshold is as large as that (mallopt(3), M_MMAP_THRESHOLD). Messages of 256 KiB took three times the CPU without,
    unless the program had happened to free such a block before. Elsewhere this does nothing.
    """
    bytes(4 * 1024 * 1024)
