"""Why a session, or a call within one, is refused: one stable word each. Pure.

The words are part of the protocol (docs/protocols/session.md): a caller finds them as ``reason`` of its error, the host
counts each.
"""

from __future__ import annotations

from enum import StrEnum

from hostmesh.errors import SessionError, StatusCode


class Reason(StrEnum):
    """What the host refused."""

    # --- a challenge ---
    TOO_MANY_CHALLENGES = "TOO_MANY_CHALLENGES"
    """Too many open challenges: of this peer, of its network, or in total."""
    UNKNOWN_CHALLENGE = "UNKNOWN_CHALLENGE"
    """The nonce was never issued to this peer, or is older than 60 s."""

    # --- an authorisation ---
    WRONG_PEER = "WRONG_PEER"
    """It names another client peer than the one that sent it."""
    WRONG_HOST = "WRONG_HOST"
    """It names another host peer."""
    WRONG_OPERATOR = "WRONG_OPERATOR"
    """It names another operator than the one this host is bound to."""
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    """Issued more than 30 s ahead of the host's clock."""
    LIFETIME_TOO_LONG = "LIFETIME_TOO_LONG"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    """The host does not offer the model at a price."""
    WRONG_CURRENCY = "WRONG_CURRENCY"
    PRICE_TOO_LOW = "PRICE_TOO_LOW"
    """The ceiling is below the host's price."""
    BAD_SIGNATURE = "BAD_SIGNATURE"
    """Not signed by the client it names: another key, a changed field, or another network (whose name is signed)."""
    REPLAYED = "REPLAYED"
    """Its nonce opened a session already, and it is not the identical authorisation of that live session."""
    RATE_LIMITED = "RATE_LIMITED"
    """Too many signatures to check; ``retry_after_ms`` says when to try again."""
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS"
    """Of this peer, of its network, or in total."""
    DRAINING = "DRAINING"
    """The host opens no new sessions."""

    # --- the use of a session ---
    NO_SESSION = "NO_SESSION"
    """The call names no session and needs one."""
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    SESSION_OF_ANOTHER_PEER = "SESSION_OF_ANOTHER_PEER"
    """Counted under this word, answered as UNKNOWN_SESSION: a stranger learns nothing about others' sessions."""
    SESSION_CLOSED = "SESSION_CLOSED"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    WRONG_MODEL = "WRONG_MODEL"
    """The session authorises another model."""
    SPENDING_LIMIT = "SPENDING_LIMIT"
    """What is left of the session's limit does not cover the work."""


class GrantFault(StrEnum):
    """What a client finds wrong with a host's answer. The session is not used."""

    BAD_BINDING = "BAD_BINDING"
    """The host shows no valid binding of its peer key."""
    OPERATOR_CHANGED = "OPERATOR_CHANGED"
    """The host is bound to another operator than discovery verified."""
    GRANT_MALFORMED = "GRANT_MALFORMED"
    GRANT_BAD_SIGNATURE = "GRANT_BAD_SIGNATURE"
    GRANT_WRONG_SIGNER = "GRANT_WRONG_SIGNER"
    """Signed by another peer than the one that was asked."""
    GRANT_WRONG_NETWORK = "GRANT_WRONG_NETWORK"
    GRANT_WRONG_DIGEST = "GRANT_WRONG_DIGEST"
    """It answers another authorisation."""
    GRANT_WRONG_CLIENT = "GRANT_WRONG_CLIENT"
    GRANT_WRONG_HOST = "GRANT_WRONG_HOST"
    GRANT_WRONG_TIME = "GRANT_WRONG_TIME"
    """Expired, issued in the future, or valid for longer than was authorised."""


STATUS_OF: dict[Reason, StatusCode] = {
    Reason.TOO_MANY_CHALLENGES: StatusCode.RESOURCE_EXHAUSTED,
    Reason.UNKNOWN_CHALLENGE: StatusCode.UNAUTHENTICATED,
    Reason.WRONG_PEER: StatusCode.UNAUTHENTICATED,
    Reason.WRONG_HOST: StatusCode.UNAUTHENTICATED,
    Reason.WRONG_OPERATOR: StatusCode.UNAUTHENTICATED,
    Reason.EXPIRED: StatusCode.UNAUTHENTICATED,
    Reason.NOT_YET_VALID: StatusCode.UNAUTHENTICATED,
    Reason.LIFETIME_TOO_LONG: StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_MODEL: StatusCode.NOT_FOUND,
    Reason.WRONG_CURRENCY: StatusCode.FAILED_PRECONDITION,
    Reason.PRICE_TOO_LOW: StatusCode.FAILED_PRECONDITION,
    Reason.BAD_SIGNATURE: StatusCode.UNAUTHENTICATED,
    Reason.REPLAYED: StatusCode.UNAUTHENTICATED,
    Reason.RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_SESSIONS: StatusCode.RESOURCE_EXHAUSTED,
    Reason.DRAINING: StatusCode.UNAVAILABLE,
    Reason.NO_SESSION: StatusCode.UNAUTHENTICATED,
    Reason.UNKNOWN_SESSION: StatusCode.UNAUTHENTICATED,
    Reason.SESSION_OF_ANOTHER_PEER: StatusCode.UNAUTHENTICATED,
    Reason.SESSION_CLOSED: StatusCode.UNAUTHENTICATED,
    Reason.SESSION_EXPIRED: StatusCode.UNAUTHENTICATED,
    Reason.WRONG_MODEL: StatusCode.UNAUTHENTICATED,
    Reason.SPENDING_LIMIT: StatusCode.FAILED_PRECONDITION,
}
"""The gRPC code that answers each reason."""


class RefusedError(SessionError):
    """A refusal inside the host; :mod:`hostmesh.sessions.server` counts it and answers with its code.

    Args:
        reason: the word.
        message: one line, for people.
        retry_after_s: when trying again may help; None = not said.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, reason=reason.value)
        self.word = reason
        self.retry_after_s = retry_after_s
