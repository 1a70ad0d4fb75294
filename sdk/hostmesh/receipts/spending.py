"""What a client is ready to owe: in one session, and in all of them together. Pure; money in integer micro-units."""

from __future__ import annotations

from hostmesh.errors import UsageError
from hostmesh.receipts.reasons import ReceiptFault, fault

MAX_SESSIONS = 65_536
"""Sessions that a budget tells apart; chosen here."""


class Budget:
    """What this client may owe in one currency, in all its sessions together.

    The whole limit of a session is set aside when it is opened, so that no job ends in the middle because another one
    spent the rest; closing it gives back what was not spent.

    Args:
        limit_micros: most that may be owed.
        spent_micros: what is owed already, from before a restart.

    >>> budget = Budget(limit_micros=100)
    >>> budget.open(b"session", 60)
    >>> budget.left_micros
    40
    >>> budget.close(b"session", spent_micros=25)
    >>> budget.left_micros
    75
    """

    def __init__(self, *, limit_micros: int, spent_micros: int = 0) -> None:
        if limit_micros < 0 or spent_micros < 0:
            raise UsageError("an amount of money is 0 or more")
        self._limit = limit_micros
        self._spent = spent_micros
        self._set_aside: dict[bytes, int] = {}

    @property
    def left_micros(self) -> int:
        """What a new session may have as its limit; never below 0."""
        return max(0, self._limit - self._spent - sum(self._set_aside.values()))

    def open(self, session: bytes, limit_micros: int) -> None:
        """Set a session's limit aside, before its authorisation is signed.

        Args:
            session: names it: the nonce or the session id.
            limit_micros: its spending limit.

        Raises:
            ReceiptError: OVER_BUDGET; nothing was set aside.
            UsageError: the session is open already.
        """
        if session in self._set_aside:
            raise UsageError("the session's limit was set aside already")
        if limit_micros > self.left_micros or len(self._set_aside) >= MAX_SESSIONS:
            raise fault(
                ReceiptFault.OVER_BUDGET,
                f"a session with a limit of {limit_micros} micro-units does not fit, {self.left_micros} are left",
                remedy="Give the session a lower limit, close another one, or raise the budget.",
            )
        self._set_aside[session] = limit_micros

    def close(self, session: bytes, *, spent_micros: int) -> None:
        """Give back what a session did not spend, once no job of it runs. Idempotent."""
        if self._set_aside.pop(session, None) is not None:
            self._spent += spent_micros


class SessionSpending:
    """What one session's receipts come to, at its client.

    Args:
        limit_micros: the authorisation's spending limit.
        slice_micros: the authorisation's slice.
    """

    def __init__(self, *, limit_micros: int, slice_micros: int) -> None:
        self._limit = limit_micros
        self._slice = slice_micros
        self._owed: dict[bytes, int] = {}
        self._total = 0

    @property
    def spent_micros(self) -> int:
        """What was countersigned, of all jobs."""
        return self._total

    def restore(self, job_id: bytes, cost_micros: int) -> None:
        """Note what was countersigned before a restart."""
        self._total += cost_micros - self._owed.get(job_id, 0)
        self._owed[job_id] = cost_micros

    def owe(self, job_id: bytes, cost_micros: int) -> None:
        """Take on what a receipt claims, before it is countersigned.

        Args:
            job_id: whose receipt.
            cost_micros: of the whole job.

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
        self._owed[job_id] = cost_micros
        self._total = total

    def end(self, job_id: bytes) -> None:
        """Note that no receipt of a job is taken any more. What it came to stays counted. Idempotent."""
        self._owed.pop(job_id, None)
