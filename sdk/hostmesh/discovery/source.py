"""What a source of candidates is. A source names peers; it is never believed about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import trio

from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import discovery_pb2 as pb

if TYPE_CHECKING:
    from trio_typing import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A peer that may be a host, and where it may be reached."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    """Multiaddrs without ``/p2p``, at most 16; may be empty when the node knows the peer."""
    source: str
    """Name of the source that said so."""
    origin: AddressOrigin
    named_by: PeerId | None = None
    """The peer of whom the source heard it; None: the source saw it itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceQuery:
    """What a find asks of every source."""

    model_ids: tuple[str, ...]
    """Models that the host must serve; empty = any."""
    country_code: str | None
    limit: int
    """Most candidates wanted, >= 1."""
    peer_ids: tuple[PeerId, ...] = ()
    """Hosts that the criteria name, which are candidates in any case: where they are is what is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """What a host lets the sources say about it."""

    model_ids: tuple[str, ...]
    country_code: str | None
    addresses: tuple[str, ...]


class Source(Protocol):
    """One way to hear of peers."""

    @property
    def name(self) -> str:
        """A stable word: ``bootstrap``, ``exchange``, ``mdns``, ``dht``."""
        ...

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work in the background until cancelled; ``started()`` comes at once, whatever the network does."""
        ...

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report candidates as they come; return when there are no more for now.

        Cancellation: safe; what was found was reported.
        """
        ...

    async def advertise(self, advert: Advert | None) -> None:
        """Make this node findable, or no longer (None). Returns once the wish is noted, not once it is done."""
        ...


@runtime_checkable
class Broadcaster(Protocol):
    """A source that tells whoever listens of this node's records."""

    def broadcast(self, record: pb.SignedHostRecord) -> None:
        """Tell of a record or tombstone as soon as may be; it takes the place of the one before. Never waits."""
        ...
