"""What is wrong with a receipt, a countersignature, a proof or a bundle: one stable word each. Pure.

The words are part of the protocol (docs/protocols/receipt.md): :class:`~hostmesh.errors.ReceiptError` carries them as
``reason``, and who refuses counts each.
"""

from __future__ import annotations

from enum import StrEnum

from hostmesh.errors import ReceiptError


class ReceiptFault(StrEnum):
    """What was refused."""

    # --- the bytes ---
    RECEIPT_MALFORMED = "RECEIPT_MALFORMED"
    """No envelope with a receipt, or a field outside its bounds."""
    BAD_SIGNATURE = "BAD_SIGNATURE"
    """The envelope does not verify: a changed byte, or signed for another network or purpose."""
    WRONG_SIGNER = "WRONG_SIGNER"
    """Signed by another peer than the host that it names."""

    # --- whom and what it is for ---
    WRONG_NETWORK = "WRONG_NETWORK"
    WRONG_AUTHORIZATION = "WRONG_AUTHORIZATION"
    """The digest of another authorisation."""
    WRONG_SESSION = "WRONG_SESSION"
    WRONG_JOB = "WRONG_JOB"
    WRONG_CLIENT = "WRONG_CLIENT"
    """Another wallet pays."""
    WRONG_OPERATOR = "WRONG_OPERATOR"
    WRONG_CLIENT_PEER = "WRONG_CLIENT_PEER"
    WRONG_HOST = "WRONG_HOST"
    """Names another host peer than the one that the session is with."""
    WRONG_MODEL = "WRONG_MODEL"
    WRONG_WEIGHTS = "WRONG_WEIGHTS"
    """Not the digest that was quoted; so the next two."""
    WRONG_TOKENIZER = "WRONG_TOKENIZER"
    WRONG_CHAT_TEMPLATE = "WRONG_CHAT_TEMPLATE"
    WRONG_PRICE = "WRONG_PRICE"
    WRONG_CURRENCY = "WRONG_CURRENCY"

    # --- what it says of itself ---
    WRONG_COST = "WRONG_COST"
    """Not ``ceil(tokens * price / 1,000,000)``."""
    WRONG_STATE = "WRONG_STATE"
    """No state that is known."""
    WRONG_FIRST_PIECE = "WRONG_FIRST_PIECE"
    """A time to the first piece without a piece, a piece without it, or another one than before."""
    WRONG_TIME = "WRONG_TIME"
    """Issued ahead of our clock, before the authorisation, or before the receipt that precedes it."""

    # --- after the receipt that precedes it ---
    REPLAYED = "REPLAYED"
    """The receipt that precedes it, or an older one, once more."""
    EQUIVOCATION = "EQUIVOCATION"
    """Of the sequence of one that we hold, and saying something else: a proof against its signer."""
    OUT_OF_ORDER = "OUT_OF_ORDER"
    """Its sequence is not the next one."""
    PROMPT_WENT_BACK = "PROMPT_WENT_BACK"
    COMPLETION_WENT_BACK = "COMPLETION_WENT_BACK"
    PIECES_WENT_BACK = "PIECES_WENT_BACK"
    OUTPUT_REWRITTEN = "OUTPUT_REWRITTEN"
    """The same pieces have another hash, or more pieces the same one."""
    AFTER_END = "AFTER_END"
    """The job had ended."""
    FAILED_BILLED = "FAILED_BILLED"
    """A job that the host failed bills or claims more than the receipt before."""

    # --- against what was delivered (the client's audit, and proofs) ---
    PIECE_OUT_OF_ORDER = "PIECE_OUT_OF_ORDER"
    EMPTY_PIECE = "EMPTY_PIECE"
    """A piece without anything in it: tokens are billed with the text that they came with."""
    TOKENS_WENT_BACK = "TOKENS_WENT_BACK"
    """The cumulative count of a piece is below that of the one before."""
    TRANSCRIPT_TOO_LONG = "TRANSCRIPT_TOO_LONG"
    """More text than a job of this size can have."""
    WRONG_PIECES = "WRONG_PIECES"
    """Another number of pieces than came."""
    WRONG_OUTPUT = "WRONG_OUTPUT"
    """The hash chain is not that of what came."""
    WRONG_COMPLETION = "WRONG_COMPLETION"
    """Other completion tokens than the last piece's cumulative count, which is in the hash chain."""
    COMPLETION_OVER_BYTES = "COMPLETION_OVER_BYTES"
    """More completion tokens than the delivered bytes can hold."""
    COMPLETION_OVER_COUNT = "COMPLETION_OVER_COUNT"
    """More completion tokens than the quoted tokenizer makes of the text."""
    PROMPT_OVER_BYTES = "PROMPT_OVER_BYTES"
    PROMPT_OVER_COUNT = "PROMPT_OVER_COUNT"
    OVER_QUOTE = "OVER_QUOTE"
    """More tokens than the quote allows."""

    # --- money ---
    OVER_SLICE = "OVER_SLICE"
    """More at once than may be owed without a countersignature."""
    OVER_LIMIT = "OVER_LIMIT"
    """More than the session's spending limit."""
    SLICE_TOO_SMALL = "SLICE_TOO_SMALL"
    """One step of the work costs more than the slice."""
    TOO_MANY_JOBS = "TOO_MANY_JOBS"
    """Too many jobs of the session are not paid for."""

    # --- countersignatures ---
    BAD_COUNTERSIGNATURE = "BAD_COUNTERSIGNATURE"
    """No signature, or not of whoever signed the session's authorisation."""
    UNKNOWN_RECEIPT = "UNKNOWN_RECEIPT"
    """No receipt of that job and sequence was issued."""

    # --- bundles and proofs ---
    BUNDLE_MALFORMED = "BUNDLE_MALFORMED"
    BAD_AUTHORIZATION = "BAD_AUTHORIZATION"
    """The session's authorisation is not signed by the client or its delegate."""
    BAD_DELEGATION = "BAD_DELEGATION"
    """The delegation is missing, not signed by the owner, or does not cover the session."""
    BAD_GRANT = "BAD_GRANT"
    """The host's grant does not verify or answers another authorisation."""
    BAD_QUOTE = "BAD_QUOTE"
    """The job's quote does not verify, is missing, or is of other parties."""
    NO_SESSION = "NO_SESSION"
    """A line of a file belongs to a session or job that does not precede it."""
    NOT_PROVED = "NOT_PROVED"
    """The material shows no lie."""


def fault(reason: ReceiptFault, message: str, *, remedy: str = "") -> ReceiptError:
    """Return the error for a reason."""
    return ReceiptError(message, reason=reason.value, remedy=remedy)
