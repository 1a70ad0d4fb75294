"""What discovery catches hosts in, as evidence for their reputation.

It costs points, and neither a pause nor a place on the blacklist. A host that is badly placed may serve well, and where
it is this machine's own place that is set wrong, every host would be paused. And an equivocation bans the binding, so
that a host restored from a backup recovers by a new one: its key keeps the proof in its history, and begins anew.
"""

from __future__ import annotations

import logging

from hostmesh.errors import StoreError
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.system import System

logger = logging.getLogger("hostmesh.reputation")

AGAIN_S = 86_400.0
"""A lie that is still told after a day counts again: not with each probe, nor with each record that renews it."""


class DiscoveryHistory:
    """Takes lies to the book; a :class:`hostmesh.discovery.lies.LieWatch` itself.

    Args:
        reputations: keeps evidence, and remembers what was held against a host, also over a restart.
        system: the clock.
    """

    def __init__(self, reputations: ReputationBook, system: System) -> None:
        self._reputations = reputations
        self._system = system

    def note_false_claim(self, peer_id: PeerId, operator_address: str, claim: str) -> None:
        """Take in a claim that is not so."""
        self._note(peer_id, operator_address, Evidence(kind=EvidenceKind.FALSE_MEASUREMENT, detail=claim))

    def note_equivocation(self, peer_id: PeerId, operator_address: str, sequence: int) -> None:
        """Take in two records of one sequence."""
        evidence = Evidence(kind=EvidenceKind.EQUIVOCATION, detail=f"two records of sequence {sequence}")
        self._note(peer_id, operator_address, evidence)

    def _note(self, peer_id: PeerId, operator_address: str, evidence: Evidence) -> None:
        now = self._system.unix_s()
        try:
            for reason in self._reputations.explain(peer_id, operator_address).reasons:
                is_same = (reason.kind, reason.detail) == (evidence.kind, evidence.detail)
                # Both ways: a clock that steps back makes no lie a new one.
                if is_same and abs(now - reason.at_unix_s) < AGAIN_S:
                    return
            self._reputations.record(peer_id, operator_address, evidence)
        except StoreError as error:
            # The search in which it was met goes on.
            logger.warning("a lie was not recorded: %s", error.message, extra={"peer_id": peer_id})
