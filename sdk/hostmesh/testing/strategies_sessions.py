"""Hypothesis strategies for the values of sessions: what was signed, what may be spent, what was taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.terms import MAX_UINT64
from hostmesh.identity.structs import NO_DIGEST, Receipt, SessionAuthorization
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client_revocations import RevocationOutcome
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import counts, currencies, model_ids, peer_ids, unix_seconds

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def _fixed(size: int) -> SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def session_authorizations() -> SearchStrategy[SessionAuthorization]:
    """Return what can be signed, whether or not a host would take it."""
    peers = peer_ids().map(peer_id_to_bytes)
    return st.builds(
        SessionAuthorization,
        client=_fixed(20),
        operator=_fixed(20),
        client_peer_id=peers,
        host_peer_id=peers,
        nonce=_fixed(32),
        model_id=model_ids(),
        max_price_micros_per_mtok=counts(MAX_UINT64),
        currency=currencies(),
        spending_limit_micros=counts(MAX_UINT64),
        issued_at_unix_s=unix_seconds(),
        expires_at_unix_s=unix_seconds(),
        slice_micros=counts(MAX_UINT64),
        delegation_digest=st.just(NO_DIGEST) | _fixed(32),
    )


def receipts() -> SearchStrategy[Receipt]:
    """Return what a client can countersign, whether or not any job came to it."""
    peers = peer_ids().map(peer_id_to_bytes)
    digests = _fixed(32)
    amounts = counts(MAX_UINT64)
    return st.builds(
        Receipt,
        authorization_digest=digests,
        session_id=_fixed(16),
        job_id=_fixed(16),
        sequence=amounts,
        client=_fixed(20),
        operator=_fixed(20),
        client_peer_id=peers,
        host_peer_id=peers,
        model_id=model_ids(),
        weights_sha256=digests,
        tokenizer_sha256=digests,
        chat_template_sha256=digests,
        price_micros_per_mtok=amounts,
        currency=currencies(),
        prompt_tokens=amounts,
        completion_tokens=amounts,
        cost_micros=amounts,
        output_hash=digests,
        output_pieces=amounts,
        time_to_first_token_ms=amounts,
        state=st.integers(0, 255),
        issued_at_unix_s=amounts,
    )


def budgets() -> SearchStrategy[Budget]:
    """Return budgets, also none, and those lowered below what is used of them."""
    return st.builds(
        Budget,
        currency=currencies(),
        limit_micros=st.none() | counts(MAX_UINT64),
        spent_micros=counts(MAX_UINT64),
        open_micros=counts(MAX_UINT64),
    )


def revocation_outcomes() -> SearchStrategy[RevocationOutcome]:
    """Return what can become of a revocation at a host: taken, refused for good, or still to be told."""
    taken = st.builds(
        RevocationOutcome,
        peer_id=peer_ids(),
        is_delivered=st.just(True),
        is_pending=st.just(False),
        ended_sessions=counts(),
        detail=st.just(""),
    )
    not_taken = st.builds(
        RevocationOutcome,
        peer_id=peer_ids(),
        is_delivered=st.just(False),
        is_pending=st.booleans(),
        ended_sessions=st.just(0),
        detail=st.sampled_from(["DIAL_FAILED", "RATE_LIMITED", "REVOCATION_EXPIRED"]),
    )
    return taken | not_taken
