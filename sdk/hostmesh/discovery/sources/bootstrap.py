"""The peers that this node is connected to, bootstrap nodes first of all, as candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.errors import ReadyTimeoutError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

FIRST_CONNECTION_S = 3.0
"""How long a find right after the start waits for the first bootstrap connection."""


class BootstrapNode(Protocol):
    """What this source needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection."""
        ...

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return what happened last, by bootstrap address."""
        ...

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        """Wait until so many peers are connected.

        Raises:
            ReadyTimeoutError: they are not.
        """
        ...


class BootstrapSource:
    """Names every connected peer: it costs one short call to learn whether it is a host.

    Args:
        node: knows the connections.
        first_connection_s: how long to wait for the first one, when bootstrap addresses are configured.
    """

    def __init__(self, node: BootstrapNode, *, first_connection_s: float = FIRST_CONNECTION_S) -> None:
        self._node = node
        self._first_connection_s = first_connection_s

    @property
    def name(self) -> str:
        """``bootstrap``."""
        return "bootstrap"

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do nothing until cancelled: the node keeps its bootstrap connections itself."""
        task_status.started()
        await trio.sleep_forever()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report the connected peers; right after the start, wait for the first of them."""
        if not self._node.connected_peers() and self._node.bootstrap_outcomes():
            try:
                await self._node.wait_connected(1, self._first_connection_s)
            except ReadyTimeoutError:
                return
        for peer_id in self._node.connected_peers()[: query.limit]:
            found(Candidate(peer_id=peer_id, addresses=(), source=self.name, origin=AddressOrigin.CONNECTED))

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: who is connected asks by itself."""
