"""What discovery needs of the rest of hostmesh, as protocols; ``hostmesh.sdk`` puts the real ones in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from hostmesh.discovery.matching import ReputationLike
from hostmesh.discovery.probe import QuoteProbe as QuoteProbe
from hostmesh.discovery.probe import StatusProbe
from hostmesh.discovery.publisher import HostPublisher
from hostmesh.discovery.source import Source
from hostmesh.discovery.terms import Place
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller


class DiscoveryNode(Protocol):
    """The part of :class:`hostmesh.net.node.Node` that discovery uses."""

    @property
    def peer_id(self) -> PeerId:
        """Our own peer id."""
        ...

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = AddressOrigin.REMOTE,
        timeout_s: float | None = None,
    ) -> None:
        """Connect to a peer. Raises DialError."""
        ...

    async def disconnect(self, peer_id: PeerId) -> None:
        """End the connections to a peer; nothing happens when there is none."""
        ...

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection, each once."""
        ...

    def is_connected(self, peer_id: PeerId) -> bool:
        """Tell whether a connection to the peer is open."""
        ...

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Remember addresses for later dials, under the dial policy of their origin."""
        ...

    def listen_addresses(self) -> tuple[str, ...]:
        """Return the bound addresses, without ``/p2p``."""
        ...

    def announced_addresses(self) -> tuple[str, ...]:
        """Return the addresses that a record may carry."""
        ...

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return what happened last, by bootstrap address."""
        ...

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        """Wait until so many peers are connected. Raises ReadyTimeoutError."""
        ...


class ReputationSource(Protocol):
    """Knows hosts' reputation with this client; :class:`hostmesh.reputation.book.ReputationBook` is one."""

    def of(self, peer_id: PeerId) -> ReputationLike:
        """Return a host's reputation; 100 points with n=0 for one never used."""
        ...


MessageHandler = Callable[[Any], Awaitable[None] | None]
"""Gets each message, with its authenticated sender; see ``hostmesh.messaging.direct.Message``."""


class Messenger(Protocol):
    """Sends and receives direct messages; :class:`hostmesh.messaging.direct.DirectMessenger` is one."""

    async def send(
        self, peer_id: PeerId, body: bytes | Mapping[str, Any], *, timeout_s: float = ..., retries: int = ...
    ) -> Any:
        """Send a message; return its acknowledgement."""
        ...

    def on_message(self, handler: MessageHandler) -> Callable[[], None]:
        """Call the handler for each message; return what unsubscribes it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the caller of ``create_node`` asked for; None = as the settings say."""

    listen: tuple[str, ...] | None = None
    bootstrap: tuple[str, ...] | None = None
    announce: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """A node that listens, and everything of it that discovery uses."""

    node: DiscoveryNode
    caller: RpcCaller
    sources: tuple[Source, ...]
    """Not running yet: the manager runs them."""
    status: StatusProbe
    messenger: Messenger
    publisher: HostPublisher
    """Not running yet: the manager runs it."""
    max_connections: int | None = None
    """Connections that the node keeps at once; None = as many as are wanted."""
    quotes: QuoteProbe | None = None
    """Asks hosts what a job would cost; None = nobody is asked, and prices stay claims."""
    place: Place | None = None
    """Where this node is, by its settings; None = not said, and no host's place is refuted."""


class NodeFactory(Protocol):
    """Makes a node with all its services."""

    def __call__(self, options: NodeOptions) -> AbstractAsyncContextManager[RunningNode]:
        """Return a context manager that enters once the node listens and leaves when nothing of it is left.

        Every task of the node lives inside the block (in a nursery that the context manager opens itself): then the
        manager can say goodbye over it also when the SDK's nursery is cancelled.

        The RPC server of the node serves a :class:`hostmesh.discovery.service.DiscoveryServer` over the manager's
        record book and the publisher's ``current``.

        Raises:
            StartFailedError, InvalidAddressError, KeyInUseError: from entering; nothing was left behind.
        """
        ...
