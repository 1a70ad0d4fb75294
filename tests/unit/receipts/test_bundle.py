"""Receipts and their papers, as somebody sees them who was not there and has no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.receipts import (
    HOST,
    NOW,
    WALLET,
    authorization,
    bundle,
    job_terms,
    papers,
    quote,
    seal,
    signed,
    write_receipts,
)

from hostmesh.errors import ReceiptError
from hostmesh.identity.typed_data import typed_digest
from hostmesh.net.envelope import seal_envelope
from hostmesh.receipts.bundle import BundleVerifier, JobPapers, ReceiptPapers, SessionBundle, verify_bundle
from hostmesh.receipts.receipt import countersign
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.grant import seal_grant
from hostmesh.testing import make_peer_key, make_wallet
from hostmesh.v1 import session_pb2

J, K = b"j" * 16, b"k" * 16


def reason(given: SessionBundle) -> str:
    with pytest.raises(ReceiptError) as raised:
        verify_bundle(given)
    return raised.value.reason


def with_papers(**changes: Any) -> SessionBundle:
    good = bundle()
    return replace(good, session=replace(good.session, **changes))


def with_receipts(*receipts: ReceiptPapers) -> SessionBundle:
    good = bundle()
    return replace(good, jobs=(replace(good.jobs[0], receipts=receipts),))


@pytest.mark.parametrize("delegated", [False, True])
def test_an_honest_session_verifies_and_adds_up(delegated: bool) -> None:
    assert verify_bundle(bundle(delegated=delegated)) == 10
    assert verify_bundle(bundle((J, K))) == 20


def test_receipts_that_a_later_one_stands_for_may_be_missing() -> None:
    receipts = bundle().jobs[0].receipts
    assert verify_bundle(with_receipts(receipts[0], receipts[3])) == 10
    assert verify_bundle(with_receipts(receipts[-1])) == 10


def test_a_receipt_that_was_not_countersigned_is_not_owed() -> None:
    receipts = bundle().jobs[0].receipts
    alone = ReceiptPapers(envelope=receipts[-1].envelope)
    assert verify_bundle(with_receipts(*receipts[:1], alone)) == 8


def other_authorization(**changes: Any) -> bytes:
    terms = authorization(**changes)
    return message_from_terms(terms, WALLET.sign(terms, "testnet")).SerializeToString()


def test_the_papers_of_the_session() -> None:
    terms = authorization()
    by_another = message_from_terms(terms, make_wallet("other").sign(terms, "testnet")).SerializeToString()
    tampered = message_from_terms(
        authorization(spending_limit_micros=9), WALLET.sign(terms, "testnet")
    ).SerializeToString()
    grant_by_another = seal_grant(make_peer_key("other"), terms, network="testnet", session_id=b"s" * 16, now=NOW)
    grant_of_another = seal_grant(
        HOST, authorization(nonce=b"m" * 32), network="testnet", session_id=b"s" * 16, now=NOW
    )
    for changes, expected in (
        ({"authorization": b"\xff"}, "BUNDLE_MALFORMED"),
        ({"authorization": b""}, "BUNDLE_MALFORMED"),
        ({"authorization": by_another}, "BAD_AUTHORIZATION"),
        ({"authorization": tampered}, "BAD_AUTHORIZATION"),
        ({"network": "testnet-2"}, "BAD_AUTHORIZATION"),
        ({"network": ""}, "BUNDLE_MALFORMED"),
        ({"grant": b""}, "BAD_GRANT"),
        ({"grant": grant_by_another}, "BAD_GRANT"),
        ({"grant": grant_of_another}, "BAD_GRANT"),
        # A grant for other terms, and receipts of those.
        ({"authorization": other_authorization(nonce=b"m" * 32)}, "BAD_GRANT"),
    ):
        assert reason(with_papers(**changes)) == expected


def test_the_delegation() -> None:
    good = bundle(delegated=True)

    def tampered(**changes: Any) -> SessionBundle:
        message = session_pb2.Delegation.FromString(good.session.delegation)
        for name, value in changes.items():
            setattr(message, name, value)
        return replace(good, session=replace(good.session, delegation=message.SerializeToString()))

    for changes in (
        {"owner": b"x" * 20},
        {"delegate": b"x" * 20},
        {"currency": "EUR"},
        {"expires_at_unix_s": NOW - 61},
        {"nonce": b"e" * 32},
        {"signature": bytes(65)},
    ):
        assert reason(tampered(**changes)) == "BAD_DELEGATION"
    assert reason(replace(good, session=replace(good.session, delegation=b""))) == "BAD_DELEGATION"
    assert reason(with_papers(delegation=good.session.delegation)) == "BAD_DELEGATION"


def test_a_delegation_that_does_not_cover_the_session() -> None:
    for changes in (
        {"model_ids": ["another"]},
        {"host_caps": {make_peer_key("other").peer_id: 1_000}},
        {"currency": "EUR"},
        {"now": NOW + 60},
        {"now": NOW - 86_401 - 60},
    ):
        _, session_papers = papers(delegated=True, delegation_changes=changes)
        assert reason(SessionBundle(session=session_papers)) == "BAD_DELEGATION"
    _, session_papers = papers(delegated=True)
    assert verify_bundle(SessionBundle(session=session_papers)) == 0


def test_a_grant_that_its_host_signed_for_somebody_else() -> None:
    terms = authorization()
    for changes in ({"network": "testnet-2"}, {"client_peer_id": b"x" * 38}, {"host_peer_id": b"x" * 38}):
        values = {
            "network": "testnet",
            "session_id": b"s" * 16,
            "authorization_digest": typed_digest(terms, "testnet"),
            "client_peer_id": terms.client_peer_id,
            "host_peer_id": terms.host_peer_id,
            "issued_at_unix_s": NOW,
            "expires_at_unix_s": NOW + 9,
        }

        def seal_values(given: dict[str, Any]) -> bytes:
            return seal_envelope(
                HOST,
                domain="hostmesh:testnet:session-grant",
                payload_type=b"/hostmesh/session-grant",
                payload=session_pb2.SessionGrant(**given).SerializeToString(),
            )

        assert verify_bundle(with_papers(grant=seal_values(values))) == 10
        assert reason(with_papers(grant=seal_values(values | changes))) == "BAD_GRANT"


def test_the_quote() -> None:
    good = bundle()
    job = good.jobs[0]
    for changes in (
        {"key": make_peer_key("other")},
        {"network": "testnet-2"},
        {"host_peer_id": b"x" * 38},
        {"client_peer_id": b"x" * 38},
        {"model_id": "another"},
        {"currency": "EUR"},
        {"price_micros_per_mtok": 250_001},
        {"quote_id": b"x" * 16},
    ):
        assert reason(replace(good, jobs=(replace(job, quote=quote(**{"job_id": J} | changes)),))) == "BAD_QUOTE"
    assert reason(replace(good, jobs=(replace(job, quote=b""),))) == "BAD_QUOTE"
    # A quote at another price, which the receipts do not keep to.
    cheaper = replace(job, quote=quote(J, price_micros_per_mtok=1))
    assert reason(replace(good, jobs=(cheaper,))) == "WRONG_PRICE"


def test_receipts_out_of_order_twice_and_of_elsewhere() -> None:
    receipts = bundle().jobs[0].receipts
    assert reason(with_receipts(receipts[1], receipts[0])) == "REPLAYED"
    assert reason(with_receipts(receipts[1], receipts[1])) == "REPLAYED"
    theirs = bundle((K,)).jobs[0].receipts
    assert reason(with_receipts(*theirs)) == "WRONG_JOB"
    swapped = ReceiptPapers(envelope=receipts[0].envelope, countersignature=receipts[1].countersignature)
    assert reason(with_receipts(swapped)) == "BAD_COUNTERSIGNATURE"
    good = bundle()
    assert reason(replace(good, jobs=good.jobs * 2)) == "REPLAYED"


def test_the_wallet_does_not_countersign_for_the_session_key() -> None:
    session, _ = papers(delegated=True)
    receipt = write_receipts(job_terms(J, session))[0]
    good = bundle(delegated=True)
    by_wallet = ReceiptPapers(envelope=seal(receipt), countersignature=countersign(WALLET, signed(receipt)))
    job = JobPapers(job_id=J, quote=quote(J), receipts=(by_wallet,))
    assert reason(replace(good, jobs=(job,))) == "BAD_COUNTERSIGNATURE"


def test_never_more_than_the_limit_and_the_cap() -> None:
    assert verify_bundle(bundle((J, K), spending_limit_micros=20)) == 20
    assert reason(bundle((J, K), spending_limit_micros=19)) == "OVER_LIMIT"
    # Fifteen for the host in all sessions of the delegation; each session is far below its own limit.
    verifier = BundleVerifier()
    for number in (1, 2):
        each = bundle(delegated=True, session_id=bytes([number]) * 16, nonce=bytes([number]) * 32)
        verifier.open(each.session)
        verifier.job(J, each.jobs[0].quote)
        if number == 1:
            verifier.receipt(J, each.jobs[0].receipts[-1])
            assert verifier.owed_micros == 10
        else:
            with pytest.raises(ReceiptError) as raised:
                verifier.receipt(J, each.jobs[0].receipts[-1])
            assert raised.value.reason == "OVER_LIMIT"
            assert verifier.owed_micros == 0


def test_what_does_not_follow_its_session() -> None:
    good = bundle()
    verifier = BundleVerifier()
    with pytest.raises(ReceiptError) as raised:
        verifier.job(J, good.jobs[0].quote)
    assert raised.value.reason == "NO_SESSION"
    with pytest.raises(ReceiptError):
        verifier.receipt(J, good.jobs[0].receipts[0])
    verifier.open(good.session)
    with pytest.raises(ReceiptError):
        verifier.open(replace(good.session, grant=b""))
    with pytest.raises(ReceiptError) as raised:
        verifier.job(J, good.jobs[0].quote)
    assert raised.value.reason == "NO_SESSION"
