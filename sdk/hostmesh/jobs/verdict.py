"""What a client holds of a host after a job. Pure."""

from __future__ import annotations

from enum import Enum


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
