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
    """Too many signatures to check, or too many sessions of this wallet, peer or network; ``retry_after_ms`` says when
    to try again."""
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS"
    """Of this peer, of its network, or in total."""
    DRAINING = "DRAINING"
    """The host opens no new sessions."""
    SLICE_MISSING = "SLICE_MISSING"
    """A slice of 0 for a model that is not free."""
    SLICE_OVER_LIMIT = "SLICE_OVER_LIMIT"
    """The slice is above the spending limit."""
    SLICE_TOO_SMALL = "SLICE_TOO_SMALL"
    """The slice is below what this host waits for, and below the spending limit."""
    SLICE_TOO_LARGE = "SLICE_TOO_LARGE"
    """The slice is above what this host is willing to lose."""
    CONTRACT_WALLET = "CONTRACT_WALLET"
    """A contract wallet (EIP-1271) signed the authorisation, which a key does; or a delegation, and nobody asks it."""
    CONTRACT_UNAVAILABLE = "CONTRACT_UNAVAILABLE"
    """The contract wallet was not answered for in time; nothing is known of the signature."""
    SESSIONS_UNAVAILABLE = "SESSIONS_UNAVAILABLE"
    """The host cannot keep what it would have to: its disk is full or its store damaged."""

    # --- admission: whom the host takes ---
    NOT_ALLOWED = "NOT_ALLOWED"
    """The host serves the wallets on its list, and this one is not on it."""
    REPUTATION_TOO_LOW = "REPUTATION_TOO_LOW"
    """By what this host saw of the wallet."""
    DEPOSIT_REQUIRED = "DEPOSIT_REQUIRED"
    """The host wants proof of a deposit, and none came."""
    DEPOSIT_REFUSED = "DEPOSIT_REFUSED"
    """The proof does not prove enough."""
    DEPOSIT_UNAVAILABLE = "DEPOSIT_UNAVAILABLE"
    """The host could not check the proof; nothing is known of it."""
    WORK_REQUIRED = "WORK_REQUIRED"
    """The host is under attack and asks strangers for work: that of the challenge, or of a new one if it asked none."""
    WORK_TOO_LITTLE = "WORK_TOO_LITTLE"
    """The work that came is not what the challenge asks for."""

    # --- a delegation ---
    DELEGATION_MISSING = "DELEGATION_MISSING"
    """The authorisation names one, and none came with it."""
    DELEGATION_MISMATCH = "DELEGATION_MISMATCH"
    """Another came than the authorisation names; or it was signed for another network, whose name is in the digest."""
    DELEGATION_WRONG_OWNER = "DELEGATION_WRONG_OWNER"
    """The authorisation's client is not its owner."""
    DELEGATION_WRONG_HOST = "DELEGATION_WRONG_HOST"
    """It caps nothing for this host."""
    DELEGATION_WRONG_MODEL = "DELEGATION_WRONG_MODEL"
    DELEGATION_WRONG_CURRENCY = "DELEGATION_WRONG_CURRENCY"
    DELEGATION_EXPIRED = "DELEGATION_EXPIRED"
    DELEGATION_NOT_YET_VALID = "DELEGATION_NOT_YET_VALID"
    """Issued more than 30 s ahead of the host's clock."""
    DELEGATION_LIFETIME_TOO_LONG = "DELEGATION_LIFETIME_TOO_LONG"
    DELEGATION_REVOKED = "DELEGATION_REVOKED"
    """Its owner took it back."""
    DELEGATION_CAP = "DELEGATION_CAP"
    """What was spent under it here, and what its open sessions may still cost, leave too little for this limit."""
    DELEGATION_BAD_SIGNATURE = "DELEGATION_BAD_SIGNATURE"
    """Not signed by the owner it names."""
    TOO_MANY_DELEGATIONS = "TOO_MANY_DELEGATIONS"
    """This host keeps account of as many as it can."""

    # --- a revocation of a delegation ---
    REVOCATION_EXPIRED = "REVOCATION_EXPIRED"
    """So old that what it revokes has ended."""
    REVOCATION_NOT_YET_VALID = "REVOCATION_NOT_YET_VALID"
    """Issued more than 30 s ahead of the host's clock."""
    REVOCATION_WRONG_OWNER = "REVOCATION_WRONG_OWNER"
    """The delegation is known here, and is another owner's."""
    REVOCATION_BAD_SIGNATURE = "REVOCATION_BAD_SIGNATURE"
    """Not signed by the owner it names, or for another network."""
    TOO_MANY_REVOCATIONS = "TOO_MANY_REVOCATIONS"
    """Of delegations that this host never saw; those of delegations in use always have room."""

    # --- the use of a session ---
    NO_SESSION = "NO_SESSION"
    """The call names no session and needs one."""
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    SESSION_OF_ANOTHER_PEER = "SESSION_OF_ANOTHER_PEER"
    """Counted under this word, answered as UNKNOWN_SESSION: a stranger learns nothing about others' sessions."""
    SESSION_CLOSED = "SESSION_CLOSED"
    BINDING_REVOKED = "BINDING_REVOKED"
    """The operator took the host's binding back, which ended every session."""
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
    GRANT_CHANGED = "GRANT_CHANGED"
    """A session that is resumed got another session's id: the host opened two on one authorisation."""
    GRANT_REPEATED = "GRANT_REPEATED"
    """The id of another session of this client: hosts choose them, and each is one session's."""
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
    Reason.SLICE_MISSING: StatusCode.FAILED_PRECONDITION,
    Reason.SLICE_OVER_LIMIT: StatusCode.FAILED_PRECONDITION,
    Reason.SLICE_TOO_SMALL: StatusCode.FAILED_PRECONDITION,
    Reason.SLICE_TOO_LARGE: StatusCode.FAILED_PRECONDITION,
    Reason.CONTRACT_WALLET: StatusCode.FAILED_PRECONDITION,
    Reason.CONTRACT_UNAVAILABLE: StatusCode.UNAVAILABLE,
    Reason.SESSIONS_UNAVAILABLE: StatusCode.UNAVAILABLE,
    Reason.NOT_ALLOWED: StatusCode.PERMISSION_DENIED,
    Reason.REPUTATION_TOO_LOW: StatusCode.PERMISSION_DENIED,
    Reason.DEPOSIT_REQUIRED: StatusCode.FAILED_PRECONDITION,
    Reason.DEPOSIT_REFUSED: StatusCode.PERMISSION_DENIED,
    Reason.DEPOSIT_UNAVAILABLE: StatusCode.UNAVAILABLE,
    Reason.WORK_REQUIRED: StatusCode.FAILED_PRECONDITION,
    Reason.WORK_TOO_LITTLE: StatusCode.FAILED_PRECONDITION,
    Reason.DELEGATION_MISSING: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_MISMATCH: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_WRONG_OWNER: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_WRONG_HOST: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_WRONG_MODEL: StatusCode.FAILED_PRECONDITION,
    Reason.DELEGATION_WRONG_CURRENCY: StatusCode.FAILED_PRECONDITION,
    Reason.DELEGATION_EXPIRED: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_NOT_YET_VALID: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_LIFETIME_TOO_LONG: StatusCode.FAILED_PRECONDITION,
    Reason.DELEGATION_REVOKED: StatusCode.UNAUTHENTICATED,
    Reason.DELEGATION_CAP: StatusCode.FAILED_PRECONDITION,
    Reason.DELEGATION_BAD_SIGNATURE: StatusCode.UNAUTHENTICATED,
    Reason.TOO_MANY_DELEGATIONS: StatusCode.RESOURCE_EXHAUSTED,
    Reason.REVOCATION_EXPIRED: StatusCode.FAILED_PRECONDITION,
    Reason.REVOCATION_NOT_YET_VALID: StatusCode.UNAUTHENTICATED,
    Reason.REVOCATION_WRONG_OWNER: StatusCode.UNAUTHENTICATED,
    Reason.REVOCATION_BAD_SIGNATURE: StatusCode.UNAUTHENTICATED,
    Reason.TOO_MANY_REVOCATIONS: StatusCode.RESOURCE_EXHAUSTED,
    Reason.NO_SESSION: StatusCode.UNAUTHENTICATED,
    Reason.UNKNOWN_SESSION: StatusCode.UNAUTHENTICATED,
    Reason.SESSION_OF_ANOTHER_PEER: StatusCode.UNAUTHENTICATED,
    Reason.SESSION_CLOSED: StatusCode.UNAUTHENTICATED,
    Reason.BINDING_REVOKED: StatusCode.UNAUTHENTICATED,
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
