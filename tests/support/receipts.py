"""A job with receipts: two parties, what they agreed, and the host's word at any step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.chain import OutputChain, input_sha256
from hostmesh.receipts.receipt import JobState, SignedReceipt, open_sealed, seal_receipt
from hostmesh.receipts.terms import JobTerms, SessionTerms
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.testing import make_peer_key, make_wallet
from hostmesh.v1 import job_pb2

NETWORK = "testnet"
NOW = 1_700_000_000
HOST, CLIENT = make_peer_key("host"), make_peer_key("client")
WALLET, OPERATOR = make_wallet("client"), make_wallet("operator")
SALT = bytes(range(16))
PRICE = 250_000
"""A quarter of a micro-unit a token."""
INPUT = job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="Name three colours.")])
PIECES = (("Red,", 2), (" green", 3), (" and blue.", 6))


def authorization(**changes: Any) -> SessionAuthorization:
    """What the client signed; each call the same."""
    terms = SessionAuthorization(
        client=WALLET.address_bytes,
        operator=OPERATOR.address_bytes,
        client_peer_id=peer_id_to_bytes(CLIENT.peer_id),
        host_peer_id=peer_id_to_bytes(HOST.peer_id),
        nonce=b"n" * 32,
        model_id="smollm2-135m-instruct",
        max_price_micros_per_mtok=PRICE,
        currency="USD",
        spending_limit_micros=1_000,
        issued_at_unix_s=NOW - 60,
        expires_at_unix_s=NOW + 3_600,
        slice_micros=100,
    )
    return replace(terms, **changes)


def session_terms(session_id: bytes = b"s" * 16, **changes: Any) -> SessionTerms:
    return SessionTerms(
        network=NETWORK, session_id=session_id, authorization=authorization(**changes), signer=WALLET.address_bytes
    )


def job_terms(job_id: bytes = b"j" * 16, session: SessionTerms | None = None, **changes: Any) -> JobTerms:
    terms = JobTerms(
        session=session or session_terms(),
        job_id=job_id,
        price_micros_per_mtok=PRICE,
        max_output_tokens=256,
        context_tokens=2_048,
        weights_sha256=b"w" * 32,
        tokenizer_sha256=b"t" * 32,
        chat_template_sha256=b"c" * 32,
    )
    return replace(terms, **changes)


def chain_of(terms: JobTerms, *, salt: bytes = SALT, job_input: job_pb2.ChatInput = INPUT) -> OutputChain:
    return OutputChain(
        salt=salt, session_id=terms.session.session_id, job_id=terms.job_id, input_sha256=input_sha256(job_input)
    )


def write_receipts(
    terms: JobTerms, pieces: Sequence[tuple[str, int]] = PIECES, *, prompt_tokens: int = 31
) -> list[Receipt]:
    """An honest host's receipts: one before the answer, one after each piece, and the last."""
    writer = ReceiptWriter(terms, chain_of(terms))

    def write(state: JobState, seconds: int) -> Receipt:
        return writer.write(state, prompt_tokens=prompt_tokens, time_to_first_token_ms=40, now=NOW + seconds)

    receipts = [write(JobState.RUNNING, 0)]
    for text, tokens in pieces:
        writer.chain.add_text(text, tokens)
        receipts.append(write(JobState.RUNNING, len(receipts)))
    return [*receipts, write(JobState.SUCCEEDED, len(receipts))]


def seal(receipt: Receipt, *, key: Any = HOST, network: str = NETWORK) -> bytes:
    return seal_receipt(key, receipt, network=network)


def signed(receipt: Receipt) -> SignedReceipt:
    return open_sealed(seal(receipt), network=NETWORK)
