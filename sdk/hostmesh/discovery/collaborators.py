"""What discovery needs of the rest of hostmesh, as protocols; ``hostmesh.sdk`` puts the real ones in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from hostmesh.discovery.probe import QuoteProbe as QuoteProbe
from hostmesh.discovery.probe import StatusProbe
from hostmesh.discovery.publisher import HostPublisher
from hostmesh.discovery.source import Source
from hostmesh.discovery.terms import Place
from hostmesh.discovery.view import ReputationLike, StandingLike
from hostmesh.net.address import AddressOrigin
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.events import NodeEvent
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

    def retain(self, peers: Callable[[], Iterable[PeerId]]) -> Callable[[], None]:
        """Keep connections to these peers before others, where there are any; return what ends that."""
        ...

    def rtt_s(self, peer_id: PeerId) -> float | None:
        """Return the round-trip time to a connected peer by the last ping of its connection; None = not known."""
        ...

    def on_event(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call a function with every event of the node; return what ends that."""
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

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the protocols that a connected peer said it speaks; empty until it said so."""
        ...

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now."""
        ...

    @property
    def reachability(self) -> ReachabilityReport | None:
        """What the last check of it came to; None: there was none."""
        ...

    async def check_reachability(self, timeout_s: float = ...) -> ReachabilityReport:
        """Ask connected peers to dial this node back."""
        ...


class Reputations(Protocol):
    """Tells hosts' reputation with this client."""

    def of(self, peer_id: PeerId, operator_address: str) -> ReputationLike:
        """Return a host's reputation; 100 points with n=0 for one never used. The address is ``0x`` and lower case.

        The key under another wallet is another host.
        """
        ...


class ReputationSource(Reputations, Protocol):
    """Knows hosts' reputation with this client; :class:`hostmesh.reputation.book.ReputationBook` is one."""

    def snapshot(self) -> Reputations:
        """Return what tells the reputations as they are now, of any number of hosts at the cost of one look."""
        ...

    def record_outcome(self, peer_id: PeerId, operator_address: str, *, good: bool) -> ReputationLike:
        """Count one outcome that the host caused; return the reputation that follows. Raises StoreError."""
        ...


class ListingLike(Protocol):
    """One entry of the blacklist, or one preference; :class:`hostmesh.reputation.standing.Listing` is one."""

    @property
    def name(self) -> str:
        """A peer id, or a wallet's address in lower case."""
        ...

    @property
    def priority(self) -> int | None:
        """Higher ranks first; None = blacklisted."""
        ...

    @property
    def reason(self) -> str:
        """Of a blacklisting, for people."""
        ...

    @property
    def since_unix_s(self) -> float:
        """When it was made."""
        ...

    @property
    def until_unix_s(self) -> float | None:
        """When it ends; None = when it is removed."""
        ...


class HostStandings(Protocol):
    """Tells who is blacklisted, preferred or paused."""

    def of(self, peer_id: PeerId, operator_address: str) -> StandingLike:
        """Return what is said of a host now; the address is ``0x`` and lower case."""
        ...


class Standings(HostStandings, Protocol):
    """Knows who is blacklisted, preferred or paused; :class:`hostmesh.reputation.standing_book.StandingBook` is one.

    Each method raises StoreError when its file cannot be used.
    """

    def snapshot(self) -> HostStandings:
        """Return what tells the standings as they are now, of any number of hosts at the cost of one look."""
        ...

    def listings(self) -> Sequence[ListingLike]:
        """Return the listings that hold now: the blacklist, then preferences."""
        ...

    def blacklist(self, peer_or_wallet: str, reason: str = "", ttl_s: float | None = None) -> None:
        """Bar a peer, or all peers of a wallet. Raises ConfigError, UsageError."""
        ...

    def unblacklist(self, peer_or_wallet: str) -> bool:
        """Bar it no longer, and end a pause; tell whether that changed anything."""
        ...

    def prefer(self, peer_or_wallet: str, priority: int = 1, ttl_s: float | None = None) -> None:
        """Rank a peer, or all peers of a wallet, before others. Raises ConfigError, UsageError."""
        ...

    def unprefer(self, peer_or_wallet: str) -> bool:
        """Prefer it no longer; tell whether it was preferred."""
        ...

    def record_outcome(self, peer_id: PeerId, *, good: bool) -> None:
        """Pause a host after a failure that it caused, or end the row of its failures."""
        ...

    def begin_trial(self, peer_id: PeerId) -> bool:
        """Use a host; False when it is paused, or half-open and another trial of it runs."""
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
    protocol_prefix: str = "/hostmesh"
    max_connections: int | None = None
    """Connections that the node keeps at once; None = as many as are wanted."""
    quotes: QuoteProbe | None = None
    """Asks hosts what a job would cost; None = nobody is asked, and prices stay claims."""
    place: Place | None = None
    """Where this node is, by its settings; None = not said, and no host's place is refuted."""
    address_of: Callable[[PeerId], str] = lambda peer_id: ""
    """Says which multiaddr the connection to a peer goes to, by number; empty = not known."""


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
