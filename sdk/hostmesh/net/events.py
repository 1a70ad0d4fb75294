"""What a node tells about its connections, its dials and its machine. Pure.

Times are seconds of the node's own monotonic clock (trio's); they order the events of one node and mean nothing to
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hostmesh.net.peer_id import PeerId


class CloseCause(Enum):
    """Why a connection ended."""

    CLOSED = "closed"
    """This side ended it: the node stops, trims it, or was asked to."""
    ENDED = "ended"
    """The other side ended it, or the way to it broke."""
    SILENT = "silent"
    """Nothing was heard, an answer to a ping included."""
    STUCK = "stuck"
    """The peer reads nothing, or what it sends makes no message."""
    VIOLATION = "violation"
    """The peer broke the protocol."""
    ADDRESS_GONE = "address-gone"
    """This machine has the address no more that the connection went over."""


class RetryReason(Enum):
    """Who wants the connection that is tried again."""

    BOOTSTRAP = "bootstrap"
    """The settings."""
    WANTED = "wanted"
    """:meth:`hostmesh.net.node.Node.want`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened:
    """A connection came. A peer may have several."""

    at_s: float
    peer_id: PeerId
    is_outbound: bool
    """Whether this side dialled."""
    address: str | None
    """The address that was dialled; None for an inbound connection."""
    is_first: bool
    """Whether the peer had no connection before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed:
    """A connection went."""

    at_s: float
    peer_id: PeerId
    is_outbound: bool
    address: str | None
    cause: CloseCause
    lasted_s: float
    is_last: bool
    """Whether the peer has no connection now."""
    rtt_s: float | None = None
    """Its round trip, by the last ping; None: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialStarted:
    """A peer is being dialled. A :class:`DialEnded` follows."""

    at_s: float
    peer_id: PeerId
    addresses: tuple[str, ...]
    """What will be tried, at most 16, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialEnded:
    """A dial is over."""

    at_s: float
    peer_id: PeerId
    stage: str
    """``connected``, ``cancelled``, or how far it came: the stages of :class:`hostmesh.errors.DialError`."""
    address: str | None
    """The address that worked."""
    attempts: Mapping[str, str] = field(default_factory=dict)
    """Of a dial that failed: per address, why."""
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlanned:
    """A peer that somebody wants is not connected, and will be dialled after a pause."""

    at_s: float
    peer_id: PeerId
    reason: RetryReason
    address: str | None
    """The one address that will be dialled; None: all that are known."""
    stage: str
    """How far the dial before came; ``connected``: there was a connection, and it ended."""
    failures: int
    """In a row, >= 1."""
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChanged:
    """This machine's addresses changed, or it slept."""

    at_s: float
    added: frozenset[str] = frozenset()
    """IP addresses, without zones."""
    removed: frozenset[str] = frozenset()
    slept_s: float = 0.0
    """About how long this process did not run; 0.0: it ran."""
    changes_reach: bool
    """Whether what worked may work no more, or what failed may work now: false where only link-local addresses
    changed, as they do with every container that starts."""


NodeEvent = ConnectionOpened | ConnectionClosed | DialStarted | DialEnded | RetryPlanned | NetworkChanged
