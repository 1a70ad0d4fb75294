"""A job that the host took, until it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from hostmesh.jobs.bill import JobBill
from hostmesh.jobs.engine import Work
from hostmesh.jobs.stats import JobOutcome
from hostmesh.jobs.usage import TokenMeter
from hostmesh.net.peer_id import PeerId

SEND_GRACE_S = 1.0
"""How long a job that is stopped may take for the response that it is sending."""


@dataclass(slots=True, kw_only=True, eq=False)
class AcceptedJob:
    """One accepted job."""

    job_id: bytes
    peer_id: PeerId
    work: Work
    meter: TokenMeter
    bill: JobBill
    queue_position: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    turn: trio.Event = field(default_factory=trio.Event)
    outcome: JobOutcome = JobOutcome.FAILED
    stopped_as: JobOutcome | None = None
    """It was told to stop."""
    is_sending: bool = False

    def stop(self, outcome: JobOutcome) -> None:
        """Stop it because host or client leaves: at once, or after the response that is on its way. Idempotent.

        A response that is cut in the middle would take the stream with it, and the client would not learn why.

        Args:
            outcome: how it ends; of the first call.
        """
        if self.stopped_as is not None:
            return
        self.stopped_as = outcome
        if self.is_sending:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + SEND_GRACE_S)
        else:
            self.scope.cancel()
