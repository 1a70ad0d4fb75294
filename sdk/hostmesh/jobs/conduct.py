"""What a client did on its side of a session, by its own clock. Pure; ``now`` is monotonic seconds.

A host that took a job may end it for few reasons without failing it. Two of these put the end on the client or on time,
and a client can tell whether they can be true: it knows when it asked, and whether its host can have waited for it.
"""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, HostmeshError, JobError
from hostmesh.jobs.reasons import MIN_JOB_S
from hostmesh.receipts.host_ledger import COUNTERSIGN_TIMEOUT_S
from hostmesh.receipts.patience import Patience
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.terms import JobTerms

MAX_AWAY_S = 15.0
"""How long a session's readers may be away, counted as the host counts the time that it waits: half as long."""
CLOCK_DIFFERENCE_S = 1.0
"""How much sooner than here a deadline may be over at the host."""


class SessionConduct:
    """One session, as its client kept it.

    Args:
        is_new: this client was never in it before: nothing of an earlier run can be unpaid.
        slice_micros: of the session.
    """

    def __init__(self, *, is_new: bool, slice_micros: int) -> None:
        self._is_new = is_new
        self._may_owe = not is_new
        self._patience = Patience(slice_micros=slice_micros, timeout_s=MAX_AWAY_S)
        self._jobs: dict[bytes, JobConduct] = {}
        self._began_at = float("inf")

    def begin(
        self,
        terms: JobTerms,
        *,
        now: float,
        deadline: float,
        most_prompt_micros: int,
        may_fill_context: Callable[[], bool],
        says_draining: Callable[[], bool],
    ) -> JobConduct:
        """Note a job that is about to be asked for.

        Args:
            terms: as quoted.
            now: when.
            deadline: when its caller wants it to end; infinity: never.
            most_prompt_micros: what a host that cannot count its prompt beforehand holds for it.
            may_fill_context: whether its input can leave no room in the model's context, by this client's count.
            says_draining: whether the host tells everybody that it drains, or is gone.
        """
        self._began_at = min(self._began_at, now)
        job = self._jobs[terms.job_id] = JobConduct(
            self,
            self._patience,
            terms,
            sent_at=now,
            deadline=deadline,
            most_prompt_micros=most_prompt_micros,
            may_fill_context=may_fill_context,
            says_draining=says_draining,
        )
        return job

    def end(self, job_id: bytes, *, now: float, is_settled: bool) -> None:
        """Note that a job is over here.

        Args:
            job_id: which.
            now: when.
            is_settled: its last receipt is countersigned, or the host never took it.
        """
        self._jobs.pop(job_id).reading(now)
        self._may_owe |= not is_settled

    def is_late(self, now: float) -> bool:
        """Whether readers were away for so long since they last read enough receipts."""
        is_late = self._patience.left_s(now) == 0
        self._may_owe |= is_late
        return is_late

    def may_owe(self, now: float) -> bool:
        """Whether the host can have waited for this client in vain: somebody did not read, or a job's end is open."""
        is_late = self.is_late(now)
        had_time = not self._is_new or now - self._began_at >= COUNTERSIGN_TIMEOUT_S
        return had_time and (self._may_owe or is_late)


class JobConduct:
    """One job that runs. :meth:`SessionConduct.begin` makes it."""

    def __init__(
        self,
        session: SessionConduct,
        patience: Patience,
        terms: JobTerms,
        *,
        sent_at: float,
        deadline: float,
        most_prompt_micros: int,
        may_fill_context: Callable[[], bool],
        says_draining: Callable[[], bool],
    ) -> None:
        self._session = session
        self._patience = patience
        self._terms = terms
        self._sent_at = sent_at
        self._deadline = deadline
        self._paid_micros = 0
        self._left_at: float | None = None
        self._most_prompt_micros = most_prompt_micros
        self._may_fill_context = may_fill_context
        self._says_draining = says_draining

    def reading(self, now: float) -> None:
        """Note that the reader waits for the next event, or needs no more."""
        self._session.is_late(now)
        if self._left_at is not None:
            self._patience.end(self._left_at, now)
            self._left_at = None

    def left(self, now: float) -> None:
        """Note that the reader went away with an event, or without; :meth:`reading` comes before it."""
        self._left_at = now
        self._patience.begin(now, now)

    def countersigned(self, cost_micros: int, now: float) -> None:
        """Note that a receipt was read and countersigned, which is over so much."""
        self._session.is_late(now)
        self._patience.paid(cost_micros - self._paid_micros, now)
        self._paid_micros = cost_micros

    def is_hosts_failure(self, error: HostmeshError, now: float) -> bool:
        """Whether a job that the host had taken ended by the host's fault.

        Whatever an honest host does not end jobs with is its fault, and so is what cannot be true:

        - ``RECEIPT_OVERDUE`` before the host can have waited its time, or although it cannot have waited for us;
        - a connection that is lost, unless the host may have broken off what nobody read;
        - ``JOB_TIME_LIMIT`` before ``MIN_JOB_S``;
        - ``SLICE_TOO_SMALL`` of a slice that holds the whole answer beside all that the prompt can cost;
        - ``DRAINING`` of a host that tells nobody so, ``CONTEXT_EXCEEDED`` of an input that fits;
        - a deadline that is not over.

        Args:
            error: what the job ended with; not of a client that left.
            now: when it was read.
        """
        if isinstance(error, DeadlineExceededError):
            return now < self._deadline - CLOCK_DIFFERENCE_S
        is_priced = self._terms.price_micros_per_mtok > 0
        if isinstance(error, ConnectionLostError):
            return not (is_priced and self._session.is_late(now))
        if not isinstance(error, JobError):
            return False
        since_s = now - self._sent_at
        match error.reason:
            case "RECEIPT_OVERDUE":
                return not (is_priced and self._session.may_owe(now))
            case "JOB_TIME_LIMIT":
                return since_s < MIN_JOB_S
            case "SLICE_TOO_SMALL":
                terms = self._terms
                answer_micros = cost_micros(terms.max_output_tokens, terms.price_micros_per_mtok)
                return self._most_prompt_micros + answer_micros <= terms.session.authorization.slice_micros
            case "DRAINING":
                return not self._says_draining()
            case "CONTEXT_EXCEEDED":
                return not self._may_fill_context()
        return True
