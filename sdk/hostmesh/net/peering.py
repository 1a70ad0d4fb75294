"""Whom a node connects to: the peers it is asked for, those that are wanted, bootstrap peers and last-known ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import InvalidAddressError, NodeNotRunningError, ReadyTimeoutError, UsageError
from hostmesh.net.address import AddressOrigin, keep_usable, split_peer_address
from hostmesh.net.address_book import AddressBook
from hostmesh.net.bootstrap import BootstrapLoop
from hostmesh.net.config import NodeConfig
from hostmesh.net.connection import Connection
from hostmesh.net.connector import Connector
from hostmesh.net.events import NodeEvent
from hostmesh.net.fallback import FallbackLoop
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.wanted import MAX_WANTED
from hostmesh.net.wanted_loop import WantedLoop
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus


class Peering:
    """Reaches peers once, and holds on to some.

    Args:
        peer_id: the node's own.
        config: bootstrap peers, limits and timeouts.
        pool: the connections that there are.
        connector: makes connections.
        is_running: whether the node does; it dials nobody otherwise.
        tell: is told every pause.
        system: random bytes.
    """

    def __init__(
        self,
        peer_id: PeerId,
        config: NodeConfig,
        pool: ConnectionPool,
        connector: Connector,
        is_running: Callable[[], bool],
        *,
        tell: Callable[[NodeEvent], None],
        system: System,
    ) -> None:
        self.peer_id = peer_id
        self._timeout_s = config.connection_timeout_s
        self._pool = pool
        self._connector = connector
        self._is_running = is_running
        self._book = AddressBook()
        self._wanted = WantedLoop(
            self.reach,
            lambda peer_id: pool.get(peer_id) is not None,
            tell,
            max_peers=min(MAX_WANTED, max(1, config.max_connections // 2)),
            system=system,
        )
        bootstrap = config.bootstrap_peers(peer_id)
        self._bootstrap = BootstrapLoop(
            self,
            bootstrap,
            system=system,
            first_retry_s=config.bootstrap_first_retry_s,
            max_retry_s=config.bootstrap_max_retry_s,
            timeout_s=self._timeout_s,
            tell=tell,
        )
        self._fallback: FallbackLoop | None = None
        if config.fallback_peers is not None:
            self._fallback = FallbackLoop(
                self,
                frozenset(each for _, each in bootstrap),
                config.fallback_peers,
                max_connections=config.max_connections,
                timeout_s=self._timeout_s,
                system=system,
                is_poor=pool.is_poor,
            )

    # --- for as long as the node runs ---

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold on to the peers until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bootstrap.run)
            nursery.start_soon(self._wanted.run)
            if self._fallback is not None:
                nursery.start_soon(self._fallback.run)
            task_status.started()

    def note(self, event: NodeEvent) -> None:
        """Take in what the node tells of its connections. Never waits or raises."""
        self._wanted.note(event)

    def hurry(self) -> None:
        """Dial everybody who ought to be connected, now; attempts that run begin anew."""
        self._bootstrap.hurry()
        self._wanted.hurry()
        if self._fallback is not None:
            self._fallback.hurry()

    @property
    def bootstrap_outcomes(self) -> dict[str, str]:
        """Per bootstrap address what happened last: see :data:`hostmesh.net.bootstrap.OUTCOMES`."""
        return self._bootstrap.outcomes

    def is_wanted(self, peer_id: PeerId) -> bool:
        """Whether a block of :meth:`want` runs for a peer."""
        return peer_id in self._wanted

    @contextmanager
    def want(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> Iterator[None]:
        """See :meth:`hostmesh.net.node.Node.want`."""
        if peer_id == self.peer_id:
            raise UsageError("that peer is this node", remedy="name another peer")
        self.add_addresses(peer_id, addresses, origin)
        with self._wanted.want(peer_id):
            yield

    # --- where peers are ---

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Note where a peer may be. Unusable entries are skipped; at most 16 a peer are kept."""
        self._book.add(peer_id, keep_usable(addresses), origin)

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return where a peer may be, the address to try first in front."""
        return tuple(address for address, _ in self._book.addresses_of(peer_id))

    # --- once ---

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = AddressOrigin.REMOTE,
        timeout_s: float | None = None,
    ) -> None:
        """See :meth:`hostmesh.net.node.Node.connect`."""
        if origin is AddressOrigin.CONFIGURED:
            for text in addresses:
                named = split_peer_address(text)[1]
                if named not in (None, peer_id):
                    raise InvalidAddressError(f"{text} is an address of another peer than {peer_id}")
        self.add_addresses(peer_id, addresses, origin)
        await self.reach(peer_id, timeout_s)

    async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
        """Make sure that there is a connection to a peer, dialling a configured address and no other."""
        self.add_addresses(peer_id, (address,), AddressOrigin.CONFIGURED)
        await self._reach_at(peer_id, ((address, AddressOrigin.CONFIGURED),), timeout_s)

    async def reach(self, peer_id: PeerId, timeout_s: float | None = None) -> Connection:
        """Return a live connection to a peer, dialling its known addresses if there is none.

        Args:
            peer_id: whom.
            timeout_s: seconds for everything; None = the configured timeout.

        Raises:
            DialError: no address worked.
            NodeNotRunningError: the node does not run.

        Cancellation: safe.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        return await self._reach_at(peer_id, self._book.addresses_of(peer_id), limit_s)

    async def _reach_at(
        self, peer_id: PeerId, addresses: Sequence[tuple[str, AddressOrigin]], timeout_s: float
    ) -> Connection:
        if not self._is_running():
            raise NodeNotRunningError("the node does not run", remedy="start it first")
        connection = await self._connector.reach(peer_id, addresses, timeout_s)
        if connection.address is not None:
            self._book.add(peer_id, (connection.address,), AddressOrigin.CONNECTED)
        return connection

    # --- who is connected ---

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with a live connection."""
        return self._pool.peers()

    async def wait_connections_changed(self) -> None:
        """Return after the next peer that came or went."""
        await self._pool.wait_changed()

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        """See :meth:`hostmesh.net.node.Node.wait_connected`."""
        with trio.move_on_after(timeout_s):
            while len(self._pool.peers()) < min_peers:
                await self._pool.wait_changed()
        connected = len(self._pool.peers())
        if connected < min_peers:
            outcomes = self.bootstrap_outcomes
            shown = ", ".join(f"{address}: {outcome}" for address, outcome in outcomes.items())
            raise ReadyTimeoutError(
                f"{connected} of {min_peers} peers after {timeout_s:g} s ({shown or 'no bootstrap'})",
                outcomes=outcomes,
                remedy="check that a bootstrap node runs and can be reached from here; the node goes on trying",
            )

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        """Return once there is no connection to a peer."""
        while self._pool.get(peer_id) is not None:
            await self._pool.wait_changed()
