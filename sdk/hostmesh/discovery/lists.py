"""The manager's lists: who is blacklisted or preferred, and what came of hosts. Each change is told as an event."""

from __future__ import annotations

import re
from collections.abc import Callable

import trio

from hostmesh.discovery.collaborators import ListingLike, ReputationSource, Standings
from hostmesh.discovery.events import DiscoveryEvent, ListingChange, ListingChanged, OutcomeRecorded
from hostmesh.discovery.view import ReputationLike
from hostmesh.errors import UsageError
from hostmesh.net.event_feed import EventFeed
from hostmesh.net.peer_id import PeerId, parse_peer_id

_WALLET = re.compile(r"0[xX][0-9a-fA-F]{40}")


class HostLists:
    """See the module.

    Args:
        standings: who is blacklisted, preferred or paused.
        reputation: counts outcomes.
        events: is told of changes.
        forget: makes the next search measure a host anew.
    """

    def __init__(
        self,
        standings: Standings,
        reputation: ReputationSource,
        events: EventFeed[DiscoveryEvent],
        *,
        forget: Callable[[PeerId], None],
    ) -> None:
        self._standings = standings
        self._reputation = reputation
        self._events = events
        self._forget = forget

    def reputation(self, peer_id: str, operator_address: str) -> ReputationLike:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.reputation`."""
        return self._reputation.of(parse_peer_id(peer_id), _lower_case(operator_address))

    def record_outcome(self, peer_id: str, operator_address: str, *, good: bool) -> ReputationLike:
        """Count an outcome that the host caused; pause the host, or end the row of its failures. Raises StoreError."""
        host = parse_peer_id(peer_id)
        reputation = self._reputation.record_outcome(host, _lower_case(operator_address), good=good)
        self._standings.record_outcome(host, good=good)
        self.note_outcome(host, good=good)
        return reputation

    def note_outcome(self, peer_id: PeerId, *, good: bool) -> None:
        """Measure a host anew that failed, and tell of an outcome that was counted elsewhere."""
        if not good:
            self._forget(peer_id)
        if self._events:
            self._events.tell(OutcomeRecorded(at_s=trio.current_time(), peer_id=peer_id, good=good))

    def blacklist(self, peer_or_wallet: str, reason: str, ttl_s: float | None) -> None:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.blacklist`."""
        self._standings.blacklist(peer_or_wallet, reason, ttl_s)
        self._tell(ListingChange.BLACKLISTED, peer_or_wallet)

    def unblacklist(self, peer_or_wallet: str) -> bool:
        """Tell whether it was on the blacklist, or paused."""
        was_barred = self._standings.unblacklist(peer_or_wallet)
        if was_barred:
            self._tell(ListingChange.UNBLACKLISTED, peer_or_wallet)
        return was_barred

    def prefer(self, peer_or_wallet: str, priority: int, ttl_s: float | None) -> None:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.prefer`."""
        self._standings.prefer(peer_or_wallet, priority, ttl_s)
        self._tell(ListingChange.PREFERRED, peer_or_wallet)

    def unprefer(self, peer_or_wallet: str) -> bool:
        """Tell whether it was preferred."""
        was_preferred = self._standings.unprefer(peer_or_wallet)
        if was_preferred:
            self._tell(ListingChange.UNPREFERRED, peer_or_wallet)
        return was_preferred

    def listings(self) -> tuple[ListingLike, ...]:
        """Return the listings that hold now."""
        return tuple(self._standings.listings())

    def _tell(self, change: ListingChange, name: str) -> None:
        if self._events:
            self._events.tell(ListingChanged(at_s=trio.current_time(), change=change, name=name))


def _lower_case(operator_address: str) -> str:
    if not _WALLET.fullmatch(operator_address):
        raise UsageError(f"{operator_address!r} is no wallet's address", remedy="give 0x and 40 hex digits")
    return operator_address.lower()
