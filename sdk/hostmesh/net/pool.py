"""The connections of a node: how many, to whom, and which one goes when there is no room."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest

import trio

from hostmesh.errors import DialError
from hostmesh.net.connection import Connection
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.dial_policy import target_network
from hostmesh.net.events import CloseCause, ConnectionClosed, ConnectionOpened, NodeEvent
from hostmesh.net.ledger import Ledger, NodeUsage
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_scores import POOR_SCORE, EqualPeers, PeerScores

MAX_PER_PEER = 4
"""Connections of one peer. One is usual, two when both sides dial at once."""
KEPT_IDLE = 16
"""Connections that this node made and nobody uses, kept for later: those used last. Each costs a ping every 20 s."""
IDLE_S = 30.0
"""An idle connection beyond those is closed. Chosen here: what one lookup needs; to ping for longer costs more than to
dial anew."""
MAX_RETAINED = 64
"""Peers for whom :meth:`ConnectionPool.retain` holds at once. Chosen here: their pings are three a second."""
MAX_WATCHED_PEERS = 4096
"""Peers whose last event waits for a slow watcher; then the oldest is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEvent:
    """A peer's first connection came, or its last one went."""

    peer_id: PeerId
    connected: bool


class ConnectionWatch:
    """Connection events as they come; of a peer with several, the latest. For one reader."""

    def __init__(self) -> None:
        self._events: OrderedDict[PeerId, bool] = OrderedDict()
        self._came = trio.Event()

    def note(self, event: ConnectionEvent) -> None:
        """Hand over an event. Never waits."""
        self._events.pop(event.peer_id, None)
        self._events[event.peer_id] = event.connected
        if len(self._events) > MAX_WATCHED_PEERS:
            self._events.popitem(last=False)
        self._came.set()

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self

    async def __anext__(self) -> ConnectionEvent:
        await trio.lowlevel.checkpoint()
        while not self._events:
            self._came = trio.Event()
            await self._came.wait()
        peer_id, connected = self._events.popitem(last=False)
        return ConnectionEvent(peer_id=peer_id, connected=connected)


class ConnectionPool:
    """At most ``max_connections`` connections; the least recently used idle one makes room for a new outbound one.

    Those of poor neighbours go before all others.

    Args:
        max_connections: in both directions together, >= 1.
        protected: peers whose connections are never trimmed.
        max_inbound_share: part of ``max_connections`` that peers of one network (IPv4 /24, IPv6 /48) may hold by
            dialling us, at least :data:`MAX_PER_PEER`: keys cost a stranger nothing, addresses do. Loopback is exempt.
        tell: is told every connection that comes or goes.
        is_wanted: whether a peer's connections are not trimmed either, asked each time.
        scores: judges the peers; None = nobody does.
    """

    def __init__(
        self,
        max_connections: int,
        protected: frozenset[PeerId] = frozenset(),
        *,
        max_inbound_share: float = 1.0,
        tell: Callable[[NodeEvent], None] = lambda event: None,
        is_wanted: Callable[[PeerId], bool] = lambda peer_id: False,
        scores: PeerScores | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._protected = protected
        self._tell_event = tell
        self._is_wanted = is_wanted
        self._scores = EqualPeers() if scores is None else scores
        self._max_inbound = max(MAX_PER_PEER, math.ceil(max_connections * max_inbound_share))
        self._inbound: Counter[str] = Counter()
        self._connections: dict[PeerId, list[Connection]] = {}
        self._retained: dict[object, Callable[[], Iterable[PeerId]]] = {}
        self._watches: dict[ConnectionWatch, None] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._connections.values())

    def __repr__(self) -> str:
        return f"<ConnectionPool {len(self)} of {self._max_connections}>"

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for connections in self._connections.values() for connection in connections])

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        return sum(not each.is_closed for each in self) >= self._max_connections

    def has_room_for(self, remote: tuple[str, int] | None) -> bool:
        """Whether a connection that a peer makes from this IP address and port would be taken in."""
        network = None if remote is None else inbound_network(remote[0])
        return not self.is_full and (network is None or self._inbound[network] < self._max_inbound)

    def peers(self) -> tuple[PeerId, ...]:
        """Return the peers that can be spoken to."""
        return tuple(peer_id for peer_id in self._connections if self.get(peer_id) is not None)

    def get(self, peer_id: PeerId) -> Connection | None:
        """Return a connection to a peer on which streams can be opened, or None."""
        return next((each for each in self._connections.get(peer_id, ()) if each.takes_streams), None)

    def of(self, peer_id: PeerId) -> tuple[Connection, ...]:
        """Return all connections to a peer."""
        return tuple(self._connections.get(peer_id, ()))

    def remote_ip(self, peer_id: PeerId) -> str | None:
        """Return the IP address at the other end of the connection to a peer; None when there is none."""
        connection = self.get(peer_id)
        return None if connection is None or connection.remote is None else connection.remote[0]

    def remote_address(self, peer_id: PeerId) -> str:
        """Return the multiaddr at the other end of the connection to a peer, by number; empty when there is none."""
        connection = self.get(peer_id)
        return "" if connection is None else _address_of(connection.remote) or ""

    def views(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now, the oldest peer first."""
        now = trio.current_time()
        return tuple(
            ConnectionView(
                peer_id=each.peer_id,
                is_outbound=each.is_outbound,
                address=each.address or _address_of(each.remote),
                rtt_ms=None if each.rtt_s is None else 1000 * each.rtt_s,
                lasted_s=now - each.began_s,
            )
            for each in self
            if not each.is_closed
        )

    def usage(self, ledger: Ledger) -> NodeUsage:
        """Return what the connections use now, by the accounts of their node. Cost: linear in the streams of ours."""
        connections = list(self)
        outbound: Counter[str] = Counter()
        for connection in connections:
            outbound.update(connection.outbound_streams())
        return NodeUsage(
            connections=len(connections),
            inbound_connections=sum(not each.is_outbound for each in connections),
            inbound_streams=ledger.inbound_streams(),
            outbound_streams=dict(outbound),
            unread_bytes=ledger.unread_bytes,
            unsent_bytes=sum(each.muxer.unsent_bytes for each in connections),
            refused_streams=ledger.refused_streams,
            overflowed_streams=ledger.overflowed_streams,
        )

    def retain(self, peers: Callable[[], Iterable[PeerId]]) -> Callable[[], None]:
        """Let connections to these peers stand while idle, and be the last that make room; return what ends that.

        Nobody is dialled for it. It holds for :data:`MAX_RETAINED` connected peers at once, and for as many as half of
        ``max_connections``: of several callers the first ones of each.

        Args:
            peers: who they are, the most important first; asked each time. Must not raise.
        """
        key = object()
        self._retained[key] = peers

        def release() -> None:
            self._retained.pop(key, None)

        return release

    def is_poor(self, peer_id: PeerId) -> bool:
        """Tell whether a peer is a poor neighbour: the first to make room, and the last to be dialled."""
        return self._scores.score_of(peer_id) < POOR_SCORE

    def may_dial(self, peer_id: PeerId) -> bool:
        """Tell whether a peer may be dialled, and taken in where it dials.

        Bootstrap peers may, and wanted ones, and who is not blacklisted as a neighbour.
        """
        return self._is_protected(peer_id) or self._scores.may_dial(peer_id)

    def tell_round_trips(self) -> None:
        """Hand the pings that were answered since the last call to the scores. Cost: linear in the connections."""
        for connection in self:
            rtt_s = connection.muxer.pinger.take_measured()
            if rtt_s is not None:
                self._scores.measured(connection.peer_id, rtt_s)

    async def make_room(self) -> None:
        """Close idle connections until one more fits; that of a peer of :meth:`retain` only where there is no other.

        Raises:
            DialError: every connection is in use; ``stage`` is ``limit``.
        """
        while self.is_full:
            idle = [each for each in self if each.is_idle and not self._is_protected(each.peer_id)]
            if not idle:
                raise DialError(
                    f"all {self._max_connections} connections are in use",
                    stage="limit",
                    remedy="end some calls, or raise max_connections",
                )
            retained = self._retained_peers()
            victim = min(idle, key=lambda each: (each.peer_id in retained, self._preference(each)))
            self.remove(victim)
            await victim.close()

    def surplus(self, now: float) -> list[Connection]:
        """Return what this node dialled, nobody uses and it does not keep for later; inbound ones are their dialler's.

        Without it a node would end up connected to all whom it ever asked, and ping them all.

        Args:
            now: trio's clock.
        """
        retained = self._retained_peers()
        idle = [
            each
            for each in self
            if each.is_outbound
            and each.takes_streams
            and each.is_idle
            and each.peer_id not in retained
            and not self._is_protected(each.peer_id)
        ]
        idle.sort(key=self._preference, reverse=True)
        return [each for each in idle[KEPT_IDLE:] if now - each.used_at_s >= IDLE_S]

    def _preference(self, connection: Connection) -> tuple[bool, float]:
        """Return what orders idle connections, those to be kept last: poor neighbours, then by their last use."""
        return not self.is_poor(connection.peer_id), connection.used_at_s

    def _is_protected(self, peer_id: PeerId) -> bool:
        return peer_id in self._protected or self._is_wanted(peer_id)

    def _retained_peers(self) -> set[PeerId]:
        most = min(MAX_RETAINED, self._max_connections // 2)
        in_turn = chain.from_iterable(zip_longest(*(peers() for peers in self._retained.values())))
        retained: set[PeerId] = set()
        for peer_id in in_turn:
            if len(retained) >= most:
                break
            if peer_id in self._connections and not self._is_protected(peer_id):
                retained.add(peer_id)
        return retained

    def add(self, connection: Connection) -> bool:
        """Take a connection in, and say whether there was room for it."""
        connections = self._connections.get(connection.peer_id, [])
        if self.is_full or len(connections) >= MAX_PER_PEER:
            return False
        network = _network_of(connection)
        if network is not None:
            if self._inbound[network] >= self._max_inbound:
                return False
            self._inbound[network] += 1
        self._connections[connection.peer_id] = [*connections, connection]
        self._tell_event(
            ConnectionOpened(
                at_s=trio.current_time(),
                peer_id=connection.peer_id,
                is_outbound=connection.is_outbound,
                address=connection.address,
                is_first=not connections,
            )
        )
        if not connections:
            self._tell(connection.peer_id, connected=True)
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection. Idempotent."""
        connections = self._connections.get(connection.peer_id, [])
        if connection not in connections:
            return
        connections.remove(connection)
        network = _network_of(connection)
        if network is not None:
            self._inbound[network] -= 1
            if not self._inbound[network]:
                del self._inbound[network]
        if not connections:
            del self._connections[connection.peer_id]
        now = trio.current_time()
        self._tell_event(
            ConnectionClosed(
                at_s=now,
                peer_id=connection.peer_id,
                is_outbound=connection.is_outbound,
                address=connection.address,
                # One that is forgotten before it ends is ended by us.
                cause=connection.muxer.close_cause if connection.is_closed else CloseCause.CLOSED,
                lasted_s=now - connection.began_s,
                is_last=not connections,
                rtt_s=connection.rtt_s,
            )
        )
        if not connections:
            self._tell(connection.peer_id, connected=False)

    def _tell(self, peer_id: PeerId, *, connected: bool) -> None:
        for watch in self._watches:
            watch.note(ConnectionEvent(peer_id=peer_id, connected=connected))
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Return after the next event."""
        await self._changed.wait()

    @contextmanager
    def watch(self) -> Iterator[ConnectionWatch]:
        """Yield the events from now on, as an async iterator."""
        watch = ConnectionWatch()
        self._watches[watch] = None
        try:
            yield watch
        finally:
            self._watches.pop(watch, None)


def inbound_network(host: str) -> str | None:
    """Return the network that an inbound connection counts for, or None for loopback.

    >>> inbound_network("192.0.2.77"), inbound_network("127.0.0.1")
    ('192.0.2.0/24', None)
    """
    network = target_network(host)
    return None if ipaddress.ip_network(network).is_loopback or host == "::1" else network


def _network_of(connection: Connection) -> str | None:
    if connection.is_outbound or connection.remote is None:
        return None
    return inbound_network(connection.remote[0])


def _address_of(remote: tuple[str, int] | None) -> str | None:
    return None if remote is None else f"/{'ip6' if ':' in remote[0] else 'ip4'}/{remote[0]}/tcp/{remote[1]}"
