"""Quotes on the wire: sealed by the host's peer key, verified by the client. Pure; ``now`` is unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.errors import InvalidAddressError, MalformedMessageError
from hostmesh.jobs.quotes import QuotedTerms
from hostmesh.jobs.reasons import job_refused
from hostmesh.net.envelope import seal_envelope
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.quote import PAYLOAD_TYPE, quote_domain, read_quote
from hostmesh.v1 import job_pb2

QUOTE_ID_BYTES = 16
DIGEST_SIZES = (0, 32)
SKEW_TOLERANCE_S = 30
"""How far host and client clocks may be apart, as for host records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteOffer:
    """A host's verified quote: the price and limits of one job, good until it is used or expires."""

    quote_id: bytes
    peer_id: PeerId
    """The host, whose peer key signed."""
    model_id: str
    price_micros_per_mtok: int
    """Integer micro-units of ``currency`` per 1,000,000 tokens, prompt plus completion; 0 is free."""
    currency: str
    max_output_tokens: int
    """Most tokens of the answer; 0 for embeddings."""
    context_tokens: int
    issued_at_unix_s: int
    expires_at_unix_s: int
    queue_position: int
    """Place in the host's queue when it was made; 0 = a job would have started at once."""
    weights_sha256: bytes = b""
    """Of the file that the job is run with, 32 bytes; empty = not said, as in the next two."""
    tokenizer_sha256: bytes = b""
    chat_template_sha256: bytes = b""
    envelope: bytes = field(repr=False)
    """The signed bytes: proof of what the host offered."""


def seal_quote(
    key: PeerKey, terms: QuotedTerms, *, network: str, issued_at_unix_s: int, lifetime_s: int, queue_position: int
) -> bytes:
    """Return the signed envelope of a quote of this host."""
    quote = job_pb2.Quote(
        network=network,
        quote_id=terms.quote_id,
        client_peer_id=peer_id_to_bytes(terms.peer_id),
        host_peer_id=peer_id_to_bytes(key.peer_id),
        model_id=terms.model_id,
        price_micros_per_mtok=terms.price_micros_per_mtok,
        currency=terms.currency,
        max_output_tokens=terms.max_output_tokens,
        context_tokens=terms.context_tokens,
        issued_at_unix_s=issued_at_unix_s,
        expires_at_unix_s=issued_at_unix_s + lifetime_s,
        queue_position=queue_position,
        weights_sha256=terms.weights_sha256,
        tokenizer_sha256=terms.tokenizer_sha256,
        chat_template_sha256=terms.chat_template_sha256,
    )
    return seal_envelope(
        key, domain=quote_domain(network), payload_type=PAYLOAD_TYPE, payload=quote.SerializeToString()
    )


def open_quote(
    data: bytes,
    *,
    network: str,
    client_peer_id: PeerId,
    host_peer_id: PeerId,
    model_id: str,
    max_output_tokens: int | None,
    max_price_micros_per_mtok: int | None,
    currency: str | None,
    now: float,
) -> QuoteOffer:
    """Verify a quote as it came and return it.

    Args:
        data: the envelope.
        network: ours.
        client_peer_id: us.
        host_peer_id: whom we asked.
        model_id: what we asked for.
        max_output_tokens: what we asked for; None = left to the host.
        max_price_micros_per_mtok: our ceiling, inclusive; None = none.
        currency: in which the ceiling is; None = any.
        now: unix seconds.

    Raises:
        RemoteProtocolError: another signer, network, peer, model or limit than was asked for, or no quote at all.
        JobError: a true quote that we cannot take: ``PRICE_TOO_LOW`` (our ceiling is below the price, or in another
            currency) or ``QUOTE_EXPIRED``.
    """
    signer, quote = read_quote(data, network=network)
    if signer != host_peer_id:
        raise MalformedMessageError("the quote is signed by another peer than the host", field="quote.public_key")
    for name, is_right in (
        ("network", quote.network == network),
        ("client_peer_id", _is_peer(quote.client_peer_id, client_peer_id)),
        ("host_peer_id", _is_peer(quote.host_peer_id, host_peer_id)),
        ("model_id", quote.model_id == model_id),
        ("max_output_tokens", max_output_tokens is None or quote.max_output_tokens <= max_output_tokens),
        ("context_tokens", quote.context_tokens >= 1),
        ("weights_sha256", len(quote.weights_sha256) in DIGEST_SIZES),
        ("tokenizer_sha256", len(quote.tokenizer_sha256) in DIGEST_SIZES),
        ("chat_template_sha256", len(quote.chat_template_sha256) in DIGEST_SIZES),
        ("expires_at_unix_s", quote.expires_at_unix_s > quote.issued_at_unix_s),
    ):
        if not is_right:
            raise MalformedMessageError(f"the quote's {name} is not what was asked for", field=f"quote.{name}")
    if not quote.issued_at_unix_s - SKEW_TOLERANCE_S <= now < quote.expires_at_unix_s + SKEW_TOLERANCE_S:
        raise job_refused("QUOTE_EXPIRED", "the quote is not valid now", remedy="Compare both clocks and ask again.")
    _check_price(quote, max_price_micros_per_mtok, currency)
    return QuoteOffer(
        quote_id=quote.quote_id,
        peer_id=host_peer_id,
        model_id=quote.model_id,
        price_micros_per_mtok=quote.price_micros_per_mtok,
        currency=quote.currency,
        max_output_tokens=quote.max_output_tokens,
        context_tokens=quote.context_tokens,
        issued_at_unix_s=quote.issued_at_unix_s,
        expires_at_unix_s=quote.expires_at_unix_s,
        queue_position=quote.queue_position,
        weights_sha256=quote.weights_sha256,
        tokenizer_sha256=quote.tokenizer_sha256,
        chat_template_sha256=quote.chat_template_sha256,
        envelope=data,
    )


def _check_price(quote: job_pb2.Quote, ceiling: int | None, currency: str | None) -> None:
    if currency is not None and quote.currency != currency:
        raise job_refused("PRICE_TOO_LOW", f"the host asks for {quote.currency}, the ceiling is in {currency}")
    if ceiling is not None and quote.price_micros_per_mtok > ceiling:
        raise job_refused(
            "PRICE_TOO_LOW",
            f"the host asks for {quote.price_micros_per_mtok} micro-{quote.currency} per million tokens, "
            f"the ceiling is {ceiling}",
        )


def _is_peer(raw: bytes, peer_id: PeerId) -> bool:
    try:
        return peer_id_from_bytes(raw) == peer_id
    except InvalidAddressError:
        return False
