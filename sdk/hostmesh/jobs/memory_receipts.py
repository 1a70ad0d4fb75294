"""Receipts in memory, until the store is there."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.identity.structs import Receipt
from hostmesh.receipts.client_ledger import Refuse
from hostmesh.receipts.receipt import SignedReceipt


@dataclass
class _Issued:
    receipt: Receipt
    envelope: bytes
    signer: bytes
    signature: bytes = b""


@dataclass
class _Unpaid:
    job_id: bytes
    issued_micros: int
    acknowledged_micros: int


@dataclass
class MemoryReceipts:
    rows: dict[tuple[bytes, bytes, int], _Issued] = field(default_factory=dict)
    refused: list[tuple[bytes, Refuse]] = field(default_factory=list)

    def put_issued(self, receipt: Receipt, envelope: bytes, *, network: str, signer: bytes) -> None:
        self.rows[receipt.session_id, receipt.job_id, receipt.sequence] = _Issued(receipt, envelope, signer)

    def issued(self, session_id: bytes, job_id: bytes, sequence: int) -> _Issued | None:
        return self.rows.get((session_id, job_id, sequence))

    def last_issued(self, session_id: bytes, job_id: bytes) -> _Issued | None:
        found = [row for (session, job, _), row in self.rows.items() if (session, job) == (session_id, job_id)]
        return max(found, key=lambda row: row.receipt.sequence, default=None)

    def put_countersignature(self, session_id: bytes, job_id: bytes, sequence: int, signature: bytes) -> None:
        self.rows[session_id, job_id, sequence].signature = signature

    def unpaid(self, session_id: bytes) -> list[_Unpaid]:
        jobs: dict[bytes, _Unpaid] = {}
        for (session, job, _), row in self.rows.items():
            if session == session_id:
                unpaid = jobs.setdefault(job, _Unpaid(job, 0, 0))
                unpaid.issued_micros = max(unpaid.issued_micros, row.receipt.cost_micros)
                if row.signature:
                    unpaid.acknowledged_micros = max(unpaid.acknowledged_micros, row.receipt.cost_micros)
        return [job for job in jobs.values() if job.acknowledged_micros < job.issued_micros]

    def put_countersigned(self, signed: SignedReceipt, signature: bytes, *, signer: bytes) -> None:
        receipt = signed.receipt
        self.rows[receipt.session_id, receipt.job_id, receipt.sequence] = _Issued(
            receipt, signed.envelope, signer, signature
        )

    def put_refused(self, envelope: bytes, refusal: Refuse, *, network: str) -> None:
        self.refused.append((envelope, refusal))
