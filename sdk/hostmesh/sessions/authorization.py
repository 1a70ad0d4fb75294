"""What a host demands of an authorisation. Pure; ``now`` is unix seconds.

Cheap checks come first and the signature last, so that a stranger's nonsense costs the host comparisons and not
cryptography.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import MalformedMessageError, UsageError
from hostmesh.identity.structs import NO_DIGEST, SessionAuthorization
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import check_bounds

SKEW_TOLERANCE_S = 30
MAX_LIFETIME_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a host asks for a model. 0 is free; an unpriced model has none and cannot be authorised."""

    micros_per_mtok: int
    currency: str


def terms_from_message(message: pb.SessionAuthorization) -> SessionAuthorization:
    """Return the signed terms of a message, without the signature.

    Raises:
        MalformedMessageError: a field outside its bounds.
    """
    check_bounds(message)
    try:
        return SessionAuthorization(
            client=message.client,
            operator=message.operator,
            client_peer_id=message.client_peer_id,
            host_peer_id=message.host_peer_id,
            nonce=message.nonce,
            model_id=message.model_id,
            max_price_micros_per_mtok=message.max_price_micros_per_mtok,
            currency=message.currency,
            spending_limit_micros=message.spending_limit_micros,
            issued_at_unix_s=message.issued_at_unix_s,
            expires_at_unix_s=message.expires_at_unix_s,
            slice_micros=message.slice_micros,
            delegation_digest=message.delegation_digest or NO_DIGEST,
        )
    except UsageError as error:
        raise MalformedMessageError("the authorisation is malformed", field="authorization") from error


def message_from_terms(terms: SessionAuthorization, signature: bytes) -> pb.SessionAuthorization:
    """Return the message that carries terms and their signature."""
    return pb.SessionAuthorization(
        client=terms.client,
        operator=terms.operator,
        client_peer_id=terms.client_peer_id,
        host_peer_id=terms.host_peer_id,
        nonce=terms.nonce,
        model_id=terms.model_id,
        max_price_micros_per_mtok=terms.max_price_micros_per_mtok,
        currency=terms.currency,
        spending_limit_micros=terms.spending_limit_micros,
        issued_at_unix_s=terms.issued_at_unix_s,
        expires_at_unix_s=terms.expires_at_unix_s,
        signature=signature,
        slice_micros=terms.slice_micros,
        delegation_digest=b"" if terms.delegation_digest == NO_DIGEST else terms.delegation_digest,
    )


def check_parties(terms: SessionAuthorization, *, remote_peer_id: bytes, host_peer_id: bytes, operator: bytes) -> None:
    """Check that the authorisation is from the peer that sent it and for this host.

    Args:
        terms: what was signed.
        remote_peer_id: the sender as the connection proved it, raw multihash.
        host_peer_id: our own, raw multihash.
        operator: the wallet we are bound to, 20 bytes.

    Raises:
        RefusedError: WRONG_PEER, WRONG_HOST or WRONG_OPERATOR.
    """
    if terms.client_peer_id != remote_peer_id:
        raise RefusedError(Reason.WRONG_PEER, "the authorisation names another client peer than the one that sent it")
    if terms.host_peer_id != host_peer_id:
        raise RefusedError(Reason.WRONG_HOST, "the authorisation is for another host")
    if terms.operator != operator:
        raise RefusedError(Reason.WRONG_OPERATOR, "the authorisation is for another operator")


def check_times(terms: SessionAuthorization, *, now: float, max_lifetime_s: int = MAX_LIFETIME_S) -> None:
    """Check when the authorisation holds.

    Raises:
        RefusedError: EXPIRED (no tolerance: such a session would be of no use), NOT_YET_VALID (issued more than 30 s
            ahead), or LIFETIME_TOO_LONG.
    """
    if terms.expires_at_unix_s <= now or terms.expires_at_unix_s <= terms.issued_at_unix_s:
        raise RefusedError(Reason.EXPIRED, "the authorisation has expired; compare both clocks")
    if terms.issued_at_unix_s > now + SKEW_TOLERANCE_S:
        raise RefusedError(Reason.NOT_YET_VALID, "the authorisation is issued in the future; compare both clocks")
    if terms.expires_at_unix_s - terms.issued_at_unix_s > max_lifetime_s:
        raise RefusedError(Reason.LIFETIME_TOO_LONG, f"a session lives at most {max_lifetime_s} s here")


def check_price(terms: SessionAuthorization, price: ModelPrice | None) -> None:
    """Check the model and the ceiling.

    Args:
        terms: what was signed.
        price: what this host asks for ``terms.model_id``; None when it does not offer that model at a price.

    Raises:
        RefusedError: UNKNOWN_MODEL, WRONG_CURRENCY or PRICE_TOO_LOW.
    """
    if price is None:
        raise RefusedError(Reason.UNKNOWN_MODEL, "this host offers no such model at a price")
    if terms.currency != price.currency:
        raise RefusedError(Reason.WRONG_CURRENCY, f"this model is priced in {price.currency}")
    if terms.max_price_micros_per_mtok < price.micros_per_mtok:
        raise RefusedError(
            Reason.PRICE_TOO_LOW, f"this model costs {price.micros_per_mtok} micro-{price.currency} per million tokens"
        )


def check_slice(terms: SessionAuthorization, price: ModelPrice, bounds_micros: tuple[int, int]) -> None:
    """Check what either side may lose.

    Args:
        terms: what was signed.
        price: what this host asks for the model.
        bounds_micros: least and most that this host works for without a countersignature.

    Raises:
        RefusedError: SLICE_OVER_LIMIT, SLICE_MISSING (0, and the model is not free), SLICE_TOO_SMALL or
            SLICE_TOO_LARGE.
    """
    if terms.slice_micros > terms.spending_limit_micros:
        raise RefusedError(Reason.SLICE_OVER_LIMIT, "the slice is above the spending limit")
    if terms.slice_micros == 0 and price.micros_per_mtok > 0:
        raise RefusedError(Reason.SLICE_MISSING, "this model is not free; a slice of 0 pays for nothing")
    least, most = bounds_micros
    if terms.slice_micros < min(least, terms.spending_limit_micros):
        raise RefusedError(
            Reason.SLICE_TOO_SMALL, f"this host takes a slice of {least} micro-{price.currency} at least, or the limit"
        )
    if terms.slice_micros > most:
        raise RefusedError(Reason.SLICE_TOO_LARGE, f"this host takes a slice of {most} micro-{price.currency} at most")
