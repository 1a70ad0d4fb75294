"""The load of a host and what became of its jobs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from hostmesh.receipts.receipt import JobState


class JobOutcome(Enum):
    """How an accepted job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The engine failed, or the host itself."""
    CANCELLED = "cancelled"
    """The client left."""
    EXPIRED = "expired"
    """The caller's deadline, or the host's own time limit, ran out."""
    UNPAID = "unpaid"
    """The client countersigned no receipt in time."""
    DRAINED = "drained"
    """The host left before the job was done."""


STATE_OF: Mapping[JobOutcome, JobState] = MappingProxyType(
    {
        JobOutcome.SUCCEEDED: JobState.SUCCEEDED,
        JobOutcome.CANCELLED: JobState.CANCELLED,
        JobOutcome.EXPIRED: JobState.EXPIRED,
        JobOutcome.UNPAID: JobState.EXPIRED,
        JobOutcome.FAILED: JobState.FAILED,
        JobOutcome.DRAINED: JobState.FAILED,
    }
)
"""What a job's last receipt says of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStats:
    """The load of a host, and what became of its jobs since the start."""

    active_jobs: int
    queued_jobs: int
    max_concurrent_jobs: int
    max_queued_jobs: int
    is_draining: bool
    accepted: int
    outcomes: Mapping[JobOutcome, int]
    """They add up to ``accepted - active_jobs - queued_jobs``."""
    refused: Mapping[str, int]
    """Quotes and jobs turned away, by reason."""
    prompt_tokens: int
    """Charged, in all jobs."""
    completion_tokens: int
    """Likewise."""
