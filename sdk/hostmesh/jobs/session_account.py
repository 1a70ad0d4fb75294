"""What the jobs of one session share at their host: the ledger of its slice, and where its receipts go."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from hostmesh.errors import StoreError
from hostmesh.identity.structs import Receipt
from hostmesh.jobs.account import PayingSession
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.host_ledger import HostLedger
from hostmesh.receipts.receipt import seal_receipt
from hostmesh.receipts.store import ReceiptStore
from hostmesh.receipts.terms import SessionTerms
from hostmesh.system import System

logger = logging.getLogger("hostmesh.jobs")


class WaitingJob(Protocol):
    """A job that may wait for room (:class:`hostmesh.jobs.bill.JobBill`)."""

    def wake(self) -> None:
        """Go on."""
        ...


class SessionAccount:
    """One session's ledger, and the bills of its jobs.

    Args:
        terms: of the session.
        session: who pays.
        key: signs receipts.
        store: keeps them.
        system: clocks.
    """

    def __init__(
        self, terms: SessionTerms, session: PayingSession, *, key: PeerKey, store: ReceiptStore, system: System
    ) -> None:
        self.terms = terms
        self.peer_id = session.peer_id
        self.ledger = HostLedger(slice_micros=terms.authorization.slice_micros)
        self.brought_micros = 0
        """What was unacknowledged when it was read from disk: perhaps by this host's own end."""
        self.is_noted = False
        """The client's wallet was told of as one that owes."""
        self._session = session
        self._over_since_s: float | None = None
        self._key = key
        self._store = store
        self._system = system
        self._jobs: dict[bytes, WaitingJob] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no job of the session runs."""
        return not self._jobs

    @property
    def is_overdue(self) -> bool:
        """Whether the client used up the host's patience, and countersigned nothing since."""
        return self.ledger.patience.left_s(self.monotonic_s()) == 0

    @property
    def owes_much(self) -> bool:
        """Whether more than half a slice stays unpaid of jobs that ended, of what receipts can claim.

        Nothing is counted that was there before, or that is held for a prompt that nobody counted.
        """
        owed_micros = self.ledger.unacknowledged_micros - self.ledger.held_micros - self.brought_micros
        return self.is_idle and 2 * owed_micros > self.ledger.slice_micros

    def is_over(self, *, for_s: float) -> bool:
        """Look whether the session is over, and was at a look so long ago."""
        if self._session.is_open or not self.is_idle:
            self._over_since_s = None
            return False
        now = self.monotonic_s()
        if self._over_since_s is None:
            self._over_since_s = now
        return now - self._over_since_s >= for_s

    def unix_s(self) -> float:
        """Return the wall clock's time."""
        return self._system.unix_s()

    def monotonic_s(self) -> float:
        """Return the ledger's time."""
        return self._system.monotonic_s()

    def begin(self, job_id: bytes, job: WaitingJob) -> None:
        """Note a job that starts.

        Raises:
            ReceiptError: TOO_MANY_JOBS.
        """
        self.ledger.begin(job_id)
        self._jobs[job_id] = job

    def end(self, job_id: bytes) -> None:
        """Forget a job that ended; the ledger knows what of it is unpaid."""
        self._jobs.pop(job_id, None)

    def wake(self, job_ids: Iterable[bytes]) -> None:
        """Let jobs go on that the ledger gave room to."""
        for job_id in job_ids:
            self._jobs[job_id].wake()

    def write_off(self, job_id: bytes) -> None:
        """Note on disk that a job failed by the host's fault. What cannot be written is owed again after a restart."""
        try:
            self._store.write_off(self.terms.session_id, job_id)
        except StoreError as error:
            logger.warning("what a failed job cost is not written off on disk: %s", error.message)

    def issue(self, receipt: Receipt) -> bytes:
        """Sign a receipt and keep it.

        Returns:
            The envelope.

        Raises:
            StoreError: it could not be written; it must not leave.
        """
        envelope = seal_receipt(self._key, receipt, network=self.terms.network)
        self._store.put_issued(receipt, envelope, network=self.terms.network, signer=self.terms.signer)
        return envelope
