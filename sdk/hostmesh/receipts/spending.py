"""What a client is ready to owe in one session. Pure; money in integer micro-units.

What all its sessions may cost together is the budget's matter (:mod:`hostmesh.sessions.budget`), which sets a session's
whole limit aside before the session is opened.
"""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.receipts.reasons import ReceiptFault, fault


class SessionSpending:
    """What one session's receipts come to, at its client.

    Args:
        limit_micros: the authorisation's spending limit.
        slice_micros: the authorisation's slice.

    >>> spending = SessionSpending(limit_micros=30, slice_micros=10)
    >>> spending.send(b"job", 10)
    >>> spending.may_send(1)
    False
    >>> spending.owe(b"job", 10, is_answered=False)
    True
    >>> spending.answered(b"job")
    >>> spending.may_send(1)
    True
    >>> spending.owe(b"job", 20, is_answered=True)
    True
    >>> spending.spent_micros
    20
    """

    def __init__(self, *, limit_micros: int, slice_micros: int) -> None:
        self._limit = limit_micros
        self._slice = slice_micros
        self._owed: dict[bytes, int] = {}
        self._total = 0
        self._unanswered: dict[bytes, int] = {}
        """Countersigned for prompts of jobs that run, and have no answer yet."""
        self._unanswered_total = 0
        """The same of jobs that ended."""
        self._sent: dict[bytes, int] = {}
        """Of each job that runs: the most that it can claim without an answer; 0 once it was answered."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when a job was answered or ended, so that another prompt may leave."""

    @property
    def spent_micros(self) -> int:
        """What was countersigned, of all jobs."""
        return self._total

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return bool(self._sent)

    def is_sent(self, job_id: bytes) -> bool:
        """Whether a job of this id runs."""
        return job_id in self._sent

    def may_send(self, most_micros: int) -> bool:
        """Return whether a prompt may leave now.

        It may while all prompts of the session that have no answer, those of ended jobs as far as they were paid for,
        cannot cost more than one slice together with it; while all that the session can still cost is no more than
        that; and when no other one is without an answer, so that nothing would come of waiting.

        Args:
            most_micros: the most that can be claimed for it.
        """
        at_risk = sum(self._sent.values())
        if at_risk == 0 or self._unanswered_total + at_risk + most_micros <= self._slice:
            return True
        answered = self._total - self._unanswered_total - sum(self._unanswered.values())
        return self._limit - answered <= self._slice

    def can_ever_fit(self, least_micros: int) -> bool:
        """Return whether a prompt can be paid for before its answer comes, beside those of ended jobs that were.

        What alone is too dear for the slice is for the host to refuse.

        Args:
            least_micros: about the least that can be claimed for it.
        """
        return self._unanswered_total == 0 or self._unanswered_total + least_micros <= self._slice

    def send(self, job_id: bytes, most_micros: int) -> None:
        """Note that a prompt leaves, for which so much can be claimed at most."""
        self._sent[job_id] = most_micros

    def withdraw(self, job_id: bytes) -> None:
        """Note that a prompt did not leave after all, and another one may go instead of it: nobody else is told."""
        self._sent.pop(job_id, None)

    def restore(self, job_id: bytes, cost_micros: int, *, is_answered: bool) -> None:
        """Note what was countersigned of a job before a restart, and whether a piece of its answer had come."""
        self._total += cost_micros - self._owed.get(job_id, 0)
        self._owed[job_id] = cost_micros
        if not is_answered:
            self._unanswered_total += cost_micros

    def reopen(self, job_id: bytes, cost_micros: int, *, is_answered: bool) -> None:
        """Note that a receipt of a job that ended may come after all: undo :meth:`end`, but for its prompt's turn.

        Args:
            job_id: which.
            cost_micros: what its receipts came to.
            is_answered: a piece of its answer had come.
        """
        self._owed[job_id] = cost_micros
        self._sent[job_id] = 0 if is_answered else cost_micros
        if not is_answered:
            self._unanswered[job_id] = cost_micros
            self._unanswered_total -= cost_micros

    def owe(self, job_id: bytes, cost_micros: int, *, is_answered: bool) -> bool:
        """Take on what a receipt claims, before it is countersigned.

        Nobody can tell whether a host read a prompt that it did not answer. So all jobs without a piece of an answer,
        those that run and those that ended so, are paid for up to one slice together.

        Args:
            job_id: whose receipt.
            cost_micros: of the whole job.
            is_answered: a piece of the answer came.

        Returns:
            False: that is more for prompts without an answer than this client pays. Nothing was taken on. The claim may
            be true: its host knows nothing of this bound.

        Raises:
            ReceiptError: OVER_SLICE (more since the last receipt than may be owed unacknowledged) or OVER_LIMIT;
                nothing was taken on.
        """
        step = cost_micros - self._owed.get(job_id, 0)
        if step > self._slice:
            raise fault(ReceiptFault.OVER_SLICE, f"{step} micro-units at once, the slice is {self._slice}")
        total = self._total + step
        if total > self._limit:
            raise fault(ReceiptFault.OVER_LIMIT, f"{total} micro-units in all, the session's limit is {self._limit}")
        unanswered = 0 if is_answered else cost_micros
        others = sum(self._unanswered.values()) - self._unanswered.get(job_id, 0)
        if unanswered and self._unanswered_total + others + unanswered > self._slice:
            return False
        self._owed[job_id] = cost_micros
        self._total = total
        self._unanswered[job_id] = unanswered
        return True

    def answered(self, job_id: bytes) -> None:
        """Note that the first piece of a job's answer came."""
        self._unanswered.pop(job_id, None)
        if job_id in self._sent:
            self._sent[job_id] = 0
        self.on_room()

    def end(self, job_id: bytes) -> None:
        """Note that no receipt of a job is taken any more. What it came to stays counted. Idempotent."""
        self._sent.pop(job_id, None)
        self._owed.pop(job_id, None)
        self._unanswered_total += self._unanswered.pop(job_id, 0)
        self.on_room()
