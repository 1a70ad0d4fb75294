"""One receipt: sealed by the host's peer key, checked by whoever reads it, countersigned by the client. Pure.

Both sides sign the same values: the host's peer key an envelope around the protobuf message, the client's key the
EIP-712 struct. Spec: docs/protocols/receipt.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from hostmesh.errors import BadSignatureError, RemoteProtocolError, UsageError
from hostmesh.identity.structs import NO_DIGEST, Receipt
from hostmesh.identity.typed_data import TypedStruct, recover_signer
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.terms import JobTerms
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.wire.bounds import parse

PAYLOAD_TYPE = b"/hostmesh/receipt"
MAX_RECEIPT_BYTES = 2048
"""Most bytes of a sealed receipt; the bound of RunResponse.receipt."""
SKEW_TOLERANCE_S = 30
"""How far host and client clocks may be apart, as for quotes and grants."""


class JobState(IntEnum):
    """Where a job stood when its receipt was issued; the numbers of receipt.proto."""

    RUNNING = 1
    SUCCEEDED = 2
    CANCELLED = 3
    FAILED = 4
    """By the host's fault: nothing more is billed."""
    EXPIRED = 5
    """Its time was over."""

    @property
    def is_final(self) -> bool:
        """No receipt follows."""
        return self is not JobState.RUNNING


class Signer(Protocol):
    """A key that countersigns (:class:`hostmesh.identity.wallet.Wallet`): a wallet's, or a session key."""

    def sign(self, struct: TypedStruct, network: str) -> bytes:
        """Return r, s, v: 65 bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt whose envelope verified."""

    network: str
    receipt: Receipt
    envelope: bytes = field(repr=False)
    """The signed bytes, as they came."""

    @property
    def state(self) -> JobState:
        """Where the job stood."""
        return JobState(self.receipt.state)


def receipt_domain(network: str) -> str:
    """Return the domain string under which a network's receipts are signed."""
    return f"hostmesh:{network}:receipt"


def to_message(receipt: Receipt, network: str) -> pb.Receipt:
    """Return the message that carries a receipt."""
    values: dict[str, Any] = {name: getattr(receipt, name) for name in _PLAIN}
    values |= {name: _said(getattr(receipt, name)) for name in _DIGESTS}
    return pb.Receipt(network=network, **values)


def to_struct(message: pb.Receipt) -> Receipt:
    """Return what the client signs of a message that is within its bounds.

    Raises:
        UsageError: a field that the struct cannot hold, such as a digest of 5 bytes.
    """
    values: dict[str, Any] = {name: getattr(message, name) for name in _PLAIN}
    values |= {name: getattr(message, name) or NO_DIGEST for name in _DIGESTS}
    return Receipt(**values)


def seal_receipt(key: PeerKey, receipt: Receipt, *, network: str) -> bytes:
    """Return the envelope of a receipt that this host issues.

    Cost: one Ed25519 signature.
    """
    return seal_envelope(
        key,
        domain=receipt_domain(network),
        payload_type=PAYLOAD_TYPE,
        payload=to_message(receipt, network).SerializeToString(),
    )


def open_sealed(envelope: bytes, *, network: str) -> SignedReceipt:
    """Return what a host signed, whether it makes sense or not: a receipt that does not is a proof against it.

    Raises:
        ReceiptError: RECEIPT_MALFORMED, BAD_SIGNATURE, WRONG_SIGNER or WRONG_NETWORK.
    """
    try:
        opened = open_envelope(
            envelope, domain=receipt_domain(network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_RECEIPT_BYTES
        )
        message = parse(pb.Receipt, opened.payload, MAX_RECEIPT_BYTES)
        receipt = to_struct(message)
    except BadSignatureError as error:
        raise fault(
            ReceiptFault.BAD_SIGNATURE, "the receipt's signature does not verify, or is for another network"
        ) from error
    except (RemoteProtocolError, UsageError) as error:
        raise fault(ReceiptFault.RECEIPT_MALFORMED, f"the receipt is malformed: {error.message}") from error
    if receipt.host_peer_id != peer_id_to_bytes(opened.peer_id):
        raise fault(ReceiptFault.WRONG_SIGNER, "another peer than the host that it names signed the receipt")
    if message.network != network:
        raise fault(ReceiptFault.WRONG_NETWORK, "the receipt is of another network")
    return SignedReceipt(network=network, receipt=receipt, envelope=envelope)


def check_sound(receipt: Receipt) -> None:
    """Check that a receipt does not contradict itself.

    Raises:
        ReceiptError: OUT_OF_ORDER, WRONG_STATE, WRONG_COST or WRONG_FIRST_PIECE.
    """
    if receipt.sequence < 1:
        raise fault(ReceiptFault.OUT_OF_ORDER, "sequences begin with 1")
    if receipt.state not in _STATES:
        raise fault(ReceiptFault.WRONG_STATE, f"there is no job state {receipt.state}")
    tokens = receipt.prompt_tokens + receipt.completion_tokens
    if receipt.cost_micros != cost_micros(tokens, receipt.price_micros_per_mtok):
        raise fault(ReceiptFault.WRONG_COST, "the cost is not tokens times price")
    if (receipt.output_pieces > 0) is not (receipt.time_to_first_token_ms > 0):
        raise fault(ReceiptFault.WRONG_FIRST_PIECE, "the time to the first piece goes with the first piece")


def check_terms(receipt: Receipt, terms: JobTerms) -> None:
    """Check that a receipt repeats what was agreed, field by field.

    Raises:
        ReceiptError: WRONG_AUTHORIZATION, WRONG_SESSION, WRONG_JOB, WRONG_CLIENT, WRONG_OPERATOR, WRONG_CLIENT_PEER,
            WRONG_HOST, WRONG_MODEL, WRONG_PRICE, WRONG_CURRENCY, WRONG_WEIGHTS, WRONG_TOKENIZER or
            WRONG_CHAT_TEMPLATE.
    """
    session = terms.session
    authorization = session.authorization
    for reason, is_right, what in (
        (ReceiptFault.WRONG_HOST, receipt.host_peer_id == authorization.host_peer_id, "host"),
        (ReceiptFault.WRONG_CLIENT_PEER, receipt.client_peer_id == authorization.client_peer_id, "client peer"),
        (ReceiptFault.WRONG_CLIENT, receipt.client == authorization.client, "client wallet"),
        (ReceiptFault.WRONG_OPERATOR, receipt.operator == authorization.operator, "operator"),
        (ReceiptFault.WRONG_SESSION, receipt.session_id == session.session_id, "session"),
        (ReceiptFault.WRONG_JOB, receipt.job_id == terms.job_id, "job"),
        (
            ReceiptFault.WRONG_AUTHORIZATION,
            receipt.authorization_digest == session.authorization_digest,
            "authorisation",
        ),
        (ReceiptFault.WRONG_MODEL, receipt.model_id == authorization.model_id, "model"),
        (ReceiptFault.WRONG_PRICE, receipt.price_micros_per_mtok == terms.price_micros_per_mtok, "price"),
        (ReceiptFault.WRONG_CURRENCY, receipt.currency == authorization.currency, "currency"),
        (ReceiptFault.WRONG_WEIGHTS, receipt.weights_sha256 == terms.weights_sha256, "digest of the weights"),
        (ReceiptFault.WRONG_TOKENIZER, receipt.tokenizer_sha256 == terms.tokenizer_sha256, "digest of the tokenizer"),
        (
            ReceiptFault.WRONG_CHAT_TEMPLATE,
            receipt.chat_template_sha256 == terms.chat_template_sha256,
            "digest of the chat template",
        ),
    ):
        if not is_right:
            raise fault(reason, f"the receipt names another {what} than was agreed")
    if receipt.issued_at_unix_s < authorization.issued_at_unix_s - SKEW_TOLERANCE_S:
        raise fault(ReceiptFault.WRONG_TIME, "the receipt was issued before its session")


def check_successor(receipt: Receipt, previous: Receipt | None, *, may_skip: bool = False) -> None:
    """Check that a receipt may follow another of the same job.

    Args:
        receipt: the next one.
        previous: the one before; None = this is the first.
        may_skip: those between the two may be missing, but of a job that failed, which repeats the one before.

    Raises:
        ReceiptError: REPLAYED, EQUIVOCATION, OUT_OF_ORDER, AFTER_END, PROMPT_WENT_BACK, COMPLETION_WENT_BACK,
            PIECES_WENT_BACK, OUTPUT_REWRITTEN, WRONG_FIRST_PIECE, WRONG_TIME or FAILED_BILLED.
    """
    if previous is not None and receipt.sequence == previous.sequence and receipt != previous:
        raise fault(ReceiptFault.EQUIVOCATION, f"two receipts {receipt.sequence} of the job differ")
    due = 1 if previous is None else previous.sequence + 1
    is_skip = receipt.sequence > due and may_skip and receipt.state != JobState.FAILED
    if receipt.sequence != due and not is_skip:
        reason = ReceiptFault.REPLAYED if receipt.sequence < due else ReceiptFault.OUT_OF_ORDER
        raise fault(reason, f"receipt {receipt.sequence} came where {due} was due")
    if receipt.state == JobState.FAILED and _progress(receipt) != _progress(previous):
        raise fault(ReceiptFault.FAILED_BILLED, "a job that failed claims more than before")
    if previous is not None:
        _check_growth(receipt, previous)


def check_later(later: Receipt, earlier: Receipt) -> None:
    """Check that of two receipts of one job the later one takes nothing back, whatever came between.

    Raises:
        ReceiptError: as :func:`check_successor`, but for OUT_OF_ORDER.
    """
    if later.sequence <= earlier.sequence + 1:
        check_successor(later, earlier)
    else:
        _check_growth(later, earlier)


def open_receipt(
    envelope: bytes, terms: JobTerms, *, previous: Receipt | None, now: float, may_skip: bool = False
) -> SignedReceipt:
    """Check the next receipt of a job, as it came from the host.

    Args:
        envelope: as it came.
        terms: what was agreed.
        previous: the receipt before it; None = none yet.
        now: unix seconds.
        may_skip: see :func:`check_successor`.

    Raises:
        ReceiptError: see :func:`open_sealed`, :func:`check_sound`, :func:`check_terms` and :func:`check_successor`;
            WRONG_TIME also for a receipt of more than 30 s ahead.

    Cost: one Ed25519 verification; measured in docs/protocols/receipt.md.
    """
    signed = open_sealed(envelope, network=terms.session.network)
    check_terms(signed.receipt, terms)
    check_sound(signed.receipt)
    check_successor(signed.receipt, previous, may_skip=may_skip)
    if signed.receipt.issued_at_unix_s > now + SKEW_TOLERANCE_S:
        raise fault(
            ReceiptFault.WRONG_TIME, "the receipt is issued in the future", remedy="Compare both machines' clocks."
        )
    return signed


def countersign(signer: Signer, signed: SignedReceipt) -> bytes:
    """Return the client's signature of a receipt that it audited.

    Args:
        signer: the key that signed the session's authorisation.
        signed: opened by :func:`open_receipt`.

    Returns:
        65 bytes.

    Cost: one secp256k1 signature and about thirty hashes.
    """
    return signer.sign(signed.receipt, signed.network)


def verify_countersignature(receipt: Receipt, signature: bytes, *, network: str, signer: bytes) -> None:
    """Check that the client countersigned a receipt.

    Args:
        receipt: what the host issued.
        signature: 65 bytes, as it came.
        network: ours.
        signer: the address that signed the session's authorisation, 20 bytes.

    Raises:
        ReceiptError: BAD_COUNTERSIGNATURE.
    """
    try:
        found = recover_signer(receipt, signature, network)
    except BadSignatureError as error:
        raise fault(ReceiptFault.BAD_COUNTERSIGNATURE, f"no countersignature: {error.message}") from error
    if found != signer:
        raise fault(
            ReceiptFault.BAD_COUNTERSIGNATURE,
            "not countersigned by the key that signed the session's authorisation, or another receipt was",
        )


def _check_growth(later: Receipt, earlier: Receipt) -> None:
    if earlier.state != JobState.RUNNING:
        raise fault(ReceiptFault.AFTER_END, "the job had ended with the receipt before")
    # Price and formula are checked: with its tokens, the cost cannot go back either.
    for reason, now, before, what in (
        (ReceiptFault.PROMPT_WENT_BACK, later.prompt_tokens, earlier.prompt_tokens, "prompt tokens"),
        (ReceiptFault.COMPLETION_WENT_BACK, later.completion_tokens, earlier.completion_tokens, "completion tokens"),
        (ReceiptFault.PIECES_WENT_BACK, later.output_pieces, earlier.output_pieces, "pieces"),
    ):
        if now < before:
            raise fault(reason, f"the {what} went back from {before} to {now}")
    if (later.output_pieces == earlier.output_pieces) is not (later.output_hash == earlier.output_hash):
        raise fault(ReceiptFault.OUTPUT_REWRITTEN, "the hash of the answer changed without its pieces, or the reverse")
    if earlier.output_pieces and later.time_to_first_token_ms != earlier.time_to_first_token_ms:
        raise fault(ReceiptFault.WRONG_FIRST_PIECE, "the time to the first piece changed")
    if later.issued_at_unix_s < earlier.issued_at_unix_s:
        raise fault(ReceiptFault.WRONG_TIME, "the receipt is older than the one before it")


def _progress(receipt: Receipt | None) -> tuple[int, int, int]:
    if receipt is None:
        return 0, 0, 0
    return receipt.prompt_tokens, receipt.completion_tokens, receipt.output_pieces


def _said(digest: bytes) -> bytes:
    return b"" if digest == NO_DIGEST else digest


_STATES = frozenset(JobState)
_DIGESTS = ("weights_sha256", "tokenizer_sha256", "chat_template_sha256")
"""Empty on the wire, zeros in the struct, where they were not said."""
_PLAIN = tuple(attribute for _, _, attribute in Receipt.FIELDS if attribute not in _DIGESTS)
