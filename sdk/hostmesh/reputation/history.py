"""Where evidence about hosts goes: into the book of reputations, and that of standings for the blacklist."""

from __future__ import annotations

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence
from hostmesh.reputation.score import Reputation
from hostmesh.reputation.standing_book import StandingBook


class HostHistory:
    """What receipts, canaries and discovery tell of hosts.

    Args:
        reputations: scores it.
        standings: pauses and blacklists by it.

    Example: ``history.record(peer_id, Evidence(kind=EvidenceKind.FALSE_RECEIPT, detail="job 7: 900 tokens for 30"))``
    """

    def __init__(self, reputations: ReputationBook, standings: StandingBook) -> None:
        self._reputations = reputations
        self._standings = standings

    def record(self, peer_id: PeerId, evidence: Evidence) -> Reputation:
        """Take in one piece of evidence; return the reputation that follows.

        Raises:
            StoreError: a book could not be written; the standings are written second.
        """
        reputation = self._reputations.record(peer_id, evidence)
        self._standings.record(peer_id, evidence)
        return reputation
