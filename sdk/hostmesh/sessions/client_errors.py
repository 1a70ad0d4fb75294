"""What a host's refusals mean to a client: which error, and what to do. Pure."""

from __future__ import annotations

from hostmesh.errors import RpcError, SessionError, StatusCode, UsageError
from hostmesh.identity.address import address_to_text
from hostmesh.sessions.reasons import Reason, RefusedError

_CLOCKS = "set this machine's clock by a time server; the host may be the one that is off"
_ANEW = "open a new session"
_NEW_DELEGATION = "ask the owner for a new delegation"
_REMEDIES = {
    Reason.EXPIRED: _CLOCKS,
    Reason.NOT_YET_VALID: _CLOCKS,
    Reason.LIFETIME_TOO_LONG: "ask for a shorter session",
    Reason.UNKNOWN_MODEL: "look for a host again: this one no longer offers the model at a price",
    Reason.WRONG_CURRENCY: "authorise the currency in which the host prices the model",
    Reason.PRICE_TOO_LOW: "raise the price ceiling, or look for a cheaper host",
    Reason.BAD_SIGNATURE: "check that client and host name the same network",
    Reason.REPLAYED: _ANEW,
    Reason.UNKNOWN_CHALLENGE: _ANEW,
    Reason.UNKNOWN_SESSION: _ANEW,
    Reason.SESSION_CLOSED: _ANEW,
    Reason.SESSION_EXPIRED: _ANEW,
    Reason.BINDING_REVOKED: "look for another host: the operator of this one took its key back",
    Reason.DRAINING: "look for another host: this one is about to leave",
    Reason.SLICE_MISSING: "give slice_micros above 0: the model is not free",
    Reason.SLICE_TOO_SMALL: "give a larger slice_micros; the host's message names the least",
    Reason.SLICE_TOO_LARGE: "give a smaller slice_micros; the host's message names the most that it takes",
    Reason.CONTRACT_WALLET: (
        "delegate to a session key, which signs sessions; where the contract wallet did, look for a host that asks it"
    ),
    Reason.CONTRACT_UNAVAILABLE: "try again: the host could not ask the contract wallet",
    Reason.SESSIONS_UNAVAILABLE: "look for another host: this one cannot write its disk",
    Reason.NOT_ALLOWED: "ask the host's operator to put your wallet on the list, or look for another host",
    Reason.REPUTATION_TOO_LOW: "look for another host: this one asks for more than it has seen of your wallet",
    Reason.DEPOSIT_REQUIRED: "give deposit_proof as the host's operator describes it, or look for another host",
    Reason.DEPOSIT_REFUSED: "give another deposit_proof: the host's message says why, or look for another host",
    Reason.DEPOSIT_UNAVAILABLE: "try again: the host could not check the deposit",
    Reason.WORK_REQUIRED: "try again later: the host is under attack; or look for another host, or allow more work",
    Reason.WORK_TOO_LITTLE: "try again; a newer hostmesh may be needed",
    Reason.DELEGATION_WRONG_HOST: _NEW_DELEGATION,
    Reason.DELEGATION_WRONG_MODEL: _NEW_DELEGATION,
    Reason.DELEGATION_WRONG_CURRENCY: _NEW_DELEGATION,
    Reason.DELEGATION_EXPIRED: _NEW_DELEGATION,
    Reason.DELEGATION_REVOKED: _NEW_DELEGATION,
    Reason.DELEGATION_CAP: "ask for a lower spending limit, close sessions on this host, or get another delegation",
    Reason.DELEGATION_NOT_YET_VALID: _CLOCKS,
    Reason.DELEGATION_MISMATCH: "check that the delegation was signed for this network",
    Reason.DELEGATION_BAD_SIGNATURE: "check that the delegation was signed for this network",
}

GONE = {
    Reason.UNKNOWN_CHALLENGE: Reason.UNKNOWN_SESSION,
    Reason.REPLAYED: Reason.SESSION_CLOSED,
    Reason.EXPIRED: Reason.SESSION_EXPIRED,
    Reason.DELEGATION_EXPIRED: Reason.SESSION_EXPIRED,
    Reason.DELEGATION_REVOKED: Reason.DELEGATION_REVOKED,
}
"""What it means for a session that is resumed when the host refuses its authorisation with this word."""


def session_error(error: RpcError) -> SessionError | None:
    """Return what a refusal means to the caller; None for what may pass by waiting and for failures."""
    if error.status is StatusCode.RESOURCE_EXHAUSTED or error.reason not in Reason.__members__:
        return None
    reason = Reason(error.reason)
    return SessionError(
        f"the host opens no session: {error.message}",
        reason=reason.value,
        remedy=_REMEDIES.get(reason, "find hosts again"),
    )


def not_sent(refused: RefusedError) -> SessionError:
    """Return the error of a session that any host would refuse; it was not asked."""
    return SessionError(
        f"no host opens this session; nothing was signed: {refused.message}",
        reason=refused.reason,
        remedy=_REMEDIES.get(refused.word, "find hosts again"),
    )


def ended(reason: str) -> SessionError:
    """Return the error of work in a session that takes no more.

    Args:
        reason: what ended it; empty where its own client closed it.

    >>> ended("BINDING_REVOKED").reason
    'BINDING_REVOKED'
    """
    word = Reason(reason or Reason.SESSION_CLOSED)
    return SessionError(
        "the session takes no more work; nothing was sent", reason=word.value, remedy=_REMEDIES.get(word, _ANEW)
    )


def of_another_wallet(signer: bytes) -> UsageError:
    """Return the error of a session that this client's wallet did not authorise, by the address of who did."""
    return UsageError(
        f"the session was authorised by {address_to_text(signer)}; its host takes no other key's countersignatures",
        remedy="authenticate with that wallet or session key, or open a new session",
    )


def over(reason: str, message: str) -> SessionError:
    """Return the error of a session that is no more."""
    return SessionError(message, reason=str(reason), remedy=_ANEW)
