"""Hypothesis strategies for what comes of asking peers for shared receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.criteria import MAX_REPUTATION
from hostmesh.errors import DeadlineExceededError, HostmeshError, ProtocolNotSupportedError, ReceiptError
from hostmesh.receipt_exchange import MAX_NAMED_PEERS, AskedPeers, PeerAnswer, PointsChange
from hostmesh.receipt_reviews import ImportedReviews
from hostmesh.receipts.reasons import ReceiptFault
from hostmesh.receipts.shared_client import MAX_HOSTS, MAX_JOBS, MAX_PAGES, MAX_SESSIONS
from hostmesh.reputation.names import NO_OPERATOR, HostName
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import counts, peer_ids

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_MAX_PAGES = 2 * MAX_PAGES
"""Of both questions to a peer."""


def imported_reviews() -> SearchStrategy[ImportedReviews]:
    """Return what may become of one peer's receipts."""
    sessions, jobs = counts(MAX_SESSIONS), counts(MAX_JOBS)
    return st.builds(
        ImportedReviews,
        sessions=sessions,
        reviews=sessions,
        good=jobs,
        bad=jobs,
        own=sessions,
        other_network=sessions,
        unfinished=jobs,
        of_own_host=sessions,
        not_newer=sessions,
        left_out=sessions,
    )


def peer_answers() -> SearchStrategy[PeerAnswer]:
    """Return answers: whole, in part, with receipts that do not hold, or none."""
    refused = st.sampled_from(sorted(ReceiptFault)).map(
        lambda reason: ReceiptError("the receipts do not hold", reason=reason.value)
    )
    late: SearchStrategy[HostmeshError] = st.builds(DeadlineExceededError, st.just("not all came in time"))
    absent: SearchStrategy[HostmeshError] = st.builds(
        ProtocolNotSupportedError, st.just("shares nothing"), needed=st.just("/hostmesh/receipt/1.0.0")
    )
    pages = st.integers(1, _MAX_PAGES)
    none = st.none()
    return st.one_of(
        st.builds(
            PeerAnswer, peer_id=peer_ids(), pages=pages, taken=imported_reviews(), is_whole=st.booleans(), error=none
        ),
        st.builds(
            PeerAnswer, peer_id=peer_ids(), pages=pages, taken=imported_reviews(), is_whole=st.just(False), error=late
        ),
        st.builds(PeerAnswer, peer_id=peer_ids(), pages=pages, taken=none, is_whole=st.just(False), error=refused),
        st.builds(
            PeerAnswer, peer_id=peer_ids(), pages=st.just(0), taken=none, is_whole=st.just(False), error=absent | late
        ),
    )


def points_changes() -> SearchStrategy[PointsChange]:
    """Return a host's points before and after, under a wallet or under none."""
    operators = st.just(NO_OPERATOR) | st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    return st.builds(
        PointsChange,
        name=st.builds(HostName, peer_ids(), operators),
        points_before=counts(MAX_REPUTATION),
        points=counts(MAX_REPUTATION),
    )


def asked_peers() -> SearchStrategy[AskedPeers]:
    """Return what came of asking several peers, each once, about several hosts."""
    return st.builds(
        AskedPeers,
        answers=st.lists(peer_answers(), max_size=MAX_NAMED_PEERS, unique_by=lambda each: each.peer_id).map(tuple),
        changes=st.lists(points_changes(), max_size=MAX_HOSTS, unique_by=lambda each: each.name).map(tuple),
    )
