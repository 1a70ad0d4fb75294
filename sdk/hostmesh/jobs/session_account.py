"""What the jobs of one session share at their host: the ledger of its slice, and where its receipts go."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from hostmesh.errors import StoreError
from hostmesh.identity.structs import Receipt
from hostmesh.net.peer_id import PeerId
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
        peer_id: of its client.
        key: signs receipts.
        store: keeps them.
        system: clocks.
    """

    def __init__(
        self, terms: SessionTerms, peer_id: PeerId, *, key: PeerKey, store: ReceiptStore, system: System
    ) -> None:
        self.terms = terms
        self.peer_id = peer_id
        self.ledger = HostLedger(slice_micros=terms.authorization.slice_micros)
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
