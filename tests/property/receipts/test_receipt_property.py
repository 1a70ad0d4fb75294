"""Any field of a receipt flipped, replayed, moved or put out of order: refused, each with its own word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.receipts import NETWORK, NOW, WALLET, job_terms, seal, signed, write_receipts

from hostmesh.errors import ReceiptError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.receipt import countersign, open_receipt, verify_countersignature
from hostmesh.receipts.terms import JobTerms

TERMS = job_terms()
RECEIPTS = write_receipts(TERMS)
SIGNATURES = [countersign(WALLET, signed(receipt)) for receipt in RECEIPTS]
positions = st.integers(0, len(RECEIPTS) - 1)

WORDS: dict[str, set[str]] = {
    "authorization_digest": {"WRONG_AUTHORIZATION"},
    "session_id": {"WRONG_SESSION"},
    "job_id": {"WRONG_JOB"},
    "sequence": {"OUT_OF_ORDER", "REPLAYED", "EQUIVOCATION"},
    "client": {"WRONG_CLIENT"},
    "operator": {"WRONG_OPERATOR"},
    "client_peer_id": {"WRONG_CLIENT_PEER"},
    # The envelope is still the host's, which names another.
    "host_peer_id": {"WRONG_SIGNER"},
    "model_id": {"WRONG_MODEL"},
    "weights_sha256": {"WRONG_WEIGHTS"},
    "tokenizer_sha256": {"WRONG_TOKENIZER"},
    "chat_template_sha256": {"WRONG_CHAT_TEMPLATE"},
    "price_micros_per_mtok": {"WRONG_PRICE"},
    "currency": {"WRONG_CURRENCY"},
    "cost_micros": {"WRONG_COST"},
}
"""The one word of each field that must be what was agreed, or follow from the others. The other fields are claims about
the work: see the tests of the client's audit."""


def other_value(value: Any) -> st.SearchStrategy[Any]:
    """Another value of the same type and within the bounds of the wire."""
    if isinstance(value, int):
        other: st.SearchStrategy[Any] = st.integers(0, 2**64 - 1)
    elif isinstance(value, str):
        other = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=16)
    else:
        size = len(value)
        # A digest of zeros is one that was not said, which is another one as well.
        other = st.binary(min_size=size, max_size=size)
    return other.filter(lambda drawn: drawn != value)


def refusal(envelope: bytes, previous: Receipt | None, terms: JobTerms = TERMS) -> str:
    with pytest.raises(ReceiptError) as raised:
        open_receipt(envelope, terms, previous=previous, now=NOW + 60)
    return raised.value.reason


@given(data=st.data(), at=positions, name=st.sampled_from(sorted(WORDS)))
def test_a_host_that_signs_another_field(data: st.DataObject, at: int, name: str) -> None:
    receipt, previous = RECEIPTS[at], RECEIPTS[at - 1] if at else None
    changed = replace(receipt, **{name: data.draw(other_value(getattr(receipt, name)))})
    assert refusal(seal(changed), previous) in WORDS[name]


@given(data=st.data(), at=positions, name=st.sampled_from([attribute for _, _, attribute in Receipt.FIELDS]))
def test_a_countersignature_holds_for_no_other_receipt(data: st.DataObject, at: int, name: str) -> None:
    receipt = RECEIPTS[at]
    value = getattr(receipt, name)
    other = st.integers(0, 255).filter(lambda drawn: drawn != value) if name == "state" else other_value(value)
    changed = replace(receipt, **{name: data.draw(other)})
    verify_countersignature(receipt, SIGNATURES[at], network=NETWORK, signer=WALLET.address_bytes)
    with pytest.raises(ReceiptError) as raised:
        verify_countersignature(changed, SIGNATURES[at], network=NETWORK, signer=WALLET.address_bytes)
    assert raised.value.reason == "BAD_COUNTERSIGNATURE"


@given(at=positions, data=st.data())
def test_a_bit_of_the_envelope_flipped_on_the_way(at: int, data: st.DataObject) -> None:
    envelope = bytearray(seal(RECEIPTS[at]))
    bit = data.draw(st.integers(0, 8 * len(envelope) - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    reason = refusal(bytes(envelope), RECEIPTS[at - 1] if at else None)
    assert reason in {"BAD_SIGNATURE", "RECEIPT_MALFORMED"}


@given(at=positions, bit=st.integers(0, 65 * 8 - 1))
def test_a_bit_of_the_countersignature_flipped_on_the_way(at: int, bit: int) -> None:
    signature = bytearray(SIGNATURES[at])
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ReceiptError) as raised:
        verify_countersignature(RECEIPTS[at], bytes(signature), network=NETWORK, signer=WALLET.address_bytes)
    assert raised.value.reason == "BAD_COUNTERSIGNATURE"


@given(before=positions, at=positions)
def test_receipts_are_taken_in_their_order_only(before: int, at: int) -> None:
    previous, envelope = RECEIPTS[before], seal(RECEIPTS[at])
    if at == before + 1:
        assert open_receipt(envelope, TERMS, previous=previous, now=NOW + 60).receipt == RECEIPTS[at]
    else:
        assert refusal(envelope, previous) == ("REPLAYED" if at <= before else "OUT_OF_ORDER")
    if at > 0:
        assert refusal(envelope, None) == "OUT_OF_ORDER"


MOVED = {
    "WRONG_JOB": job_terms(b"k" * 16),
    "WRONG_SESSION": replace(TERMS, session=replace(TERMS.session, session_id=b"k" * 16)),
    "WRONG_AUTHORIZATION": replace(
        TERMS, session=replace(TERMS.session, authorization=replace(TERMS.session.authorization, nonce=b"m" * 32))
    ),
    "WRONG_CLIENT_PEER": replace(
        TERMS,
        session=replace(TERMS.session, authorization=replace(TERMS.session.authorization, client_peer_id=b"p" * 38)),
    ),
    "WRONG_HOST": replace(
        TERMS,
        session=replace(TERMS.session, authorization=replace(TERMS.session.authorization, host_peer_id=b"p" * 38)),
    ),
    "BAD_SIGNATURE": replace(TERMS, session=replace(TERMS.session, network="testnet-2")),
}


@given(at=positions, reason=st.sampled_from(sorted(MOVED)))
def test_a_genuine_receipt_brought_elsewhere(at: int, reason: str) -> None:
    assert refusal(seal(RECEIPTS[at]), RECEIPTS[at - 1] if at else None, MOVED[reason]) == reason


def test_the_fields_that_no_word_covers_are_claims_about_the_work() -> None:
    rest = {attribute for _, _, attribute in Receipt.FIELDS} - set(WORDS)
    assert rest == {
        "prompt_tokens",
        "completion_tokens",
        "output_hash",
        "output_pieces",
        "time_to_first_token_ms",
        "state",
        "issued_at_unix_s",
    }
