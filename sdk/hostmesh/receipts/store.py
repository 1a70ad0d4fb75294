"""Receipts on disk, of hosts and of clients.

A receipt is written before it leaves its host, a countersignature before it leaves its client, and once more before the
host answers it.

What is kept, and for how long: every receipt for 90 days, at most :data:`MAX_RECEIPTS` in the file. At that
bound go, the oldest first: receipts that a later countersigned one of their job stands for; receipts of jobs that cost
nothing; receipts that their clients left without a countersignature when it was overdue, of the session that has most
of them; receipts of sessions that must be over. When none of these is left, nothing more is written and no more work is
done. Receipts that were refused are kept for themselves, at most :data:`MAX_REFUSED`.

Several programs may share a file: what a host issued and what a client countersigned are different rows, also where
both are of one job. Money is kept as decimal text: SQLite's integers have 63 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostmesh.errors import StoreError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.client_ledger import Refuse
from hostmesh.receipts.host_ledger import COUNTERSIGN_TIMEOUT_S
from hostmesh.receipts.paper_store import CLIENT, HOST, KEPT_S, PaperStore, not_ours, opened
from hostmesh.receipts.proof import proof_to_json
from hostmesh.receipts.receipt import JobState, SignedReceipt
from hostmesh.receipts.schema import FREE, MIGRATIONS, OWED, PAID, SUPERSEDED
from hostmesh.receipts.shared_store import SharedStore
from hostmesh.store import FeatureStore

FILE_NAME = "receipts.sqlite3"
"""In the data directory."""
MAX_RECEIPTS = 1_000_000
"""About 1.2 GB. Two days of five paid jobs a second: who would fill it to stop a host pays for it."""
MAX_REFUSED = 128
MAX_PROOF_CHARS = 1_048_576
"""A longer proof is not kept beside its refused receipt."""
_OVER_S = 2 * 86_400
"""A session lives a day at most, and its jobs end within hours of it."""
_DROPPED_AT_ONCE = 64
_UNPAID_DROPPED_AT_ONCE = 1024
"""Finding the session that has most of them costs a look at each."""
_MAX_INTEGER = 2**63 - 1
"""That SQLite takes; on the wire a number may be twice as high."""
_Execute = Callable[..., Any]
"""Runs a statement within the transaction that is open."""
_KEY = "side = ? AND session_id = ? AND job_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReceipt:
    """A receipt that is kept."""

    receipt: Receipt
    envelope: bytes
    signer: bytes
    """Whose countersignature it has or awaits, 20 bytes."""
    countersignature: bytes
    """Empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpaidJob:
    """A job whose client owes a countersignature."""

    job_id: bytes
    issued_micros: int
    acknowledged_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidJob:
    """What a client countersigned of a job."""

    job_id: bytes
    cost_micros: int
    is_answered: bool
    """A piece of the answer had come."""
    sequence: int
    """Of the receipt that was countersigned last."""
    countersignature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedReceipt:
    """A receipt that this client did not countersign."""

    network: str
    reason: str
    message: str
    envelope: bytes
    proof: str | None
    """JSON, for :func:`hostmesh.receipts.proof.proof_from_json`."""


class ReceiptStore(FeatureStore):
    """The receipts of this machine's hosts and clients.

    Args:
        path: the database file; None = in memory.
        max_receipts: most receipts in the file.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database. Every method raises it when the file cannot be read or
            written; then nothing was changed.
    """

    def __init__(self, path: Path | None, *, max_receipts: int = MAX_RECEIPTS) -> None:
        super().__init__(path, what="the store of receipts", migrations=MIGRATIONS)
        self._max = max_receipts
        self.papers = PaperStore(self._store)
        """With which others can verify the receipts."""
        self.shared = SharedStore(self._store)
        """What of them peers may be told."""
        try:
            with self._store.reading() as db:
                self._count = _count(db.execute)
        except StoreError:
            self._store.close()
            raise

    # --- a host's ---

    def put_issued(self, receipt: Receipt, envelope: bytes, *, network: str, signer: bytes) -> None:
        """Keep a receipt of this host, before it leaves.

        Args:
            receipt: what the envelope holds.
            envelope: sealed.
            network: the network's name.
            signer: whose countersignature it awaits, 20 bytes.
        """
        self._put(HOST, receipt, envelope, b"", network=network, signer=signer)

    def issued(self, session_id: bytes, job_id: bytes, sequence: int) -> KeptReceipt | None:
        """Return a receipt of this host; None: none like it is kept."""
        if sequence > _MAX_INTEGER:
            return None
        return self._find("AND sequence = ?", session_id, job_id, sequence)

    def last_issued(self, session_id: bytes, job_id: bytes) -> KeptReceipt | None:
        """Return the last receipt of a job of this host; None: none is kept."""
        return self._find("ORDER BY sequence DESC LIMIT 1", session_id, job_id)

    def put_countersignature(self, session_id: bytes, job_id: bytes, sequence: int, signature: bytes) -> None:
        """Keep the client's signature of a receipt of this host, which was verified. The first one stays."""
        key = (HOST, session_id, job_id)
        with self._store.transaction() as db:
            db.execute(
                f"UPDATE receipts SET countersignature = ? WHERE {_KEY} AND sequence = ? "  # noqa: S608 - constants
                "AND countersignature = x''",
                (signature, *key, sequence),
            )
            db.execute(
                f"UPDATE receipts SET worth = ? WHERE {_KEY} AND sequence = ? "  # noqa: S608 - constants
                "AND worth != ? AND cost_micros != '0'",
                (PAID, *key, sequence, SUPERSEDED),
            )
            _supersede(db.execute, key, sequence, None)

    def write_off(self, session_id: bytes, job_id: bytes) -> None:
        """Note that a job of this host failed by its own fault: what was not countersigned of it is not owed."""
        with self._store.transaction() as db:
            db.execute(
                f"UPDATE receipts SET worth = ? WHERE {_KEY} AND worth = ?",  # noqa: S608 - constants
                (FREE, HOST, session_id, job_id, OWED),
            )

    def unpaid(self, session_id: bytes) -> tuple[UnpaidJob, ...]:
        """Return the jobs of a session of this host that are not fully countersigned.

        A job that failed by the host's fault is not among them: its client owes what it countersigned before.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT job_id, cost_micros, state = ? OR worth = ?, countersignature != x'' FROM receipts "
                "WHERE side = ? AND session_id = ? AND worth != ? ORDER BY job_id, sequence",
                (JobState.FAILED, FREE, HOST, session_id, SUPERSEDED),
            ).fetchall()
        jobs: dict[bytes, tuple[int, int, bool]] = {}
        for job_id, text, is_written_off, is_countersigned in rows:
            cost = self._store.money(text)
            _, acknowledged, _ = jobs.get(job_id, (0, 0, False))
            jobs[job_id] = (cost, cost if is_countersigned else acknowledged, bool(is_written_off))
        return tuple(
            UnpaidJob(job_id=job_id, issued_micros=issued, acknowledged_micros=acknowledged)
            for job_id, (issued, acknowledged, is_written_off) in jobs.items()
            if acknowledged < issued and not is_written_off
        )

    def settled_micros(self, session_id: bytes) -> int:
        """Return what was countersigned of a session of this host, and what it cost and was written off."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT job_id, cost_micros FROM receipts WHERE side = ? AND session_id = ? "
                "AND (countersignature != x'' OR worth = ? OR state = ?)",
                (HOST, session_id, FREE, JobState.FAILED),
            ).fetchall()
        jobs: dict[bytes, int] = {}
        for job_id, text in rows:
            jobs[job_id] = max(jobs.get(job_id, 0), self._store.money(text))
        return sum(jobs.values())

    # --- a client's ---

    def put_countersigned(self, signed: SignedReceipt, signature: bytes, *, signer: bytes) -> None:
        """Keep a receipt and this client's signature of it, before the signature leaves.

        Args:
            signed: what was audited.
            signature: 65 bytes.
            signer: whose signature, 20 bytes.
        """
        self._put(CLIENT, signed.receipt, signed.envelope, signature, network=signed.network, signer=signer)

    def put_refused(self, envelope: bytes, refusal: Refuse, *, network: str) -> None:
        """Keep a receipt that was refused, with the proof of the lie if there is one."""
        proof = None if refusal.proof is None else proof_to_json(refusal.proof)
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO refused (network, reason, message, envelope, proof) VALUES (?, ?, ?, ?, ?)",
                (
                    network,
                    refusal.reason.value,
                    refusal.message,
                    envelope,
                    None if proof is not None and len(proof) > MAX_PROOF_CHARS else proof,
                ),
            )
            db.execute(
                "DELETE FROM refused WHERE id <= (SELECT id FROM refused ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (MAX_REFUSED,),
            )

    def refused(self) -> tuple[RefusedReceipt, ...]:
        """Return what this client refused, the oldest first."""
        with self._store.reading() as db:
            rows = db.execute("SELECT network, reason, message, envelope, proof FROM refused ORDER BY id").fetchall()
        return tuple(
            RefusedReceipt(network=network, reason=reason, message=message, envelope=envelope, proof=proof)
            for network, reason, message, envelope, proof in rows
        )

    def countersigned(self, host_peer_id: bytes, session_id: bytes) -> tuple[PaidJob, ...]:
        """Return what this client countersigned in a session, by job; the job of the latest receipt last."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT job_id, cost_micros, pieces > 0, sequence, countersignature FROM receipts "
                "WHERE side = ? AND session_id = ? AND host = ? ORDER BY id",
                (CLIENT, session_id, host_peer_id),
            ).fetchall()
        jobs: dict[bytes, PaidJob] = {}
        for job_id, cost, is_answered, sequence, countersignature in rows:
            if sequence < 0:
                raise not_ours(self._store)
            jobs.pop(job_id, None)
            jobs[job_id] = PaidJob(
                job_id=job_id,
                cost_micros=self._store.money(cost),
                is_answered=bool(is_answered),
                sequence=sequence,
                countersignature=countersignature,
            )
        return tuple(jobs.values())

    def has_countersigned(self, host_peer_id: bytes, session_id: bytes, job_id: bytes) -> bool:
        """Return whether this client countersigned a receipt of a job."""
        with self._store.reading() as db:
            row = db.execute(
                f"SELECT 1 FROM receipts WHERE {_KEY} AND host = ? LIMIT 1",  # noqa: S608 - constants
                (CLIENT, session_id, job_id, host_peer_id),
            ).fetchone()
        return row is not None

    # --- inside ---

    def _put(
        self, side: str, receipt: Receipt, envelope: bytes, countersignature: bytes, *, network: str, signer: bytes
    ) -> None:
        key = (side, receipt.session_id, receipt.job_id)
        with self._store.transaction() as db:
            before = db.total_changes
            db.execute(
                "INSERT INTO receipts (side, session_id, job_id, sequence, network, host, cost_micros, state, "
                "pieces, issued_at_unix_s, signer, envelope, countersignature, worth) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (side, session_id, job_id, sequence, host, network) DO UPDATE "
                "SET countersignature = excluded.countersignature WHERE envelope = excluded.envelope",
                (
                    *key,
                    receipt.sequence,
                    network,
                    receipt.host_peer_id,
                    str(receipt.cost_micros),
                    int(receipt.state),
                    # Where it is asked for, only whether there are any.
                    min(receipt.output_pieces, _MAX_INTEGER),
                    receipt.issued_at_unix_s,
                    signer,
                    envelope,
                    countersignature,
                    (PAID if countersignature else OWED) if receipt.cost_micros else FREE,
                ),
            )
            if db.total_changes == before:
                raise StoreError(
                    f"another receipt {receipt.sequence} of the job is kept already",
                    path=self._store.name,
                    remedy="end the job; its receipts contradict each other",
                )
            if countersignature:
                _supersede(db.execute, key, receipt.sequence, receipt.host_peer_id)
            kept = self._count + 1 - self._make_room(db.execute, receipt.issued_at_unix_s)
        self._count = kept

    def _make_room(self, run: _Execute, now: int) -> int:
        """Drop what is too old, and what must go. Returns how many."""
        dropped = _drop(run, "SELECT id FROM receipts WHERE issued_at_unix_s <= ? LIMIT ?", now - KEPT_S)
        # Other programs may have written: before anything goes for lack of room, it is counted.
        if self._count + 1 - dropped <= self._max or _count(run) <= self._max:
            return dropped
        needed = (
            _drop(run, "SELECT id FROM receipts WHERE worth < ? ORDER BY worth, id LIMIT ?", OWED)
            or _drop_overdue(run, now - int(COUNTERSIGN_TIMEOUT_S))
            or _drop(
                run,
                "SELECT id FROM receipts WHERE issued_at_unix_s <= ? ORDER BY issued_at_unix_s LIMIT ?",
                now - _OVER_S,
            )
        )
        if not needed:
            raise StoreError(
                f"{self._store.name} holds {self._max} receipts of the last two days",
                path=self._store.name,
                remedy="export them (hostmesh receipts export), then move the file away",
            )
        return dropped + needed

    def _find(self, rest: str, session_id: bytes, job_id: bytes, *more: int) -> KeptReceipt | None:
        with self._store.reading() as db:
            row = db.execute(
                f"SELECT network, envelope, signer, countersignature FROM receipts WHERE {_KEY} {rest}",  # noqa: S608 - constants
                (HOST, session_id, job_id, *more),
            ).fetchone()
        if row is None:
            return None
        network, envelope, signer, countersignature = row
        signed = opened(self._store, network, envelope)
        return KeptReceipt(receipt=signed.receipt, envelope=envelope, signer=signer, countersignature=countersignature)


def _count(run: _Execute) -> int:
    return int(run("SELECT count(*) FROM receipts").fetchone()[0])


def _drop(run: _Execute, chosen: str, bound: int) -> int:
    statement = f"DELETE FROM receipts WHERE id IN ({chosen})"  # noqa: S608 - our own words
    return int(run(statement, (bound, _DROPPED_AT_ONCE)).rowcount)


def _drop_overdue(run: _Execute, issued_until: int) -> int:
    """Drop what is overdue of the session that has most of it."""
    most = run(
        f"SELECT session_id FROM receipts WHERE worth = {OWED} AND issued_at_unix_s <= ? "  # noqa: S608 - a constant
        "GROUP BY session_id ORDER BY count(*) DESC LIMIT 1",
        (issued_until,),
    ).fetchone()
    if most is None:
        return 0
    statement = (
        f"DELETE FROM receipts WHERE id IN (SELECT id FROM receipts WHERE worth = {OWED} AND session_id = ? "  # noqa: S608 - a constant
        "AND issued_at_unix_s <= ? ORDER BY issued_at_unix_s LIMIT ?)"
    )
    return int(run(statement, (*most, issued_until, _UNPAID_DROPPED_AT_ONCE)).rowcount)


def _supersede(run: _Execute, key: tuple[str, bytes, bytes], sequence: int, host: bytes | None) -> None:
    """Note that a countersigned receipt stands for those before it; ``host`` None: of our own, whose ids are unique."""
    run(
        f"UPDATE receipts SET worth = ? WHERE {_KEY} AND sequence < ? "  # noqa: S608 - constants
        "AND host = coalesce(?, host) AND worth != ?",
        (SUPERSEDED, *key, sequence, host, SUPERSEDED),
    )
