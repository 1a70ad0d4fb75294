"""Others' receipts as reviews: what counts of them, whose word it is, and how little of it there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.support.receipts import CLIENT, HOST, NETWORK, NOW, OPERATOR, WALLET, bundle, seal

from hostmesh.errors import ReceiptError
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipt_reviews import UNMET, ImportedReviews, Meeting, import_reviews
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle
from hostmesh.receipts.export import bundle_lines, read_bundles
from hostmesh.receipts.receipt import JobState, countersign, open_sealed
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.foreign import Review
from hostmesh.system import System
from hostmesh.testing import make_peer_key

J, K, L = (letter * 16 for letter in (b"j", b"k", b"l"))
REVIEWER, OWNER = ("0x" + each.address_bytes.hex() for each in (WALLET, OPERATOR))
NOTHING = ImportedReviews(
    sessions=0, reviews=0, good=0, bad=0, own=0, other_network=0, unfinished=0, of_own_host=0, not_newer=0, left_out=0
)


@pytest.fixture
def book() -> ReputationBook:
    return ReputationBook(system=System(unix_s=lambda: float(NOW + 3600)))


def taken(book: ReputationBook, *bundles: SessionBundle, own_wallets: Sequence[bytes] = ()) -> ImportedReviews:
    """Import them as a file of lines, which verifies them."""
    lines = [line for each in bundles for line in bundle_lines(each)]
    return import_reviews(book, read_bundles(lines), network=NETWORK, own_wallets=own_wallets)


def ended(job: JobPapers, state: JobState) -> JobPapers:
    """The job with another end, which both sides signed."""
    last = open_sealed(job.receipts[-1].envelope, network=NETWORK)
    envelope = seal(replace(last.receipt, state=int(state)))
    countersignature = countersign(WALLET, open_sealed(envelope, network=NETWORK))
    return replace(
        job, receipts=(*job.receipts[:-1], ReceiptPapers(envelope=envelope, countersignature=countersignature))
    )


def with_ends(*states: JobState) -> SessionBundle:
    whole = bundle((J, K, L)[: len(states)])
    return replace(whole, jobs=tuple(ended(job, state) for job, state in zip(whole.jobs, states, strict=True)))


def test_finished_jobs_speak_for_a_host_and_failed_ones_against_it(book: ReputationBook) -> None:
    made = taken(book, with_ends(JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED))
    assert made == replace(NOTHING, sessions=1, reviews=1, good=2, bad=1)
    review = book.review_of(REVIEWER, HOST.peer_id, OWNER)
    assert review is not None
    assert (review.operator, review.network, review.good, review.bad) == (OWNER, UNMET, 2, 1)
    assert NOW <= review.at_unix_s < NOW + 60


def test_what_was_cancelled_or_ran_out_of_time_says_nothing(book: ReputationBook) -> None:
    made = taken(book, with_ends(JobState.CANCELLED, JobState.EXPIRED))
    assert made == replace(NOTHING, sessions=1, unfinished=2)
    assert book.review_of(REVIEWER, HOST.peer_id, OWNER) is None


@pytest.mark.parametrize("kept", [-1, 3, 1, 0])
def test_only_a_last_receipt_that_both_signed_counts(book: ReputationBook, kept: int) -> None:
    """Without the last one, or with one that the client did not sign."""
    whole = bundle()
    (job,) = whole.jobs
    if kept == 0:
        receipts = (*job.receipts[:-1], replace(job.receipts[-1], countersignature=b""))
    else:
        receipts = job.receipts[:kept]
    made = taken(book, replace(whole, jobs=(replace(job, receipts=receipts),)))
    assert made == replace(NOTHING, sessions=1, unfinished=1)


def test_the_reviewer_of_a_delegated_session_is_its_owner(book: ReputationBook) -> None:
    assert taken(book, bundle(delegated=True)).reviews == 1
    assert book.review_of(REVIEWER, HOST.peer_id, OWNER) is not None


def test_our_own_receipts_are_no_word_of_others(book: ReputationBook) -> None:
    made = taken(book, bundle(), own_wallets=[WALLET.address_bytes])
    assert made == replace(NOTHING, sessions=1, own=1)
    assert book.review_of(REVIEWER, HOST.peer_id, OWNER) is None


def test_an_operator_that_reviews_itself_is_left_out(book: ReputationBook) -> None:
    whole = bundle(operator=WALLET.address_bytes)
    jobs = []
    for job in whole.jobs:
        receipts = []
        for papers in job.receipts:
            own = replace(open_sealed(papers.envelope, network=NETWORK).receipt, operator=WALLET.address_bytes)
            envelope = seal(own)
            signature = countersign(WALLET, open_sealed(envelope, network=NETWORK))
            receipts.append(ReceiptPapers(envelope=envelope, countersignature=signature))
        jobs.append(replace(job, receipts=tuple(receipts)))
    made = taken(book, replace(whole, jobs=tuple(jobs)))
    assert made == replace(NOTHING, sessions=1, of_own_host=1)


def test_fewer_jobs_do_not_replace_more_and_as_many_do(book: ReputationBook) -> None:
    taken(book, with_ends(JobState.SUCCEEDED, JobState.SUCCEEDED))
    assert taken(book, with_ends(JobState.FAILED)) == replace(NOTHING, sessions=1, not_newer=1)
    assert book.explain(HOST.peer_id, OWNER).foreign.good == 2
    assert taken(book, with_ends(JobState.SUCCEEDED, JobState.FAILED)).reviews == 1
    foreign = book.explain(HOST.peer_id, OWNER).foreign
    assert (foreign.reviewers, foreign.good, foreign.bad) == (1, 1, 1)


def test_a_fault_anywhere_and_nothing_is_taken_in(book: ReputationBook) -> None:
    """The first session holds; the second came before."""
    with pytest.raises(ReceiptError, match="line 8"):
        taken(book, bundle(), bundle())
    assert book.review_of(REVIEWER, HOST.peer_id, OWNER) is None


def test_there_is_room_for_so_many_reviews(book: ReputationBook) -> None:
    made = import_reviews(book, [bundle()], network=NETWORK, own_wallets=(), max_reviews=0)
    assert made == replace(NOTHING, sessions=1, left_out=1)
    assert import_reviews(book, [bundle()], network="elsewhere", own_wallets=()).other_network == 1


def test_however_many_wallets_a_file_names_they_are_one_voice(book: ReputationBook) -> None:
    """Each has earned trust by the truth about twelve hosts of twelve operators, and praises another one."""
    praised, praising = make_peer_key("praised").peer_id, [f"0x{number:040x}" for number in range(20)]
    used = [(make_peer_key(f"used {number}").peer_id, f"0x{'a' * 20}{number:020x}") for number in range(12)]
    for host, operator in used:
        for _ in range(3):
            book.record_outcome(host, operator, good=True)
    for host, operator in [*used, (praised, OWNER)]:
        for reviewer in praising:
            book.record_review(
                Review(
                    reviewer=reviewer, host=host, operator=operator, network=UNMET, good=50, bad=0, at_unix_s=float(NOW)
                )
            )
    foreign = book.explain(praised, OWNER).foreign
    assert (foreign.reviewers, foreign.networks, foreign.good) == (20, 1, 1000)
    assert foreign.voice_micros == book.snapshot().trust_micros(praising[0]) > 500_000


def network_after(book: ReputationBook, whole: SessionBundle, meeting: Meeting | None) -> str:
    import_reviews(book, [whole], network=NETWORK, own_wallets=(), meeting=meeting)
    review = book.review_of(REVIEWER, HOST.peer_id, OWNER)
    assert review is not None
    return review.network


def test_a_reviewer_is_where_the_peer_is_that_opened_its_session(book: ReputationBook) -> None:
    """Others may hand over the same receipts from elsewhere: that moves no reviewer, and unmakes no meeting."""
    own = Meeting(client_peer_id=peer_id_to_bytes(CLIENT.peer_id), network="192.0.2.0/24")
    stranger = Meeting(client_peer_id=peer_id_to_bytes(make_peer_key("stranger").peer_id), network="198.51.100.0/24")
    moved = replace(own, network="2001:db8:1::/48")
    meetings = [stranger, own, stranger, None, moved]
    networks = [network_after(book, bundle(), meeting) for meeting in meetings]
    assert networks == [UNMET, own.network, own.network, own.network, moved.network]
