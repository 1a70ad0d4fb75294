"""What a client did on its side of a session, by its own clock. Pure; ``now`` is monotonic seconds.

A host that took a job may end it for few reasons without failing it. Two of these put the end on the client or on time,
and a client can tell whether they can be true: it knows when it asked, and whether its host can have waited for it.
"""

from __future__ import annotations

from hostmesh.errors import DeadlineExceededError, HostmeshError, JobError
from hostmesh.jobs.reasons import MIN_JOB_S, UNCHARGED_EXCUSES
from hostmesh.receipts.host_ledger import COUNTERSIGN_TIMEOUT_S
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.terms import JobTerms

MAX_AWAY_S = 15.0
"""How long a job's reader may be away, all in all, before a receipt is read: half of what a host waits for it."""
CLOCK_DIFFERENCE_S = 1.0
"""How much sooner than here a deadline may be over at the host."""


class SessionConduct:
    """One session, as its client kept it.

    Args:
        is_new: this client was never in it before: nothing of an earlier run can be unpaid.
    """

    def __init__(self, *, is_new: bool) -> None:
        self._may_owe = not is_new
        self._jobs: dict[bytes, JobConduct] = {}

    def is_running(self, job_id: bytes) -> bool:
        """Whether a job of this id runs."""
        return job_id in self._jobs

    def begin(self, terms: JobTerms, *, now: float, deadline: float) -> JobConduct:
        """Note a job that is about to be asked for.

        Args:
            terms: as quoted.
            now: when.
            deadline: when its caller wants it to end; infinity: never.
        """
        job = self._jobs[terms.job_id] = JobConduct(self, terms, sent_at=now, deadline=deadline)
        return job

    def end(self, job_id: bytes, *, now: float, is_settled: bool) -> None:
        """Note that a job is over here.

        Args:
            job_id: which.
            now: when.
            is_settled: its last receipt is countersigned, or the host never took it.
        """
        job = self._jobs.pop(job_id)
        self._may_owe |= not is_settled or job.away_s(now) >= MAX_AWAY_S

    def was_late(self) -> None:
        """Note that a receipt may have waited for its reader."""
        self._may_owe = True

    def may_owe(self, now: float) -> bool:
        """Whether the host can have waited for this client: a job's end is open, or somebody did not read."""
        return self._may_owe or any(job.away_s(now) >= MAX_AWAY_S for job in self._jobs.values())


class JobConduct:
    """One job that runs. :meth:`SessionConduct.begin` makes it."""

    def __init__(self, session: SessionConduct, terms: JobTerms, *, sent_at: float, deadline: float) -> None:
        self._session = session
        self._terms = terms
        self._sent_at = sent_at
        self._deadline = deadline
        self._away_s = 0.0
        self._left_at: float | None = None

    def reading(self, now: float) -> None:
        """Note that the reader waits for the next event."""
        self._away_s = self.away_s(now)
        self._left_at = None
        if self._away_s >= MAX_AWAY_S:
            self._session.was_late()

    def left(self, now: float) -> None:
        """Note that the reader went away with an event, or without."""
        self._left_at = now

    def receipt_read(self) -> None:
        """Note that a receipt was read: what was behind the reader is."""
        self._away_s = 0.0

    def away_s(self, now: float) -> float:
        """Return for how long nobody read since the last receipt, seconds."""
        return self._away_s + (0.0 if self._left_at is None else max(0.0, now - self._left_at))

    def is_hosts_failure(self, error: HostmeshError, now: float) -> bool:
        """Whether a job that the host had taken ended by the host's fault.

        Whatever an honest host does not end jobs with is its fault, and so is what cannot be true:

        - ``RECEIPT_OVERDUE`` before the host can have waited its time, or although it cannot have waited for us;
        - ``JOB_TIME_LIMIT`` before ``MIN_JOB_S``;
        - ``SLICE_TOO_SMALL`` of a slice that holds the whole answer;
        - a deadline that is not over.

        Args:
            error: what the job ended with; not of a client that left.
            now: when it was read.
        """
        if isinstance(error, DeadlineExceededError):
            return now < self._deadline - CLOCK_DIFFERENCE_S
        if not isinstance(error, JobError):
            return False
        since_s = now - self._sent_at
        match error.reason:
            case "RECEIPT_OVERDUE":
                return since_s < COUNTERSIGN_TIMEOUT_S or not self._session.may_owe(now)
            case "JOB_TIME_LIMIT":
                return since_s < MIN_JOB_S
            case "SLICE_TOO_SMALL":
                terms = self._terms
                most_micros = cost_micros(terms.max_output_tokens, terms.price_micros_per_mtok)
                return most_micros <= terms.session.authorization.slice_micros
        return error.reason not in UNCHARGED_EXCUSES
