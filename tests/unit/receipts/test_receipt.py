"""A receipt from the host: every way in which it can be another one than was agreed has its own word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.receipts import HOST, NETWORK, NOW, WALLET, chain_of, job_terms, seal, signed, write_receipts

from hostmesh.errors import ReceiptError, UsageError
from hostmesh.identity.structs import NO_DIGEST, Receipt
from hostmesh.identity.typed_data import recover_signer
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.receipt import (
    JobState,
    check_successor,
    countersign,
    open_receipt,
    open_sealed,
    to_message,
    to_struct,
    verify_countersignature,
)
from hostmesh.receipts.terms import JobTerms
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.testing import make_peer_key, make_wallet
from hostmesh.v1 import job_pb2, receipt_pb2

TERMS = job_terms()
RECEIPTS = write_receipts(TERMS)
FIRST, SECOND, *_, LAST = RECEIPTS


def opened(
    receipt: Receipt,
    previous: Receipt | None = FIRST,
    *,
    key: Any = HOST,
    now: float = NOW + 9,
    may_skip: bool = False,
) -> Receipt:
    return open_receipt(seal(receipt, key=key), TERMS, previous=previous, now=now, may_skip=may_skip).receipt


def refused(receipt: Receipt, previous: Receipt | None = FIRST, **how: Any) -> str:
    with pytest.raises(ReceiptError) as raised:
        opened(receipt, previous, **how)
    assert raised.value.message
    return raised.value.reason


def test_an_honest_job_is_believed_receipt_by_receipt() -> None:
    previous = None
    for receipt in RECEIPTS:
        assert opened(receipt, previous) == receipt
        previous = receipt
    assert [(each.sequence, each.completion_tokens, each.output_pieces) for each in RECEIPTS] == [
        (1, 0, 0),
        (2, 2, 1),
        (3, 3, 2),
        (4, 6, 3),
        (5, 6, 3),
    ]
    # ceil((31 + 6) * 0.25)
    assert LAST.cost_micros == 10
    assert LAST.state == JobState.SUCCEEDED


def test_message_and_struct_carry_every_field() -> None:
    message = to_message(SECOND, NETWORK)
    assert to_struct(receipt_pb2.Receipt.FromString(message.SerializeToString())) == SECOND
    assert message.network == NETWORK
    # A field of the wire that the client does not sign, or the reverse, would be nobody's word.
    wire = {field.name for field in receipt_pb2.Receipt.DESCRIPTOR.fields}
    assert wire == {"network"} | {attribute for _, _, attribute in Receipt.FIELDS}


def test_digests_that_were_not_said_are_absent_on_the_wire_and_zeros_in_the_struct() -> None:
    receipt = replace(SECOND, weights_sha256=NO_DIGEST)
    message = to_message(receipt, NETWORK)
    assert message.weights_sha256 == b""
    assert to_struct(message) == receipt


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("WRONG_AUTHORIZATION", {"authorization_digest": b"x" * 32}),
        ("WRONG_SESSION", {"session_id": b"x" * 16}),
        ("WRONG_JOB", {"job_id": b"x" * 16}),
        ("WRONG_CLIENT", {"client": b"x" * 20}),
        ("WRONG_OPERATOR", {"operator": b"x" * 20}),
        ("WRONG_CLIENT_PEER", {"client_peer_id": b"x" * 38}),
        ("WRONG_MODEL", {"model_id": "smollm2-135m"}),
        ("WRONG_WEIGHTS", {"weights_sha256": NO_DIGEST}),
        ("WRONG_TOKENIZER", {"tokenizer_sha256": b"x" * 32}),
        ("WRONG_CHAT_TEMPLATE", {"chat_template_sha256": b"x" * 32}),
        ("WRONG_PRICE", {"price_micros_per_mtok": 250_001}),
        ("WRONG_CURRENCY", {"currency": "EUR"}),
        ("WRONG_COST", {"cost_micros": SECOND.cost_micros + 1}),
        ("WRONG_COST", {"cost_micros": SECOND.cost_micros - 1}),
        ("WRONG_STATE", {"state": 0}),
        ("WRONG_STATE", {"state": 6}),
        ("WRONG_FIRST_PIECE", {"time_to_first_token_ms": 0}),
        ("WRONG_TIME", {"issued_at_unix_s": NOW - 91}),
        ("WRONG_TIME", {"issued_at_unix_s": NOW + 40}),
        ("WRONG_TIME", {"issued_at_unix_s": FIRST.issued_at_unix_s - 1}),
        ("OUT_OF_ORDER", {"sequence": 3}),
        ("OUT_OF_ORDER", {"sequence": 0}),
        ("EQUIVOCATION", {"sequence": 1}),
        ("PROMPT_WENT_BACK", {"prompt_tokens": 30, "cost_micros": 8}),
        ("FAILED_BILLED", {"state": int(JobState.FAILED)}),
    ],
)
def test_each_field_has_its_word(reason: str, changes: dict[str, Any]) -> None:
    assert refused(replace(SECOND, **changes)) == reason


def test_a_host_that_names_another_host() -> None:
    other = make_peer_key("other")
    theirs = replace(SECOND, host_peer_id=b"x" * 38)
    assert refused(theirs) == "WRONG_SIGNER"
    assert refused(SECOND, key=other) == "WRONG_SIGNER"
    assert refused(replace(SECOND, host_peer_id=peer_id_to_bytes(other.peer_id)), key=other) == "WRONG_HOST"


def test_another_network() -> None:
    elsewhere = seal(SECOND, network="testnet-2")
    with pytest.raises(ReceiptError) as raised:
        open_sealed(elsewhere, network=NETWORK)
    assert raised.value.reason == "BAD_SIGNATURE"
    # The host signs another network's receipt for ours.
    payload = to_message(SECOND, "testnet-2").SerializeToString()
    moved = seal_envelope(HOST, domain="hostmesh:testnet:receipt", payload_type=b"/hostmesh/receipt", payload=payload)
    with pytest.raises(ReceiptError) as raised:
        open_sealed(moved, network=NETWORK)
    assert raised.value.reason == "WRONG_NETWORK"


@pytest.mark.parametrize(
    ("reason", "later", "changes"),
    [
        ("COMPLETION_WENT_BACK", 3, {"completion_tokens": 2, "cost_micros": 9}),
        ("PIECES_WENT_BACK", 3, {"output_pieces": 1}),
        ("OUTPUT_REWRITTEN", 4, {"output_hash": b"x" * 32}),
        ("OUTPUT_REWRITTEN", 4, {"output_pieces": 4}),
        ("WRONG_FIRST_PIECE", 4, {"time_to_first_token_ms": 41}),
    ],
)
def test_nothing_is_taken_back(reason: str, later: int, changes: dict[str, Any]) -> None:
    assert refused(replace(RECEIPTS[later], **changes), RECEIPTS[later - 1]) == reason


def test_nothing_follows_the_end() -> None:
    assert refused(replace(LAST, sequence=6), LAST) == "AFTER_END"


def test_no_receipt_is_older_than_its_session() -> None:
    early = NOW - 60 - 30
    assert opened(replace(FIRST, issued_at_unix_s=early), None).issued_at_unix_s == early
    assert refused(replace(FIRST, issued_at_unix_s=early - 1), None) == "WRONG_TIME"


def test_a_host_whose_clock_is_half_a_minute_ahead_is_believed() -> None:
    ahead = replace(FIRST, issued_at_unix_s=NOW + 30)
    assert opened(ahead, None, now=NOW) == ahead
    assert refused(ahead, None, now=NOW - 1) == "WRONG_TIME"


def test_replays_and_gaps() -> None:
    assert refused(SECOND, SECOND) == "REPLAYED"
    assert refused(FIRST, SECOND) == "REPLAYED"
    assert refused(SECOND, None) == "OUT_OF_ORDER"
    assert refused(RECEIPTS[2], FIRST) == "OUT_OF_ORDER"


@pytest.mark.parametrize("previous", [None, FIRST])
def test_a_receipt_that_may_leave_others_out_takes_nothing_back_all_the_same(previous: Receipt | None) -> None:
    assert opened(LAST, previous, may_skip=True) == LAST
    failed = replace(LAST, state=int(JobState.FAILED))
    assert refused(failed, previous, may_skip=True) == "OUT_OF_ORDER", "what it repeats did not come"
    assert refused(replace(LAST, sequence=0), previous, may_skip=True) == "OUT_OF_ORDER"
    if previous is not None:
        assert refused(previous, previous, may_skip=True) == "REPLAYED"
        assert refused(replace(LAST, prompt_tokens=30, cost_micros=9), previous, may_skip=True) == "PROMPT_WENT_BACK"


def test_a_failed_job_owes_what_the_receipt_before_said() -> None:
    writer = ReceiptWriter(TERMS, chain_of(TERMS))
    writer.chain.add_text("Red", 1)
    first = writer.write(JobState.RUNNING, prompt_tokens=31, time_to_first_token_ms=0, now=NOW)
    # A first piece within a millisecond is still a first piece.
    assert first.time_to_first_token_ms == 1
    writer.chain.add_text(" green", 2)
    failed = writer.write(JobState.FAILED, prompt_tokens=31, time_to_first_token_ms=5, now=NOW - 5)
    check_successor(failed, first)
    assert (failed.cost_micros, failed.output_hash, failed.sequence) == (first.cost_micros, first.output_hash, 2)
    with pytest.raises(UsageError):
        writer.write(JobState.FAILED, prompt_tokens=31, time_to_first_token_ms=5, now=NOW)


def test_a_job_that_fails_at_once_owes_nothing() -> None:
    writer = ReceiptWriter(TERMS, chain_of(TERMS))
    writer.chain.add_text("Red", 1)
    failed = writer.write(JobState.FAILED, prompt_tokens=31, time_to_first_token_ms=5, now=NOW)
    assert (failed.cost_micros, failed.prompt_tokens, failed.output_pieces) == (0, 0, 0)
    assert failed.output_hash == chain_of(TERMS).head


@pytest.mark.parametrize("size", [0, 1, 2049])
def test_no_receipt_at_all(size: int) -> None:
    with pytest.raises(ReceiptError) as raised:
        open_sealed(b"\x0a" * size, network=NETWORK)
    assert raised.value.reason == "RECEIPT_MALFORMED"


def test_a_field_out_of_bounds_and_a_digest_that_is_none() -> None:
    for changes in ({"job_id": b"x" * 15}, {"weights_sha256": b"x" * 5}):
        message = to_message(SECOND, NETWORK)
        for name, value in changes.items():
            setattr(message, name, value)
        envelope = seal_envelope(
            HOST,
            domain="hostmesh:testnet:receipt",
            payload_type=b"/hostmesh/receipt",
            payload=message.SerializeToString(),
        )
        with pytest.raises(ReceiptError) as raised:
            open_sealed(envelope, network=NETWORK)
        assert raised.value.reason == "RECEIPT_MALFORMED"


def test_an_envelope_of_another_kind_is_no_receipt() -> None:
    grant = seal_envelope(
        HOST, domain="hostmesh:testnet:session-grant", payload_type=b"/hostmesh/session-grant", payload=b""
    )
    with pytest.raises(ReceiptError) as raised:
        open_sealed(grant, network=NETWORK)
    assert raised.value.reason == "RECEIPT_MALFORMED"


def test_the_host_signs_under_its_own_domain() -> None:
    held = open_envelope(
        seal(SECOND), domain="hostmesh:testnet:receipt", payload_type=b"/hostmesh/receipt", max_bytes=2048
    )
    assert held.peer_id == HOST.peer_id


def test_a_countersignature_is_the_wallets_for_this_receipt_and_network_only() -> None:
    signature = countersign(WALLET, signed(SECOND))
    assert recover_signer(SECOND, signature, NETWORK) == WALLET.address_bytes
    signer = WALLET.address_bytes
    verify_countersignature(SECOND, signature, network=NETWORK, signer=signer)
    for receipt, network, bad, whose in (
        (FIRST, NETWORK, signature, signer),
        (SECOND, "testnet-2", signature, signer),
        (SECOND, NETWORK, countersign(make_wallet("other"), signed(SECOND)), signer),
        (SECOND, NETWORK, signature, make_wallet("other").address_bytes),
        (SECOND, NETWORK, b"", signer),
        (SECOND, NETWORK, signature[:64] + b"\x00", signer),
        (SECOND, NETWORK, bytes(64) + b"\x1b", signer),
    ):
        with pytest.raises(ReceiptError) as raised:
            verify_countersignature(receipt, bad, network=network, signer=whose)
        assert raised.value.reason == "BAD_COUNTERSIGNATURE"


def test_terms_of_a_quote() -> None:
    quote = job_pb2.Quote(
        price_micros_per_mtok=7, max_output_tokens=8, context_tokens=9, weights_sha256=b"w" * 32, currency="USD"
    )
    terms = JobTerms.of_quote(TERMS.session, b"k" * 16, quote)
    assert (terms.price_micros_per_mtok, terms.max_output_tokens, terms.context_tokens) == (7, 8, 9)
    assert (terms.weights_sha256, terms.tokenizer_sha256) == (b"w" * 32, NO_DIGEST)
    assert terms.job_id == b"k" * 16
