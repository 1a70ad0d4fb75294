"""What a node asks about its neighbours: how good each one is, and whether it may be dialled. Pure.

Who keeps the scores is no part of the node; :class:`hostmesh.reputation.peer_score_book.PeerScoreBook` does.
"""

from __future__ import annotations

from typing import Protocol

from hostmesh.net.events import NodeEvent
from hostmesh.net.peer_id import PeerId

POOR_SCORE = 0.5
"""Below, a peer is a poor neighbour; one of whom nothing is known has exactly this."""


class PeerScores(Protocol):
    """Judges peers as neighbours. Nothing of it waits or raises."""

    def score_of(self, peer_id: PeerId) -> float:
        """Return how good a neighbour a peer is, 0 to 1."""
        ...

    def may_dial(self, peer_id: PeerId) -> bool:
        """Tell whether a peer may be dialled now, and taken in where it dials us."""
        ...

    def measured(self, peer_id: PeerId, rtt_s: float) -> None:
        """Take in the round trip of a ping on a connection that stands."""
        ...

    def note(self, event: NodeEvent) -> None:
        """Take in what the node tells."""
        ...


class EqualPeers:
    """Nobody is judged.

    >>> EqualPeers().score_of(PeerId("12D3KooWA"))
    0.5
    """

    def score_of(self, peer_id: PeerId) -> float:
        """Return the score of one of whom nothing is known."""
        del peer_id
        return POOR_SCORE

    def may_dial(self, peer_id: PeerId) -> bool:
        """Tell that it may."""
        del peer_id
        return True

    def measured(self, peer_id: PeerId, rtt_s: float) -> None:
        """Forget it."""

    def note(self, event: NodeEvent) -> None:
        """Forget it."""
