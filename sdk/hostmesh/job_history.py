"""What jobs tell of hosts, as evidence for their reputation and for who is chosen next."""

from __future__ import annotations

from hostmesh.discovery.description import HostState
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.records import RecordBook
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.names import address_of

_KINDS = {
    JobVerdict.FINISHED: EvidenceKind.JOB_FINISHED,
    JobVerdict.FAILED: EvidenceKind.JOB_FAILED,
    JobVerdict.PROTOCOL_BROKEN: EvidenceKind.PROTOCOL_BROKEN,
    JobVerdict.FALSE_RECEIPT: EvidenceKind.FALSE_RECEIPT,
}


class JobHistory:
    """Takes verdicts of jobs to the books.

    Args:
        history: keeps evidence.
        discovery: measures a host anew that failed, and tells of the outcome.
    """

    def __init__(self, history: HostHistory, discovery: DiscoveryManager) -> None:
        self._history = history
        self._discovery = discovery

    def record_job(self, peer_id: PeerId, operator: bytes, verdict: JobVerdict, detail: str) -> None:
        """Take in what a job says of its host; ``operator`` is its wallet, empty where it is not known.

        Raises:
            StoreError: it could not be written.
        """
        self._history.record(peer_id, address_of(operator), Evidence(kind=_KINDS[verdict], detail=detail))
        self._discovery.note_outcome(peer_id, good=verdict.is_good)


def says_draining(records: RecordBook, peer_id: PeerId) -> bool:
    """Return whether a host's own record says that it takes no new jobs, or it has none any more."""
    known = records.known(peer_id)
    return known is None or known.info.state is not HostState.AVAILABLE
