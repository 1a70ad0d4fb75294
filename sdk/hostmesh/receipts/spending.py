"""What a client is ready to owe in one session. Pure; money in integer micro-units.

What all its sessions may cost together is the budget's matter (:mod:`hostmesh.sessions.budget`), which sets a session's
whole limit aside before the session is opened.
"""

from __future__ import annotations

from hostmesh.receipts.reasons import ReceiptFault, fault


class SessionSpending:
    """What one session's receipts come to, at its client.

    Args:
        limit_micros: the authorisation's spending limit.
        slice_micros: the authorisation's slice.

    >>> spending = SessionSpending(limit_micros=30, slice_micros=10)
    >>> spending.owe(b"job", 10, is_answered=False)
    >>> spending.owe(b"job", 20, is_answered=True)
    >>> spending.spent_micros
    20
    """

    def __init__(self, *, limit_micros: int, slice_micros: int) -> None:
        self._limit = limit_micros
        self._slice = slice_micros
        self._owed: dict[bytes, int] = {}
        self._total = 0
        self._unanswered: dict[bytes, int] = {}
        """Of jobs that run."""
        self._unanswered_total = 0
        """Of jobs that ended."""

    @property
    def spent_micros(self) -> int:
        """What was countersigned, of all jobs."""
        return self._total

    def restore(self, job_id: bytes, cost_micros: int, *, is_answered: bool) -> None:
        """Note what was countersigned of a job before a restart, and whether a piece of its answer had come."""
        self._total += cost_micros - self._owed.get(job_id, 0)
        self._owed[job_id] = cost_micros
        if not is_answered:
            self._unanswered_total += cost_micros

    def owe(self, job_id: bytes, cost_micros: int, *, is_answered: bool) -> None:
        """Take on what a receipt claims, before it is countersigned.

        Nobody can tell whether a host read a prompt that it did not answer. So a job is paid for without a piece of an
        answer only as far as it comes to one slice together with those that ended so.

        Args:
            job_id: whose receipt.
            cost_micros: of the whole job.
            is_answered: a piece of the answer came.

        Raises:
            ReceiptError: OVER_SLICE (more than may be owed unacknowledged: since the last receipt, or for prompts
                without an answer) or OVER_LIMIT; nothing was taken on.
        """
        step = cost_micros - self._owed.get(job_id, 0)
        if step > self._slice:
            raise fault(ReceiptFault.OVER_SLICE, f"{step} micro-units at once, the slice is {self._slice}")
        unanswered = 0 if is_answered else cost_micros
        unanswered_total = self._unanswered_total + unanswered
        if unanswered and unanswered_total > self._slice:
            raise fault(
                ReceiptFault.OVER_SLICE,
                f"{unanswered_total} micro-units for prompts without an answer, the slice is {self._slice}",
                remedy="Open a new session, perhaps with another host.",
            )
        total = self._total + step
        if total > self._limit:
            raise fault(ReceiptFault.OVER_LIMIT, f"{total} micro-units in all, the session's limit is {self._limit}")
        self._owed[job_id] = cost_micros
        self._total = total
        self._unanswered[job_id] = unanswered

    def answered(self, job_id: bytes) -> None:
        """Note that the first piece of a job's answer came."""
        self._unanswered.pop(job_id, None)

    def end(self, job_id: bytes) -> None:
        """Note that no receipt of a job is taken any more. What it came to stays counted. Idempotent."""
        self._owed.pop(job_id, None)
        self._unanswered_total += self._unanswered.pop(job_id, 0)
