"""Receipts on disk: what is kept, for whom, and what goes when there is no more room."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.receipts import (
    HOST,
    NETWORK,
    NOW,
    SALT,
    WALLET,
    bundle,
    job_terms,
    papers,
    quote,
    seal,
    session_terms,
    signed,
    write_receipts,
)

from hostmesh.errors import StoreError
from hostmesh.identity.structs import Receipt
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts import paper_store
from hostmesh.receipts.bundle import verify_bundle
from hostmesh.receipts.client_ledger import Refuse
from hostmesh.receipts.paper_store import CLIENT, KEPT_S, KeptFilter
from hostmesh.receipts.paper_store import HOST as HOST_SIDE
from hostmesh.receipts.proof import LieProof
from hostmesh.receipts.reasons import ReceiptFault
from hostmesh.receipts.receipt import JobState, countersign, open_sealed
from hostmesh.receipts.store import MAX_REFUSED, PaidJob, ReceiptStore
from hostmesh.receipts.transcript import DeliveredPiece, OutputTranscript
from hostmesh.testing import make_peer_key

J, K, S = b"j" * 16, b"k" * 16, b"s" * 16
SIGNER = WALLET.address_bytes
RECEIPTS = write_receipts(job_terms(J))


def issue(store: ReceiptStore, receipt: Receipt) -> None:
    store.put_issued(receipt, seal(receipt), network=NETWORK, signer=SIGNER)


def pay(store: ReceiptStore, receipt: Receipt) -> None:
    signature = countersign(WALLET, signed(receipt))
    store.put_countersignature(receipt.session_id, receipt.job_id, receipt.sequence, signature)


def take(store: ReceiptStore, receipt: Receipt) -> None:
    store.put_countersigned(signed(receipt), countersign(WALLET, signed(receipt)), signer=SIGNER)


def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def test_a_host_finds_what_it_issued_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path)
    for receipt in RECEIPTS[:3]:
        issue(store, receipt)
    pay(store, RECEIPTS[0])
    store.close()
    store = ReceiptStore(path)
    kept = store.issued(S, J, 1)
    assert kept is not None
    assert (kept.receipt, kept.envelope, kept.signer) == (RECEIPTS[0], seal(RECEIPTS[0]), SIGNER)
    assert kept.countersignature == countersign(WALLET, signed(RECEIPTS[0]))
    last = store.last_issued(S, J)
    assert last is not None
    assert (last.receipt, last.countersignature) == (RECEIPTS[2], b"")
    assert store.issued(S, J, 4) is None
    assert store.issued(S, K, 1) is None
    assert store.last_issued(b"t" * 16, J) is None
    store.close()


def test_what_is_unpaid() -> None:
    store = ReceiptStore(None)
    assert store.unpaid(S) == ()
    issue(store, RECEIPTS[0])
    (job,) = store.unpaid(S)
    assert (job.job_id, job.issued_micros, job.acknowledged_micros) == (J, 8, 0)
    pay(store, RECEIPTS[0])
    assert store.unpaid(S) == ()
    for receipt in RECEIPTS[1:]:
        issue(store, receipt)
    (job,) = store.unpaid(S)
    assert (job.issued_micros, job.acknowledged_micros) == (10, 8)
    # An earlier one paid late pays no more than it says.
    pay(store, RECEIPTS[1])
    (job,) = store.unpaid(S)
    assert (job.issued_micros, job.acknowledged_micros) == (10, 9)
    pay(store, RECEIPTS[4])
    assert store.unpaid(S) == ()
    assert store.unpaid(b"t" * 16) == ()


def test_a_job_that_failed_here_is_not_unpaid() -> None:
    store = ReceiptStore(None)
    issue(store, RECEIPTS[0])
    issue(store, replace(RECEIPTS[0], sequence=2, state=int(JobState.FAILED)))
    assert store.unpaid(S) == ()


def test_a_countersignature_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path)
    issue(store, RECEIPTS[0])
    pay(store, RECEIPTS[0])
    store.put_countersignature(S, J, 1, b"x" * 65)
    take(store, RECEIPTS[0])
    take(store, RECEIPTS[0])
    store.close()
    genuine = countersign(WALLET, signed(RECEIPTS[0]))
    assert ask(path, "SELECT side, countersignature FROM receipts ORDER BY side") == [
        (CLIENT, genuine),
        (HOST_SIDE, genuine),
    ]


def test_two_receipts_of_one_sequence_are_not_kept() -> None:
    store = ReceiptStore(None)
    issue(store, RECEIPTS[1])
    with pytest.raises(StoreError):
        issue(store, replace(RECEIPTS[1], output_hash=b"x" * 32))
    issue(store, RECEIPTS[1])
    kept = store.issued(S, J, 2)
    assert kept is not None
    assert kept.receipt == RECEIPTS[1]


def test_a_client_restores_what_it_countersigned() -> None:
    store = ReceiptStore(None)
    for receipt in RECEIPTS:
        take(store, receipt)
    (unanswered,) = write_receipts(job_terms(K))[:1]
    take(store, unanswered)
    host = peer_id_to_bytes(HOST.peer_id)

    def paid(receipt: Receipt, cost_micros: int, *, is_answered: bool) -> PaidJob:
        return PaidJob(
            job_id=receipt.job_id,
            cost_micros=cost_micros,
            is_answered=is_answered,
            sequence=receipt.sequence,
            countersignature=countersign(WALLET, signed(receipt)),
        )

    both = (paid(RECEIPTS[-1], 10, is_answered=True), paid(unanswered, 8, is_answered=False))
    assert store.countersigned(host, S) == both
    assert store.countersigned(b"x" * 38, S) == ()
    # What a host issued on this machine is another matter.
    issue(store, RECEIPTS[0])
    assert store.countersigned(host, S) == both
    # The job of the latest receipt is the last.
    later = write_receipts(job_terms(b"l" * 16))
    take(store, later[0])
    take(store, write_receipts(job_terms(K))[1])
    take(store, later[1])
    assert [job.job_id for job in store.countersigned(host, S)] == [J, K, b"l" * 16]


def test_another_host_that_reuses_ids_takes_nothing_from_a_client() -> None:
    store = ReceiptStore(None, max_receipts=2)
    take(store, RECEIPTS[1])
    other = make_peer_key("other")
    theirs = replace(RECEIPTS[4], host_peer_id=peer_id_to_bytes(other.peer_id))
    foreign = open_sealed(seal(theirs, key=other), network=NETWORK)
    store.put_countersigned(foreign, countersign(WALLET, foreign), signer=SIGNER)
    # Their receipt 5 does not stand for this host's receipt 2: nothing can go.
    with pytest.raises(StoreError):
        take(store, write_receipts(job_terms(K))[0])
    assert [job.cost_micros for job in store.countersigned(peer_id_to_bytes(HOST.peer_id), S)] == [9]
    assert [job.cost_micros for job in store.countersigned(theirs.host_peer_id, S)] == [10]


def test_what_goes_first_when_the_file_is_full(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path, max_receipts=4)
    free = write_receipts(job_terms(K, price_micros_per_mtok=0))
    issue(store, free[0])
    for receipt in RECEIPTS[:3]:
        issue(store, receipt)
        pay(store, receipt)
    # The second makes room for itself: the first two of the paid job are stood for by the third.
    issue(store, RECEIPTS[3])
    left = "SELECT sequence FROM receipts ORDER BY job_id, sequence"
    assert ask(path, left) == [(3,), (4,)]
    issue(store, free[1])
    issue(store, free[2])
    issue(store, RECEIPTS[4])
    # Free ones went; nothing that is owed did.
    assert ask(path, left) == [(3,), (4,), (5,)]


def test_a_file_full_of_what_is_owed_takes_no_more_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path, max_receipts=2)
    jobs = [write_receipts(job_terms(bytes([n]) * 16))[0] for n in range(4)]
    issue(store, jobs[0])
    issue(store, jobs[1])
    with pytest.raises(StoreError, match="receipts of the last two days"):
        issue(store, jobs[2])
    assert store.issued(S, jobs[2].job_id, 1) is None
    assert store.issued(S, jobs[0].job_id, 1) is not None
    # Two days later the sessions are over.
    later = replace(jobs[3], issued_at_unix_s=NOW + 2 * 86_400)
    issue(store, later)
    assert store.issued(S, later.job_id, 1) is not None
    # A program beside this one made room meanwhile.
    ask(path, "SELECT 1")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM receipts")
    issue(store, jobs[2])
    issue(store, jobs[1])
    assert store.issued(S, jobs[2].job_id, 1) is not None


def issue_one(store: ReceiptStore, session_id: bytes, job: int, *, at: int = NOW, price: int = 250_000) -> Receipt:
    terms = job_terms(job.to_bytes(16, "big"), session_terms(session_id), price_micros_per_mtok=price)
    receipt = replace(write_receipts(terms)[0], issued_at_unix_s=at)
    issue(store, receipt)
    return receipt


def test_who_does_not_pay_stops_nobody_elses_work() -> None:
    store = ReceiptStore(None, max_receipts=10)
    greedy, modest, paying = b"g" * 16, b"m" * 16, b"p" * 16
    paid = [issue_one(store, paying, number) for number in range(2)]
    for receipt in paid:
        pay(store, receipt)
    for number in range(6):
        issue_one(store, greedy, number)
    kept = [issue_one(store, modest, number) for number in range(2)]
    # Nothing is overdue yet.
    with pytest.raises(StoreError, match="receipts of the last two days"):
        issue_one(store, paying, 9, at=NOW + 29)
    last = issue_one(store, paying, 9, at=NOW + 30)
    assert store.unpaid(greedy) == ()
    assert [job.job_id for job in store.unpaid(modest)] == [receipt.job_id for receipt in kept]
    for receipt in (*paid, last):
        assert store.issued(paying, receipt.job_id, 1) is not None


def test_a_job_that_was_written_off_is_owed_no_more_also_without_a_last_receipt(tmp_path: Path) -> None:
    store = ReceiptStore(tmp_path / "receipts.sqlite3")
    for receipt in RECEIPTS[:3]:
        issue(store, receipt)
    pay(store, RECEIPTS[0])
    store.write_off(S, J)
    store.close()
    store = ReceiptStore(tmp_path / "receipts.sqlite3")
    assert store.unpaid(S) == ()
    # Its client may still countersign what it has.
    pay(store, RECEIPTS[2])
    kept = store.issued(S, J, 3)
    assert kept is not None
    assert kept.countersignature
    store.close()


def test_receipts_end_after_ninety_days() -> None:
    store = ReceiptStore(None)
    issue(store, RECEIPTS[0])
    issue(store, replace(RECEIPTS[0], job_id=K, issued_at_unix_s=NOW + KEPT_S - 1))
    assert store.issued(S, J, 1) is not None
    issue(store, replace(RECEIPTS[1], job_id=K, issued_at_unix_s=NOW + KEPT_S))
    assert store.issued(S, J, 1) is None
    assert store.issued(S, K, 1) is not None


def test_refused_receipts_are_kept_beside_with_their_proof() -> None:
    store = ReceiptStore(None)
    transcript = OutputTranscript(
        salt=SALT, input_sha256=bytes(32), pieces=(DeliveredPiece(completion_tokens=1, data=b"x" * 1_000_000),)
    )
    proof = LieProof(network=NETWORK, receipts=(seal(RECEIPTS[0]),))
    refusals = [
        Refuse(reason=ReceiptFault.WRONG_COST, message="first", proof=proof),
        Refuse(reason=ReceiptFault.WRONG_OUTPUT, message="second"),
        Refuse(reason=ReceiptFault.WRONG_COST, message="third", proof=replace(proof, transcript=transcript)),
    ]
    for refusal in refusals:
        store.put_refused(b"whatever came", refusal, network=NETWORK)
    kept = store.refused()
    assert [(each.reason, each.message, each.proof is None) for each in kept] == [
        ("WRONG_COST", "first", False),
        ("WRONG_OUTPUT", "second", True),
        # Longer than what is kept.
        ("WRONG_COST", "third", True),
    ]
    for _ in range(MAX_REFUSED):
        store.put_refused(b"", refusals[1], network=NETWORK)
    kept = store.refused()
    assert len(kept) == MAX_REFUSED
    assert {each.message for each in kept} == {"second"}


def fill(store: ReceiptStore, *, is_host: bool = True, session_id: bytes = S, jobs: tuple[bytes, ...] = (J,)) -> None:
    nonce = session_id * 2
    session, session_papers = papers(session_id=session_id, nonce=nonce)
    store.papers.put_session(session, session_papers, is_host=is_host)
    for job_id in jobs:
        store.papers.put_quote(session, job_id, quote(job_id), is_host=is_host)
        for receipt in write_receipts(job_terms(job_id, session)):
            if is_host:
                issue(store, receipt)
                pay(store, receipt)
            else:
                take(store, receipt)


def test_what_is_kept_verifies_by_itself() -> None:
    store = ReceiptStore(None)
    fill(store, jobs=(J, K))
    fill(store, jobs=(J, K))
    (kept,) = store.papers.sessions(KeptFilter())
    assert (kept.side, kept.network, kept.session_id, kept.is_shared) == (HOST_SIDE, NETWORK, S, False)
    assert kept.bundle == bundle((J, K), nonce=S * 2)
    assert verify_bundle(kept.bundle) == 20


def test_filters() -> None:
    store = ReceiptStore(None)
    fill(store)
    fill(store, is_host=False, session_id=b"t" * 16)
    fill(store, is_host=False, session_id=b"u" * 16)

    def found(**wanted: Any) -> list[bytes]:
        return [kept.session_id[:1] for kept in store.papers.sessions(KeptFilter(**wanted))]

    assert found() == [b"s", b"t", b"u"]
    assert found(side=CLIENT) == [b"t", b"u"]
    assert found(session_id=b"t" * 16) == [b"t"]
    assert found(network="testnet-2") == []
    assert found(host_peer_id=peer_id_to_bytes(HOST.peer_id)) == [b"s", b"t", b"u"]
    assert found(host_peer_id=b"x" * 38) == []
    assert found(since_unix_s=NOW + 4) == [b"s", b"t", b"u"]
    assert found(since_unix_s=NOW + 5) == []


def test_nothing_is_shared_without_consent() -> None:
    store = ReceiptStore(None)
    fill(store)
    fill(store, is_host=False, session_id=b"t" * 16)
    host = peer_id_to_bytes(HOST.peer_id)
    shared = KeptFilter(shared_only=True)
    assert list(store.papers.sessions(shared)) == []
    # A host has no say in it.
    assert not store.papers.set_shared(host, S, True, network=NETWORK)
    assert store.papers.set_shared(host, b"t" * 16, True, network=NETWORK)
    assert [kept.session_id for kept in store.papers.sessions(shared)] == [b"t" * 16]
    # Papers that come again change nothing of it.
    fill(store, is_host=False, session_id=b"t" * 16)
    assert [kept.is_shared for kept in store.papers.sessions(shared)] == [True]
    assert store.papers.set_shared(host, b"t" * 16, False, network=NETWORK)
    assert list(store.papers.sessions(shared)) == []


def test_receipts_without_papers_are_listed_without() -> None:
    store = ReceiptStore(None)
    issue(store, RECEIPTS[0])
    (kept,) = store.papers.sessions(KeptFilter())
    assert kept.bundle is None
    session, _ = papers()
    store.papers.put_quote(session, J, quote(J), is_host=True)
    (kept,) = store.papers.sessions(KeptFilter())
    assert kept.bundle is None


def test_papers_end_ninety_days_after_their_session(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path)
    fill(store)
    issued_at = NOW + 3_600 + KEPT_S
    session, session_papers = papers(session_id=b"t" * 16, issued_at_unix_s=issued_at, expires_at_unix_s=issued_at + 9)
    store.papers.put_session(session, session_papers, is_host=True)
    assert ask(path, "SELECT session_id FROM sessions") == [(b"t" * 16,)]
    assert ask(path, "SELECT * FROM quotes") == []


def test_papers_of_receipts_that_are_kept_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_store, "MAX_QUOTES", 4)
    monkeypatch.setattr(paper_store, "MAX_SESSIONS", 2)
    store = ReceiptStore(None)
    fill(store)
    others = []
    for number in range(40):
        session, session_papers = papers(session_id=bytes([number]) * 16, nonce=bytes([number]) * 32)
        store.papers.put_session(session, session_papers, is_host=True)
        # No receipt of these jobs is kept.
        for job in range(2):
            store.papers.put_quote(session, bytes([job]) * 16, quote(bytes([job]) * 16), is_host=True)
        others.append(session)
    (kept,) = store.papers.sessions(KeptFilter())
    assert kept.bundle is not None
    assert verify_bundle(kept.bundle) == 10
    assert store.papers.put_quote(session_terms(nonce=S * 2), K, quote(K), is_host=True)
    # Of the others only the newest are left.
    is_kept = [store.papers.put_quote(session, J, quote(J), is_host=True) for session in others]
    assert is_kept[-2:] == [True, True]
    assert is_kept[:30] == [False] * 30


def test_a_damaged_row_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "receipts.sqlite3"
    store = ReceiptStore(path)
    issue(store, RECEIPTS[0])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE receipts SET envelope = x'00'")
    with pytest.raises(StoreError, match="no hostmesh wrote"):
        store.issued(S, J, 1)
