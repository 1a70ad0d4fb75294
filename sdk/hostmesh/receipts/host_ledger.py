"""What a session owes its host without having countersigned it, and when the host must wait. Pure.

The slice is the session's ceiling on *unacknowledged* cost: what its jobs were served, less what the client
countersigned. Parallel jobs share it. Before each step (the prompt, then each piece) a job asks for room; without room
it waits, in order, until a countersignature makes some.

When a receipt is due: as soon as the steps that no receipt covers yet come to half a slice, in all jobs of the session
together, or while a job waits. So a client that answers at once never stops its host: half a slice of it is always
free. And no job waits for ever for another: who waits has a receipt out for everything, who runs writes one with its
next step or its end; one that has not started takes nothing before there is room for its prompt, and is overtaken.

A session has :class:`~hostmesh.receipts.patience.Patience`: so long its client may keep jobs waiting, in all.

A prompt that nobody can count beforehand is *held*: it takes room for the most that it can come to, and no receipt is
over it until the engine has counted. Several held prompts together take half a slice at most, and receipts are due when
half of the room beside them is used. What is held of a job that ended uncounted is free once its last receipt, which
claims an estimate (:mod:`hostmesh.receipts.prompt_room`), is countersigned.

``now`` is monotonic seconds. Spec: docs/protocols/receipt.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import UsageError
from hostmesh.receipts.patience import Patience
from hostmesh.receipts.reasons import ReceiptFault, fault

MAX_JOBS = 1024
"""Jobs of a session that run or are not paid for; chosen here, far above the jobs that one peer may run at once."""
COUNTERSIGN_TIMEOUT_S = 30.0
"""How long a session's client may keep its host waiting until it countersigned half a slice: many round trips,
signatures and writes to disk, with much to spare."""


@dataclass(slots=True, eq=False)
class _Job:
    served: int = 0
    issued: int = 0
    acknowledged: int = 0
    waits_for: int | None = None
    """The cost that it wants to come to."""
    is_open: bool = True
    held: int = 0
    """Beside what was served: what no receipt can be over."""
    last: int | None = None
    """The cost that its last receipt claims, once that was issued."""

    @property
    def unacknowledged(self) -> int:
        return self.served + self.held - self.acknowledged


def check_slice(slice_micros: int, step_micros: int) -> None:
    """Check that one step of a job can be served under a slice at all; call it for the prompt before it is accepted.

    Raises:
        ReceiptError: SLICE_TOO_SMALL; the remedy says which slice is needed.

    >>> check_slice(100, 100)
    """
    if step_micros > slice_micros:
        raise fault(
            ReceiptFault.SLICE_TOO_SMALL,
            f"one step of the work costs {step_micros} micro-units, the session's slice is {slice_micros}",
            remedy=f"Open a session with slice_micros of {step_micros} or more, or send less at once.",
        )


class HostLedger:
    """The unacknowledged cost of one session, at its host. Money in micro-units of the session's currency.

    Args:
        slice_micros: the authorisation's.
        timeout_s: the session's patience.

    >>> ledger = HostLedger(slice_micros=10)
    >>> ledger.begin(b"a")
    >>> ledger.may_serve(b"a", 6, 0.0), ledger.wants_receipt(b"a")
    (True, True)
    >>> ledger.issued(b"a", 6, 0.0)
    >>> ledger.may_serve(b"a", 11, 0.0)
    False
    >>> ledger.acknowledged(b"a", 6, 0.5)
    (b'a',)
    """

    def __init__(self, *, slice_micros: int, timeout_s: float = COUNTERSIGN_TIMEOUT_S) -> None:
        self.slice_micros = slice_micros
        self.patience = Patience(slice_micros=slice_micros, timeout_s=timeout_s)
        """How long the client may still keep this host waiting."""
        self._jobs: dict[bytes, _Job] = {}
        self._waiting: dict[bytes, None] = {}
        """In order of asking; dict as an ordered set."""
        self._without_room: set[bytes] = set()
        """Jobs that could not start."""
        # Kept as sums: they are asked for with every piece.
        self._unacknowledged = 0
        self._unissued = 0
        self._held = 0

    @property
    def unacknowledged_micros(self) -> int:
        """What was served and not countersigned; never above the slice."""
        return self._unacknowledged

    @property
    def held_micros(self) -> int:
        """The part of that which no receipt is over: of prompts that nobody counted."""
        return self._held

    @property
    def jobs(self) -> int:
        """Jobs that run or are not paid for."""
        return len(self._jobs)

    def begin(self, job_id: bytes) -> None:
        """Note a job that starts.

        Raises:
            ReceiptError: TOO_MANY_JOBS.
            UsageError: the id is known.
        """
        self._check_new(job_id)
        self._jobs[job_id] = _Job()

    def restore(self, job_id: bytes, *, issued_micros: int, acknowledged_micros: int) -> None:
        """Note a job of before a restart, as the store has it: what was not acknowledged still is not.

        What it was served after its last receipt is unknown by then: a slice at most, and the host's own loss.

        Raises:
            ReceiptError: TOO_MANY_JOBS.
            UsageError: known, or more acknowledged than issued.
        """
        self._check_new(job_id)
        if not 0 <= acknowledged_micros <= issued_micros:
            raise UsageError("no more can be acknowledged than was issued")
        if acknowledged_micros < issued_micros:
            self._jobs[job_id] = _Job(issued_micros, issued_micros, acknowledged_micros, is_open=False)
            self._unacknowledged += issued_micros - acknowledged_micros

    def carry(self, micros: int) -> None:
        """Note what the session came to before a restart that no receipt claims: it is not acknowledged, ever.

        Raises:
            UsageError: less than nothing.
        """
        if micros < 0:
            raise UsageError("nobody owes less than nothing")
        self._unacknowledged += micros

    def may_start(
        self, job_id: bytes, cost_micros: int, now: float, *, held_micros: int = 0, beside_micros: int = 0
    ) -> bool:
        """Ask for room for the prompt of a job, before it takes anything of the engine.

        Args:
            job_id: a job that has begun and was served nothing.
            cost_micros: of the prompt; 0 while it is not counted.
            now: monotonic seconds.
            held_micros: the most that a prompt can come to that is not counted; held until :meth:`hold` says less.
            beside_micros: room that must be free beside it, for the answer to begin.

        Returns:
            True: it is noted as served. False: ask again when something of the session changed.

        Raises:
            ReceiptError: SLICE_TOO_SMALL.
        """
        job = self._open(job_id)
        needed = cost_micros + held_micros + beside_micros
        check_slice(self.slice_micros, needed)
        others = sum(each.held for each in self._jobs.values() if each.is_open) if held_micros else 0
        is_apart = others == 0 or others + held_micros <= self.slice_micros // 2
        has_room = not self._waiting and is_apart and self._unacknowledged + needed <= self.slice_micros
        if needed == 0 or has_room:
            self._without_room.discard(job_id)
            self._book(job, cost_micros, held_micros)
        else:
            self._without_room.add(job_id)
        self._look(now)
        return job_id not in self._without_room

    def hold(self, job_id: bytes, cost_micros: int, now: float, *, held_micros: int = 0) -> tuple[bytes, ...]:
        """Note what a held prompt came to: it was counted, or will not be.

        Args:
            job_id: a job that runs and does not wait.
            cost_micros: what the whole job comes to.
            now: monotonic seconds.
            held_micros: what stays held beside it; the rest goes back.

        Returns:
            The jobs that go on now.

        Raises:
            UsageError: less than was served, or more than was served and held.
        """
        job = self._open(job_id)
        if not job.served <= cost_micros <= job.served + job.held - held_micros:
            raise UsageError("a held prompt comes to no more than is held for it")
        self._book(job, cost_micros, held_micros)
        return self._wake(now)

    def may_serve(self, job_id: bytes, cost_micros: int, now: float) -> bool:
        """Ask for room for the next step of a job, before it is done or delivered.

        Args:
            job_id: a job that has begun and does not wait.
            cost_micros: what the whole job comes to with the step.
            now: monotonic seconds.

        Returns:
            True: it is noted as served; go on. False: the job waits until :meth:`acknowledged`, :meth:`end` or
            :meth:`write_off` names it, which notes the step as served.

        Raises:
            ReceiptError: SLICE_TOO_SMALL: the step alone costs more than the slice, so that there will never be room.
            UsageError: the cost went back, or the job waits already.
        """
        job = self._open(job_id)
        if cost_micros < job.served or job.waits_for is not None:
            raise UsageError("a job's cost never goes back, and it asks for one step at a time")
        step = cost_micros - job.served
        # What the job holds itself makes no room while it runs.
        check_slice(self.slice_micros, job.held + step)
        # Nobody overtakes those who wait; but what costs nothing takes nothing of theirs.
        if step == 0 or (not self._waiting and self._unacknowledged + step <= self.slice_micros):
            self._book(job, cost_micros, job.held)
            self._look(now)
            return True
        job.waits_for = cost_micros
        self._waiting[job_id] = None
        self._look(now)
        return False

    def wants_receipt(self, job_id: bytes) -> bool:
        """Whether the job's next receipt is due; ask after every step, and when the job is told to wait."""
        job = self._open(job_id)
        is_half = 2 * self._unissued >= self.slice_micros - self._held
        return (is_half or bool(self._waiting or self._without_room)) and job.served > job.issued

    def issued(self, job_id: bytes, cost_micros: int, now: float, *, is_last: bool = False) -> None:
        """Note a receipt, before it leaves; it must be on disk by then.

        Args:
            job_id: a job that has begun, or was cut; one without anything unpaid is no matter.
            cost_micros: of the receipt.
            now: monotonic seconds.
            is_last: no other one follows; what is held of the job is free once it is countersigned.

        Raises:
            UsageError: a cost below the last receipt's, or above what was served.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return  # it was cut, and all that it was served is countersigned
        if not job.issued <= cost_micros <= job.served:
            raise UsageError("a receipt is over what was served, and never below the one before")
        if job.is_open:
            self._unissued -= cost_micros - job.issued
        job.issued = cost_micros
        job.last = cost_micros if is_last else None
        self._look(now)

    def acknowledged(self, job_id: bytes, cost_micros: int, now: float) -> tuple[bytes, ...]:
        """Note a countersignature that was verified and is on disk.

        Args:
            job_id: of any job, also one that ended; a job without anything unpaid is no matter.
            cost_micros: of the receipt that was countersigned, not necessarily the last one.
            now: monotonic seconds.

        Returns:
            The jobs that go on now, in the order in which they asked.

        Raises:
            UsageError: more than was issued.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return ()
        if cost_micros > job.issued:
            raise UsageError("no more can be acknowledged than was issued")
        if cost_micros > job.acknowledged:
            self._unacknowledged -= cost_micros - job.acknowledged
            self.patience.paid(cost_micros - job.acknowledged, now)
            job.acknowledged = cost_micros
        if job.last is not None and cost_micros >= job.last:
            self._book(job, job.served, 0)
        self._drop_if_paid(job_id, job)
        if not self._jobs and self._unacknowledged == 0:
            # Nothing is unpaid, also where what was held came to less: nobody is waited for.
            self.patience.paid(self.slice_micros, now)
        return self._wake(now)

    def end(self, job_id: bytes, now: float) -> tuple[bytes, ...]:
        """Note that a job ended after its last receipt, which is over all that it owes. Returns who goes on now."""
        job = self._open(job_id)
        self._book(job, job.issued, job.held)
        return self._leave(job_id, job, now)

    def cut(self, job_id: bytes, cost_micros: int, now: float, *, held_micros: int = 0) -> tuple[bytes, ...]:
        """Note that a job ended without its last receipt: its client left, or its time was over.

        What was sent stays unacknowledged, since nobody knows what of it arrived. A receipt over what did may still be
        issued; the rest takes its part of the slice until the session ends: leaving often costs a host one slice.

        Args:
            job_id: a job that has begun.
            cost_micros: of what was sent; room that was given for more goes back.
            now: monotonic seconds.
            held_micros: what stays held beside it, of a prompt that was not counted.

        Returns:
            The jobs that go on now.

        Raises:
            UsageError: a cost below the last receipt's, or more than was served and held.
        """
        job = self._open(job_id)
        if not job.issued <= cost_micros <= job.served + job.held - held_micros:
            raise UsageError("what was sent is no more than was served, and no less than was claimed")
        self._book(job, cost_micros, held_micros)
        return self._leave(job_id, job, now)

    def write_off(self, job_id: bytes, now: float) -> tuple[bytes, ...]:
        """Note that a job failed by the host's fault: it owes what was countersigned. Returns who goes on now."""
        job = self._open(job_id)
        self._book(job, job.issued, 0)
        self._unacknowledged -= job.unacknowledged
        job.served = job.issued = job.acknowledged
        return self._leave(job_id, job, now)

    def owed_micros(self, job_id: bytes) -> int:
        """Return what was served of a job, also of one that ended, and not countersigned."""
        job = self._jobs.get(job_id)
        return 0 if job is None else job.unacknowledged

    def awaits_client(self, job_id: bytes) -> bool:
        """Whether a running job waits for room that only the client can make, which uses up its patience.

        A job that waits for another one to write its receipt waits for the host.
        """
        self._open(job_id)
        return (job_id in self._waiting or job_id in self._without_room) and self._can_client_make_room()

    def _can_client_make_room(self) -> bool:
        at_work = (each for each in self._jobs.values() if each.is_open and each.waits_for is None)
        return self._is_owed() or not any(each.served + each.held > each.issued for each in at_work)

    def _look(self, now: float) -> None:
        """Look whether the client keeps a job waiting."""
        self.patience.wait(bool(self._waiting or self._without_room) and self._can_client_make_room(), now)

    def _is_owed(self) -> bool:
        """Whether a running job has a receipt out that is not countersigned."""
        return any(each.is_open and each.issued > each.acknowledged for each in self._jobs.values())

    def _check_new(self, job_id: bytes) -> None:
        if job_id in self._jobs:
            raise UsageError("the job has begun already")
        if len(self._jobs) >= MAX_JOBS:
            raise fault(
                ReceiptFault.TOO_MANY_JOBS,
                f"{MAX_JOBS} jobs of the session run or are not paid for",
                remedy="Countersign the receipts of earlier jobs, or open a new session.",
            )

    def _open(self, job_id: bytes) -> _Job:
        job = self._jobs.get(job_id)
        if job is None or not job.is_open:
            raise UsageError("no such job runs")
        return job

    def _book(self, job: _Job, cost_micros: int, held_micros: int) -> None:
        """Set what a job was served and what is held of it."""
        step, held_step = cost_micros - job.served, held_micros - job.held
        job.served, job.held = cost_micros, held_micros
        self._unacknowledged += step + held_step
        self._held += held_step
        if job.is_open:
            self._unissued += step

    def _leave(self, job_id: bytes, job: _Job, now: float) -> tuple[bytes, ...]:
        self._unissued -= job.served - job.issued  # it writes no receipt by itself any more
        job.is_open, job.waits_for = False, None
        self._waiting.pop(job_id, None)
        self._without_room.discard(job_id)
        self._drop_if_paid(job_id, job)
        return self._wake(now)

    def _drop_if_paid(self, job_id: bytes, job: _Job) -> None:
        if not job.is_open and job.unacknowledged == 0:
            del self._jobs[job_id]

    def _wake(self, now: float) -> tuple[bytes, ...]:
        woken = []
        for job_id in list(self._waiting):
            job = self._jobs[job_id]
            assert job.waits_for is not None  # it is among those that wait
            if self._unacknowledged + job.waits_for - job.served > self.slice_micros:
                break
            self._book(job, job.waits_for, job.held)
            job.waits_for = None
            del self._waiting[job_id]
            woken.append(job_id)
        self._look(now)
        return tuple(woken)
