"""What other clients' receipts tell of hosts, as reviews for the book of reputations.

Only what both sides signed at the end of a job counts: the host its last receipt, the client its countersignature. A
job that finished speaks for the host, one that failed by its fault against it; one that was cancelled or ran out of
time says nothing. The reviewer is the wallet that paid: a delegation's owner, not its session key.

A file says nothing of where its writers are, and whoever hands it over may have written all of it. So all that comes in
files is the word of one network, :data:`UNMET`: one voice together, whatever number of wallets it names. A peer, too,
may hand over what it got of others: a reviewer is met where a peer is connected only if that very peer opened one of
the sessions, as the reviewer's wallet signed. So nobody moves another's voice to a network of his own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from hostmesh.net.peer_id import PeerId, peer_id_from_bytes
from hostmesh.receipts.bundle import JobPapers, SessionBundle
from hostmesh.receipts.receipt import JobState, SignedReceipt, open_sealed
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.foreign import MAX_JOBS, Review
from hostmesh.reputation.names import address_of

UNMET = "0.0.0.0/24"
"""The network of reviewers that no connection showed; no machine is in it (RFC 1122, 3.2.1.3)."""
MAX_REVIEWS = 4096
"""Reviewers' words on hosts, of one import; further ones are left out, and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedReviews:
    """What became of the receipts of others."""

    sessions: int
    reviews: int
    """Reviewers' words on hosts that were taken into the book."""
    good: int
    """Jobs that they count for hosts."""
    bad: int
    """Jobs that they count against hosts."""
    own: int
    """Sessions of a wallet of ours: they are evidence already."""
    other_network: int
    """Sessions."""
    unfinished: int
    """Jobs without a last receipt that both sides signed, or with one that says nothing of the host."""
    of_own_host: int
    """Reviews left out: an operator's word on its own host."""
    not_newer: int
    """Reviews left out: the book has one of the same reviewer and host with more jobs."""
    left_out: int
    """Sessions for which there was no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """A connection over which receipts came."""

    client_peer_id: bytes
    """Of whoever is at its other end, as the connection proved it; raw multihash."""
    network: str
    """The IPv4 /24 or IPv6 /48 that it comes from."""


@dataclass(slots=True)
class _Sum:
    good: int = 0
    bad: int = 0
    at_unix_s: int = 0
    is_met: bool = False
    """The peer that handed it over opened one of the sessions."""


def import_reviews(
    book: ReputationBook,
    bundles: Iterable[SessionBundle],
    *,
    network: str,
    own_wallets: Collection[bytes],
    meeting: Meeting | None = None,
    max_reviews: int = MAX_REVIEWS,
) -> ImportedReviews:
    """Add up others' receipts and take them into the book.

    One reviewer's word on one host replaces an earlier one, unless it is of fewer jobs: somebody who hands over only
    the worst of another's receipts does not undo what that one told.

    Args:
        book: takes them in.
        bundles: sessions, each verified (:func:`hostmesh.receipts.export.read_bundles`) and given to be shared; nothing
            is taken in before all of them were read.
        network: our network's name; receipts of others say nothing here.
        own_wallets: 20 bytes each, whose receipts are no word of others.
        meeting: with whoever handed them over; None = they came in a file. A reviewer who was met before, and is not
            now, stays in the network where that was.
        max_reviews: most of them.

    Raises:
        StoreError: one could not be written; those before it were taken in.
        ReceiptError: as ``bundles`` raises; nothing was taken in.
    """
    sums: dict[tuple[bytes, bytes, bytes], _Sum] = {}
    sessions = own = other_network = unfinished = left_out = 0
    for bundle in bundles:
        sessions += 1
        if bundle.session.network != network:
            other_network += 1
            continue
        ends = [end for job in bundle.jobs if (end := _end_of(job, network)) is not None]
        unfinished += len(bundle.jobs) - len(ends)
        if not ends:
            continue
        # The papers bind all receipts of a session to the same three.
        said = ends[0].receipt
        if said.client in own_wallets:
            own += 1
            continue
        key = (said.client, said.host_peer_id, said.operator)
        if key not in sums and len(sums) >= max_reviews:
            left_out += 1
            continue
        total = sums.setdefault(key, _Sum())
        for end in ends:
            total.good += end.state is JobState.SUCCEEDED
            total.bad += end.state is JobState.FAILED
            total.at_unix_s = max(total.at_unix_s, end.receipt.issued_at_unix_s)
        total.is_met |= meeting is not None and said.client_peer_id == meeting.client_peer_id
    taken: list[Review] = []
    of_own_host = not_newer = 0
    for (client, host, operator), total in sums.items():
        review = _review(client, host, operator, total)
        before = book.review_of(review.reviewer, review.host, review.operator)
        if before is not None and before.good + before.bad > review.good + review.bad:
            not_newer += 1
            continue
        if meeting is not None and total.is_met:
            review = replace(review, network=meeting.network)
        elif before is not None:
            review = replace(review, network=before.network)
        if book.record_review(review):
            taken.append(review)
        else:
            of_own_host += 1
    return ImportedReviews(
        sessions=sessions,
        reviews=len(taken),
        good=sum(review.good for review in taken),
        bad=sum(review.bad for review in taken),
        own=own,
        other_network=other_network,
        unfinished=unfinished,
        of_own_host=of_own_host,
        not_newer=not_newer,
        left_out=left_out,
    )


def _end_of(job: JobPapers, network: str) -> SignedReceipt | None:
    """Return the last receipt of a job that says something of its host, signed by both."""
    if not job.receipts or not job.receipts[-1].countersignature:
        return None
    signed = open_sealed(job.receipts[-1].envelope, network=network)
    return signed if signed.state in (JobState.SUCCEEDED, JobState.FAILED) else None


def _review(client: bytes, host: bytes, operator: bytes, total: _Sum) -> Review:
    peer_id: PeerId = peer_id_from_bytes(host)
    return Review(
        reviewer=address_of(client),
        host=peer_id,
        operator=address_of(operator),
        network=UNMET,
        good=min(total.good, MAX_JOBS),
        bad=min(total.bad, MAX_JOBS),
        at_unix_s=float(total.at_unix_s),
    )
