"""Proofs that a host lied, made of what it signed itself; anybody can verify one. Pure.

A proof is one receipt that contradicts itself, the quote that names its job, or the answer that its own hash chain
holds; or two receipts of one job of which at most one can hold. Since the transcript must hash to what the host signed,
a client cannot make one up. What nobody can prove is what was delivered: a chain over something else than what came is
refused, and that is all.

A client's lie, to deny a receipt that it countersigned, is proved by the countersignature: see
:func:`hostmesh.receipts.receipt.verify_countersignature` and :mod:`hostmesh.receipts.bundle`.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from hostmesh.errors import MalformedMessageError, ReceiptError, RemoteProtocolError, UsageError
from hostmesh.identity.structs import NO_DIGEST, Receipt
from hostmesh.json_text import parse_json
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.receipts.chain import JobInput, input_sha256
from hostmesh.receipts.counting import TokenCounter, check_completion, check_prompt, fitting
from hostmesh.receipts.quote import read_quote
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.receipt import check_later, check_sound, open_sealed
from hostmesh.receipts.transcript import DeliveredPiece, OutputTranscript
from hostmesh.v1 import job_pb2
from hostmesh.wire.bounds import parse

MAX_PROOF_CHARS = 64 * 1024 * 1024
"""Longest JSON that is read: the largest answer that a client keeps, and its prompt, in base64."""
MAX_INPUT_BYTES = 1_048_576
_VERSION = 1
_CONSTANT = (
    "authorization_digest",
    "client",
    "operator",
    "client_peer_id",
    "model_id",
    "weights_sha256",
    "tokenizer_sha256",
    "chat_template_sha256",
    "price_micros_per_mtok",
    "currency",
)
"""What all receipts of a job repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LieProof:
    """Material against a host; it proves nothing until :func:`verify_proof` says so."""

    network: str
    receipts: tuple[bytes, ...]
    """Envelopes that the host signed: one, or two of one job."""
    transcript: OutputTranscript | None = None
    """Of the (first) receipt: what its hash chain is over."""
    quote: bytes = b""
    """The envelope of the quote that the job ran under; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenLie:
    """What a proof showed."""

    host: PeerId
    """Whose key signed it."""
    session_id: bytes
    job_id: bytes
    reason: ReceiptFault
    detail: str


def verify_proof(proof: LieProof, *, counter: TokenCounter | None = None) -> ProvenLie:
    """Verify that a host signed a lie.

    Args:
        proof: from anybody.
        counter: the tokenizer of the quoted digest, where a recount is to prove something.

    Raises:
        ReceiptError: NOT_PROVED, or what is wrong with an envelope (RECEIPT_MALFORMED, BAD_SIGNATURE, ...).

    Cost: one Ed25519 verification a receipt, and a hash a piece.
    """
    opened = [open_sealed(envelope, network=proof.network).receipt for envelope in proof.receipts]
    if not 1 <= len(opened) <= 2:
        raise fault(ReceiptFault.NOT_PROVED, "a proof has one receipt or two")
    first, last = opened[0], opened[-1]
    try:
        if len(opened) == 2:
            _check_pair(first, last)
        else:
            check_sound(first)
            if proof.quote:
                _check_quote(first, proof.quote, proof.network)
            if proof.transcript is not None:
                _check_transcript(first, proof.transcript, counter)
    except ReceiptError as error:
        if error.reason == ReceiptFault.NOT_PROVED:
            raise
        return ProvenLie(
            host=peer_id_from_bytes(first.host_peer_id),
            session_id=first.session_id,
            job_id=first.job_id,
            reason=ReceiptFault(error.reason),
            detail=error.message,
        )
    raise fault(ReceiptFault.NOT_PROVED, "nothing here contradicts anything else")


def _check_pair(one: Receipt, other: Receipt) -> None:
    earlier, later = sorted((one, other), key=lambda receipt: receipt.sequence)
    for name in ("host_peer_id", "session_id", "job_id"):
        if getattr(earlier, name) != getattr(later, name):
            raise fault(ReceiptFault.NOT_PROVED, "the two receipts are not of one job")
    if earlier == later:
        raise fault(ReceiptFault.NOT_PROVED, "the two receipts are the same")
    for name in _CONSTANT:
        if getattr(earlier, name) != getattr(later, name):
            raise fault(ReceiptFault.EQUIVOCATION, f"two receipts of the job differ in {name}")
    check_later(later, earlier)


def _check_quote(receipt: Receipt, envelope: bytes, network: str) -> None:
    """Hold a receipt against the quote of its job, both signed by one key."""
    try:
        signer, quote = read_quote(envelope, network=network)
    except RemoteProtocolError as error:
        raise fault(ReceiptFault.NOT_PROVED, f"no quote: {error.message}") from error
    if quote.quote_id != receipt.job_id or peer_id_to_bytes(signer) != receipt.host_peer_id:
        raise fault(ReceiptFault.NOT_PROVED, "the quote is of another job")
    for reason, quoted, claimed in (
        (ReceiptFault.WRONG_CLIENT_PEER, quote.client_peer_id, receipt.client_peer_id),
        (ReceiptFault.WRONG_MODEL, quote.model_id, receipt.model_id),
        (ReceiptFault.WRONG_PRICE, quote.price_micros_per_mtok, receipt.price_micros_per_mtok),
        (ReceiptFault.WRONG_CURRENCY, quote.currency, receipt.currency),
        (ReceiptFault.WRONG_WEIGHTS, quote.weights_sha256 or NO_DIGEST, receipt.weights_sha256),
        (ReceiptFault.WRONG_TOKENIZER, quote.tokenizer_sha256 or NO_DIGEST, receipt.tokenizer_sha256),
        (ReceiptFault.WRONG_CHAT_TEMPLATE, quote.chat_template_sha256 or NO_DIGEST, receipt.chat_template_sha256),
    ):
        if quoted != claimed:
            raise fault(reason, "the receipt says something else than the quote")
    if receipt.completion_tokens > quote.max_output_tokens:
        raise fault(ReceiptFault.OVER_QUOTE, "more completion tokens than were quoted")


def _check_transcript(receipt: Receipt, transcript: OutputTranscript, counter: TokenCounter | None) -> None:
    try:
        chain = transcript.chain(session_id=receipt.session_id, job_id=receipt.job_id)
    except UsageError as error:
        raise fault(ReceiptFault.NOT_PROVED, f"no transcript: {error.message}") from error
    except ReceiptError as error:
        # A host that signed such a chain broke the protocol, but its hash was not compared: nothing is shown.
        raise fault(ReceiptFault.NOT_PROVED, f"no chain of the protocol: {error.message}") from error
    if chain.head != receipt.output_hash:
        raise fault(ReceiptFault.NOT_PROVED, "the transcript is not the one that the host signed")
    check_claims(receipt, transcript, counter)


def check_claims(receipt: Receipt, transcript: OutputTranscript, counter: TokenCounter | None) -> None:
    """Hold a receipt's numbers against a transcript that hashes to its ``output_hash``.

    Raises:
        ReceiptError: WRONG_PIECES, WRONG_COMPLETION, COMPLETION_OVER_BYTES, COMPLETION_OVER_COUNT, PROMPT_OVER_BYTES
            or PROMPT_OVER_COUNT.
    """
    pieces = transcript.pieces
    if receipt.output_pieces != len(pieces):
        raise fault(ReceiptFault.WRONG_PIECES, f"{receipt.output_pieces} pieces claimed, the chain has {len(pieces)}")
    delivered = pieces[-1].completion_tokens if pieces else 0
    if receipt.completion_tokens != delivered:
        raise fault(
            ReceiptFault.WRONG_COMPLETION, f"{receipt.completion_tokens} tokens claimed, the chain has {delivered}"
        )
    fit = fitting(counter, receipt.tokenizer_sha256)
    # Vectors come with no tokens; their bytes are no text.
    if delivered:
        check_completion(receipt.completion_tokens, transcript.answer, fit)
    if transcript.job_input is not None and input_sha256(transcript.job_input) == transcript.input_sha256:
        check_prompt(receipt.prompt_tokens, transcript.job_input, fit)


# --- as JSON ---


def proof_to_json(proof: LieProof) -> str:
    """Return a proof as one line of JSON. It discloses what its transcript holds."""
    document: dict[str, Any] = {
        "version": _VERSION,
        "network": proof.network,
        "receipts": [_encode(envelope) for envelope in proof.receipts],
    }
    if proof.quote:
        document["quote"] = _encode(proof.quote)
    transcript = proof.transcript
    if transcript is not None:
        document["transcript"] = {
            "salt": _encode(transcript.salt),
            "input_sha256": _encode(transcript.input_sha256),
            "pieces": [[piece.completion_tokens, _encode(piece.data)] for piece in transcript.pieces],
        }
        if transcript.job_input is not None:
            kind = "chat" if isinstance(transcript.job_input, job_pb2.ChatInput) else "embedding"
            document["transcript"][kind] = _encode(transcript.job_input.SerializeToString(deterministic=True))
    return json.dumps(document)


def proof_from_json(text: str) -> LieProof:
    """Return the proof in a JSON text; it is not verified.

    Raises:
        ReceiptError: NOT_PROVED: no proof of a version that this program knows, or too long.
    """
    if len(text) > MAX_PROOF_CHARS:
        raise fault(ReceiptFault.NOT_PROVED, f"a proof has at most {MAX_PROOF_CHARS} characters")
    try:
        return _read_proof(parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError, MalformedMessageError) as error:
        raise fault(ReceiptFault.NOT_PROVED, "no proof that can be read") from error


def _read_proof(document: Any) -> LieProof:
    if document["version"] != _VERSION or not isinstance(document["network"], str):
        raise ValueError("another version")
    envelopes = tuple(_decode(each) for each in document["receipts"])
    return LieProof(
        network=document["network"],
        receipts=envelopes,
        transcript=_read_transcript(document.get("transcript")),
        quote=_decode(document.get("quote", "")),
    )


def _read_transcript(document: Any) -> OutputTranscript | None:
    if document is None:
        return None
    pieces = []
    for tokens, data in document["pieces"]:
        if type(tokens) is not int or not 0 <= tokens < 2**64:
            raise ValueError("no token count")
        pieces.append(DeliveredPiece(completion_tokens=tokens, data=_decode(data)))
    job_input: JobInput | None = None
    if "chat" in document:
        job_input = parse(job_pb2.ChatInput, _decode(document["chat"]), MAX_INPUT_BYTES)
    elif "embedding" in document:
        job_input = parse(job_pb2.EmbeddingInput, _decode(document["embedding"]), MAX_INPUT_BYTES)
    return OutputTranscript(
        salt=_decode(document["salt"]),
        input_sha256=_decode(document["input_sha256"]),
        pieces=tuple(pieces),
        job_input=job_input,
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("no base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
