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

    Example: ``history.record(peer_id, operator, Evidence(kind=EvidenceKind.FALSE_RECEIPT, detail="job 7: 90 for 3"))``
    """

    def __init__(self, reputations: ReputationBook, standings: StandingBook) -> None:
        self._reputations = reputations
        self._standings = standings

    def record(self, peer_id: PeerId, operator_address: str, evidence: Evidence) -> Reputation:
        """Take in one piece of evidence; return the reputation that follows.

        Args:
            peer_id: the host. Its pauses and its blacklisting hold whatever wallet it shows.
            operator_address: the wallet that answers for it; see :class:`hostmesh.reputation.book.ReputationBook`.
            evidence: what happened.

        Raises:
            ValueError: no address of a wallet, or none for what speaks for the host.
            StoreError: a book could not be written; the standings are written second.
        """
        reputation = self._reputations.record(peer_id, operator_address, evidence)
        self._standings.record(peer_id, evidence)
        return reputation
