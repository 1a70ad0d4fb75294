"""What a client holds of a host after a job. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from hostmesh.net.peer_id import PeerId


class JobVerdict(Enum):
    """How a job speaks for its host, or against it. Refusals, a deadline and a client that leaves say nothing."""

    FINISHED = "finished"
    """It ended with its usage, and its last receipt was countersigned."""
    FAILED = "failed"
    """The host failed it, or the connection was lost after it had accepted."""
    PROTOCOL_BROKEN = "protocol-broken"
    """The host sent what no host sends."""
    FALSE_RECEIPT = "false-receipt"
    """A receipt claims what the host's own signatures contradict; the client keeps the proof."""

    @property
    def is_good(self) -> bool:
        """Whether it speaks for the host."""
        return self is JobVerdict.FINISHED


class OutcomeBook(Protocol):
    """Where outcomes of hosts go."""

    def record_job(self, peer_id: PeerId, operator: bytes, verdict: JobVerdict, detail: str) -> object:
        """Take in what a job says of its host.

        Args:
            peer_id: the host.
            operator: the wallet that answers for it, 20 bytes; empty = not known, and then the verdict is bad.
            verdict: what it says.
            detail: for people.

        Raises:
            StoreError: it could not be written.
        """
        ...
