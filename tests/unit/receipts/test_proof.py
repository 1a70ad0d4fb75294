"""What two receipts of one job show, and what shows nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.receipts import HOST, INPUT, NETWORK, PIECES, SALT, job_terms, quote, seal, write_receipts

from hostmesh.errors import ReceiptError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.chain import JobInput, input_sha256
from hostmesh.receipts.proof import LieProof, proof_from_json, proof_to_json, verify_proof
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.transcript import DeliveredPiece, OutputTranscript
from hostmesh.testing import make_peer_key
from hostmesh.v1 import job_pb2

TERMS = job_terms()
FIRST, SECOND, THIRD, FOURTH, LAST = write_receipts(TERMS)
TRANSCRIPT = OutputTranscript(
    salt=SALT,
    input_sha256=input_sha256(INPUT),
    pieces=tuple(DeliveredPiece(completion_tokens=tokens, data=text.encode()) for text, tokens in PIECES),
    job_input=INPUT,
)


def pair(one: Receipt, other: Receipt, *, key: Any = HOST) -> LieProof:
    return LieProof(network=NETWORK, receipts=(seal(one), seal(other, key=key)))


def reason_of(proof: LieProof) -> str:
    lie = verify_proof(proof_from_json(proof_to_json(proof)))
    assert lie.detail
    return lie.reason


def not_proved(proof: LieProof) -> str:
    with pytest.raises(ReceiptError) as raised:
        verify_proof(proof)
    assert raised.value.message
    return raised.value.reason


@pytest.mark.parametrize(
    ("reason", "one", "other"),
    [
        ("EQUIVOCATION", SECOND, replace(SECOND, output_hash=b"x" * 32)),
        ("EQUIVOCATION", SECOND, replace(FOURTH, price_micros_per_mtok=1, cost_micros=1)),
        ("EQUIVOCATION", FIRST, replace(SECOND, weights_sha256=b"x" * 32)),
        ("COMPLETION_WENT_BACK", FOURTH, replace(LAST, completion_tokens=5)),
        ("PROMPT_WENT_BACK", SECOND, replace(LAST, prompt_tokens=30)),
        ("PIECES_WENT_BACK", THIRD, replace(LAST, output_pieces=1)),
        ("AFTER_END", LAST, replace(LAST, sequence=9)),
        ("OUTPUT_REWRITTEN", FOURTH, replace(LAST, output_hash=b"x" * 32)),
        ("FAILED_BILLED", THIRD, replace(FOURTH, state=int(JobState.FAILED))),
    ],
)
def test_two_receipts_of_which_one_is_a_lie(reason: str, one: Receipt, other: Receipt) -> None:
    assert reason_of(pair(one, other)) == reason
    # In whichever order they are shown.
    assert reason_of(pair(other, one)) == reason


@pytest.mark.parametrize(
    "proof",
    [
        pair(FIRST, SECOND),
        pair(FIRST, LAST),
        pair(SECOND, SECOND),
        # Of two jobs, and of two sessions.
        pair(SECOND, replace(SECOND, job_id=b"k" * 16, completion_tokens=0)),
        pair(SECOND, replace(SECOND, session_id=b"k" * 16, completion_tokens=0)),
        LieProof(network=NETWORK, receipts=()),
        LieProof(network=NETWORK, receipts=(seal(FIRST), seal(SECOND), seal(THIRD))),
        LieProof(network=NETWORK, receipts=(seal(LAST),)),
        LieProof(network=NETWORK, receipts=(seal(LAST),), transcript=TRANSCRIPT),
        LieProof(network=NETWORK, receipts=(seal(FIRST),), transcript=replace(TRANSCRIPT, pieces=())),
        # All that was quoted, and no more.
        LieProof(network=NETWORK, receipts=(seal(LAST),), quote=quote(max_output_tokens=LAST.completion_tokens)),
        # A client that makes up what came.
        LieProof(network=NETWORK, receipts=(seal(LAST),), transcript=replace(TRANSCRIPT, pieces=TRANSCRIPT.pieces[:2])),
        LieProof(network=NETWORK, receipts=(seal(LAST),), transcript=replace(TRANSCRIPT, salt=b"")),
        LieProof(network=NETWORK, receipts=(seal(LAST),), transcript=replace(TRANSCRIPT, salt=b"short")),
        LieProof(
            network=NETWORK,
            receipts=(seal(LAST),),
            transcript=replace(TRANSCRIPT, pieces=(*TRANSCRIPT.pieces, DeliveredPiece(completion_tokens=9, data=b""))),
        ),
    ],
)
def test_an_honest_host_cannot_be_accused(proof: LieProof) -> None:
    assert not_proved(proof) == "NOT_PROVED"


def test_an_input_that_is_not_the_one_in_the_chain_proves_nothing_about_the_prompt() -> None:
    inflated = replace(LAST, prompt_tokens=1_200, cost_micros=302)
    genuine = LieProof(network=NETWORK, receipts=(seal(inflated),), transcript=TRANSCRIPT)
    assert reason_of(genuine) == "PROMPT_OVER_BYTES"
    short = type(INPUT)()
    made_up = replace(genuine, transcript=replace(TRANSCRIPT, job_input=short))
    assert not_proved(made_up) == "NOT_PROVED"
    assert not_proved(replace(genuine, transcript=replace(TRANSCRIPT, job_input=None))) == "NOT_PROVED"


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("WRONG_PRICE", {"price_micros_per_mtok": 1}),
        ("WRONG_CURRENCY", {"currency": "EUR"}),
        ("WRONG_MODEL", {"model_id": "another"}),
        ("WRONG_CLIENT_PEER", {"client_peer_id": b"x" * 38}),
        ("WRONG_WEIGHTS", {"weights_sha256": b""}),
        ("WRONG_TOKENIZER", {"tokenizer_sha256": b"x" * 32}),
        ("WRONG_CHAT_TEMPLATE", {"chat_template_sha256": b"x" * 32}),
        ("OVER_QUOTE", {"max_output_tokens": 5}),
    ],
)
def test_a_receipt_against_the_quote_of_its_job(reason: str, changes: dict[str, Any]) -> None:
    assert reason_of(LieProof(network=NETWORK, receipts=(seal(LAST),), quote=quote(**changes))) == reason
    # Another job's quote, and one that this host did not sign, show nothing.
    others = quote(b"k" * 16, **changes), quote(key=make_peer_key("other"), **changes), b"no quote", quote()
    for other in others:
        assert not_proved(LieProof(network=NETWORK, receipts=(seal(LAST),), quote=other)) == "NOT_PROVED"


def test_only_what_the_host_signed_counts() -> None:
    other = make_peer_key("other")
    assert not_proved(pair(FIRST, replace(FIRST, prompt_tokens=0), key=other)) == "WRONG_SIGNER"
    elsewhere = LieProof(network="testnet-2", receipts=(seal(SECOND), seal(replace(SECOND, prompt_tokens=1))))
    assert not_proved(elsewhere) == "BAD_SIGNATURE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"version": 2, "network": "testnet", "receipts": []}',
        '{"version": 1, "network": 7, "receipts": []}',
        '{"version": 1, "network": "testnet", "receipts": [7]}',
        '{"version": 1, "network": "testnet", "receipts": ["*"]}',
        '{"version": 1, "network": "testnet", "receipts": [], "transcript": {}}',
        "[" * 100,
    ],
)
def test_text_that_is_no_proof(text: str) -> None:
    with pytest.raises(ReceiptError) as raised:
        proof_from_json(text)
    assert raised.value.reason == "NOT_PROVED"


def test_a_proof_is_as_long_as_the_bound_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    text = proof_to_json(pair(FIRST, SECOND))
    monkeypatch.setattr("hostmesh.receipts.proof.MAX_PROOF_CHARS", len(text))
    assert proof_from_json(text) == pair(FIRST, SECOND)
    with pytest.raises(ReceiptError, match=f"at most {len(text)} characters") as raised:
        proof_from_json(text + " ")
    assert raised.value.reason == "NOT_PROVED"


@pytest.mark.parametrize("tokens", [-1, True, 1.5, 2**64, "1"])
def test_token_counts_that_are_none(tokens: object) -> None:
    document: Any = json.loads(proof_to_json(LieProof(network=NETWORK, receipts=(), transcript=TRANSCRIPT)))
    document["transcript"]["pieces"][0][0] = tokens
    with pytest.raises(ReceiptError):
        proof_from_json(json.dumps(document))


def test_a_proof_says_which_job_of_which_session_was_lied_about() -> None:
    lie = verify_proof(pair(SECOND, replace(SECOND, output_hash=b"x" * 32)))
    assert (lie.host, lie.session_id, lie.job_id) == (HOST.peer_id, b"s" * 16, b"j" * 16)


@pytest.mark.parametrize(
    "job_input", [None, INPUT, job_pb2.EmbeddingInput(texts=["one", "two"])], ids=["no input", "chat", "texts"]
)
def test_json_carries_everything(job_input: JobInput | None) -> None:
    many = (DeliveredPiece(completion_tokens=2**64 - 1, data=bytes(range(256))),)
    transcript = replace(TRANSCRIPT, job_input=job_input, pieces=TRANSCRIPT.pieces + many)
    proof = LieProof(network=NETWORK, receipts=(seal(LAST),), transcript=transcript, quote=quote())
    assert proof_from_json(proof_to_json(proof)) == proof
