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
    is_drained: bool = False
    is_sending: bool = False

    def stop(self) -> None:
        """Stop it because the host leaves: at once, or after the response that is on its way.

        A response that is cut in the middle would take the stream with it, and the client would not learn why.
        """
        self.is_drained = True
        if self.is_sending:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + SEND_GRACE_S)
        else:
            self.scope.cancel()
