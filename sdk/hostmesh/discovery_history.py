"""What discovery catches hosts in, as evidence for their reputation and for who is chosen next.

A place that is refuted costs points and no pause: the host may serve well for all that, and where it is this machine's
own place that is set wrong, every host would be paused. Two contradicting signatures are a proof, and blacklist it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hostmesh.errors import StoreError
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.score import Reputation
from hostmesh.system import System

logger = logging.getLogger("hostmesh.reputation")

AGAIN_S = 86_400.0
"""A lie that is still told after a day counts again: not with each probe, nor with each record that renews it."""


class DiscoveryHistory:
    """Takes lies to the books; a :class:`hostmesh.discovery.lies.LieWatch` itself.

    Args:
        history: keeps evidence for both books.
        reputations: that of reputations; remembers what was held against a host, also over a restart.
        system: the clock.
    """

    def __init__(self, history: HostHistory, reputations: ReputationBook, system: System) -> None:
        self._history = history
        self._reputations = reputations
        self._system = system

    def note_false_claim(self, peer_id: PeerId, claim: str) -> None:
        """Take in a claim that is not so."""
        self._note(peer_id, Evidence(kind=EvidenceKind.FALSE_MEASUREMENT, detail=claim), self._reputations.record)

    def note_equivocation(self, peer_id: PeerId, sequence: int) -> None:
        """Take in two records of one sequence."""
        evidence = Evidence(kind=EvidenceKind.EQUIVOCATION, detail=f"two records of sequence {sequence}")
        self._note(peer_id, evidence, self._history.record)

    def _note(self, peer_id: PeerId, evidence: Evidence, record: Callable[[PeerId, Evidence], Reputation]) -> None:
        now = self._system.unix_s()
        try:
            for reason in self._reputations.explain(peer_id).reasons:
                is_same = (reason.kind, reason.detail) == (evidence.kind, evidence.detail)
                # Both ways: a clock that steps back makes no lie a new one.
                if is_same and abs(now - reason.at_unix_s) < AGAIN_S:
                    return
            record(peer_id, evidence)
        except StoreError as error:
            # The search in which it was met goes on.
            logger.warning("a lie was not recorded: %s", error.message, extra={"peer_id": peer_id})
