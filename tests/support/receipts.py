"""A job with receipts: two parties, what they agreed, and the host's word at any step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hostmesh.identity.delegation import digest_of_delegation, sign_delegation
from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.net.envelope import seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle, SessionPapers
from hostmesh.receipts.chain import OutputChain, input_sha256
from hostmesh.receipts.quote import quote_domain
from hostmesh.receipts.receipt import JobState, SignedReceipt, countersign, open_sealed, seal_receipt
from hostmesh.receipts.terms import JobTerms, SessionTerms
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.grant import seal_grant
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


# --- papers ---


def papers(
    *, delegated: bool = False, delegation_changes: dict[str, Any] | None = None, **changes: Any
) -> tuple[SessionTerms, SessionPapers]:
    """A session and everything that was signed to open it; with a delegation, a session key signed."""
    session_key = make_wallet("session key")
    delegation = b""
    signer: Any = WALLET
    if delegated:
        terms_of: dict[str, Any] = {
            "model_ids": ["smollm2-135m-instruct"],
            "host_caps": {HOST.peer_id: 15},
            "currency": "USD",
            "now": NOW - 120,
        }
        message = sign_delegation(
            WALLET,
            session_key.address_bytes,
            network=NETWORK,
            nonce=b"d" * 32,
            **(terms_of | (delegation_changes or {})),
        )
        delegation, signer = message.SerializeToString(), session_key
        changes["delegation_digest"] = digest_of_delegation(message, NETWORK)
    session_id = changes.pop("session_id", b"s" * 16)
    terms = authorization(**changes)
    session = SessionTerms(network=NETWORK, session_id=session_id, authorization=terms, signer=signer.address_bytes)
    return session, SessionPapers(
        network=NETWORK,
        authorization=message_from_terms(terms, signer.sign(terms, NETWORK)).SerializeToString(),
        grant=seal_grant(HOST, terms, network=NETWORK, session_id=session_id, now=NOW - 59),
        delegation=delegation,
    )


def quote(job_id: bytes = b"j" * 16, **changes: Any) -> bytes:
    """The host's quote that :func:`job_terms` come from."""
    values: dict[str, Any] = {
        "network": NETWORK,
        "quote_id": job_id,
        "client_peer_id": peer_id_to_bytes(CLIENT.peer_id),
        "host_peer_id": peer_id_to_bytes(HOST.peer_id),
        "model_id": "smollm2-135m-instruct",
        "price_micros_per_mtok": PRICE,
        "currency": "USD",
        "max_output_tokens": 256,
        "context_tokens": 2_048,
        "issued_at_unix_s": NOW - 30,
        "expires_at_unix_s": NOW + 30,
        "weights_sha256": b"w" * 32,
        "tokenizer_sha256": b"t" * 32,
        "chat_template_sha256": b"c" * 32,
    } | changes
    key = values.pop("key", HOST)
    message = job_pb2.Quote(**values)
    return seal_envelope(
        key, domain=quote_domain(NETWORK), payload_type=b"/hostmesh/quote", payload=message.SerializeToString()
    )


def bundle(job_ids: Sequence[bytes] = (b"j" * 16,), *, delegated: bool = False, **changes: Any) -> SessionBundle:
    """A session with honest jobs, every receipt countersigned."""
    session, session_papers = papers(delegated=delegated, **changes)
    signer = make_wallet("session key") if delegated else WALLET
    return SessionBundle(
        session=session_papers,
        jobs=tuple(
            JobPapers(
                job_id=job_id,
                quote=quote(job_id),
                receipts=tuple(
                    ReceiptPapers(envelope=seal(receipt), countersignature=countersign(signer, signed(receipt)))
                    for receipt in write_receipts(job_terms(job_id, session))
                ),
            )
            for job_id in job_ids
        ),
    )
