"""What of the receipts that are kept may be told to peers: of sessions that this client agreed to share, and no others.

Consent is read with each page, so that it ends for all pages to come when it is taken back. A place in the order is
that of a shared session, so that nothing can be read from it about any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle, SessionPapers
from hostmesh.receipts.paper_store import CLIENT
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.sharing import SharedPlace
from hostmesh.store import Store

_TELLS = (
    f"r.side = '{CLIENT}' AND r.session_id = s.session_id AND r.host = s.host AND r.network = s.network "
    f"AND r.state IN ({JobState.SUCCEEDED:d}, {JobState.FAILED:d}) AND r.countersignature != x''"
)
"""A last receipt, signed by both sides, that says how the host did; r is a receipt of the session s."""
_SHARED = (
    "SELECT s.id, s.session_id, s.host, s.authorization, s.delegation, s.grant_envelope FROM sessions s "  # noqa: S608 - our own words
    f"WHERE s.is_shared = 1 AND s.side = '{CLIENT}' AND s.network = ? AND (s.session_id, s.host) > (?, ?) {{}}"
    "AND EXISTS (SELECT 1 FROM receipts r JOIN quotes q ON q.session = s.id AND q.job_id = r.job_id "
    f"WHERE {_TELLS}) ORDER BY s.session_id, s.host LIMIT ?"
)
_JOBS = (
    "SELECT r.job_id, q.envelope, r.envelope, r.countersignature FROM sessions s JOIN receipts r JOIN quotes q "  # noqa: S608 - our own words
    f"ON q.session = s.id AND q.job_id = r.job_id WHERE s.id = ? AND {_TELLS} ORDER BY r.id DESC LIMIT ?"
)


class SharedStore:
    """Consented sessions in the file of a :class:`hostmesh.receipts.store.ReceiptStore`. Raises StoreError like it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def is_any(self, network: str) -> bool:
        """Return whether this client shares a session of a network."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT 1 FROM sessions WHERE is_shared = 1 AND side = ? AND network = ? LIMIT 1", (CLIENT, network)
            ).fetchone()
        return row is not None

    def after(
        self, place: SharedPlace, *, network: str, hosts: Sequence[bytes], max_sessions: int, max_jobs: int
    ) -> Iterator[tuple[SharedPlace, SessionBundle]]:
        """Yield the shared sessions that follow, each with its latest jobs that tell how the host did.

        Args:
            place: where the last page ended; any bytes are a place.
            network: its name.
            hosts: raw multihashes; none = all of them.
            max_sessions: most of them.
            max_jobs: most of each.

        Cost: a look at an index for each shared session that follows, of other hosts: 0.3 ms for a thousand. The jobs
        of a session are read when it is its turn.
        """
        named = f"AND s.host IN ({', '.join('?' * len(hosts))}) " if hosts else ""
        with self._store.reading() as db:
            rows = db.execute(
                _SHARED.format(named), (network, place.session_id, place.host_peer_id, *hosts, max_sessions)
            ).fetchall()
        for row, session_id, host, authorization, delegation, grant in rows:
            with self._store.reading() as db:
                found = db.execute(_JOBS, (row, max_jobs)).fetchall()
            jobs = tuple(
                JobPapers(
                    job_id=job_id,
                    quote=quote,
                    receipts=(ReceiptPapers(envelope=envelope, countersignature=countersignature),),
                )
                for job_id, quote, envelope, countersignature in found
            )
            papers = SessionPapers(network=network, authorization=authorization, grant=grant, delegation=delegation)
            yield SharedPlace(session_id=session_id, host_peer_id=host), SessionBundle(session=papers, jobs=jobs)
