"""What hosts are caught in, for whoever keeps their histories. Pure.

Only what cannot be another's doing: two records of one sequence that the host's own key signed, and a place in the
record that it signed which its own answers refute.
"""

from __future__ import annotations

from typing import Protocol

from hostmesh.net.peer_id import PeerId


class LieWatch(Protocol):
    """Is told of lies, the same one each time that it is met. Nothing of it waits or raises."""

    def note_false_claim(self, peer_id: PeerId, operator_address: str, claim: str) -> None:
        """Take in that what a host signed of itself is not so.

        Args:
            peer_id: the host.
            operator_address: the wallet in the record that claims it, ``0x`` and lower case.
            claim: what it claims, in the same words each time.
        """
        ...

    def note_equivocation(self, peer_id: PeerId, operator_address: str, sequence: int) -> None:
        """Take in that a host signed two different records of one sequence; of two wallets, it is told of each.

        Args:
            peer_id: the host.
            operator_address: the wallet that a record names, ``0x`` and lower case.
            sequence: of the two.
        """
        ...


class NobodyWatches:
    """Forgets every lie."""

    def note_false_claim(self, peer_id: PeerId, operator_address: str, claim: str) -> None:
        """Forget it."""

    def note_equivocation(self, peer_id: PeerId, operator_address: str, sequence: int) -> None:
        """Forget it."""
