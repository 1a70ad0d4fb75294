"""What a host demands of a delegation and of its revocation. Pure; ``now`` is unix seconds.

Signatures are not checked here: :mod:`hostmesh.sessions.signatures` does, last of all. What needs no clock is in
:func:`check_covers`, for everybody alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.identity.delegation import MAX_LIFETIME_S, delegation_of_message, message_of_delegation
from hostmesh.identity.structs import NO_DIGEST, Delegation, DelegationRevocation, SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.sessions.authorization import SKEW_TOLERANCE_S
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.v1 import session_pb2 as pb

REVOCATION_LIFETIME_S = MAX_LIFETIME_S + 2 * SKEW_TOLERANCE_S
"""By then, what a revocation takes back has ended by itself: it was issued before, and lives a day at most."""
OWNER_SKEW_TOLERANCE_S = 2 * SKEW_TOLERANCE_S
"""How far the clocks of an owner and of its session key may be apart: each of them is held against the host's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDelegation:
    """A delegation as it counts on one host."""

    struct: Delegation
    signature: bytes
    digest: bytes
    """32 bytes."""
    cap_micros: int
    """For all sessions under it on this host together."""

    @property
    def serialized(self) -> bytes:
        """The ``Delegation`` message, as it is kept."""
        return message_of_delegation(self.struct, self.signature).SerializeToString()


def check_covers(terms: SessionAuthorization, struct: Delegation, *, network: str) -> int:
    """Check that an authorisation was issued under a delegation, and within it. Signatures are not looked at.

    The host asks before it opens a session, the client before it sends its word, and who is shown receipts later.

    Args:
        terms: what the session key signed.
        struct: what its owner signed.
        network: the network's name.

    Returns:
        What it caps for the host that the authorisation names.

    Raises:
        RefusedError: DELEGATION_WRONG_OWNER, DELEGATION_WRONG_HOST, DELEGATION_WRONG_MODEL, DELEGATION_WRONG_CURRENCY,
            DELEGATION_EXPIRED, DELEGATION_NOT_YET_VALID or DELEGATION_MISMATCH, in this order.
    """
    if struct.owner != terms.client:
        raise RefusedError(Reason.DELEGATION_WRONG_OWNER, "the delegation is of another owner than the client")
    cap = next((cap.cap_micros for cap in struct.host_caps if cap.host_peer_id == terms.host_peer_id), None)
    if cap is None:
        raise RefusedError(Reason.DELEGATION_WRONG_HOST, "the delegation caps nothing for this host")
    if terms.model_id not in struct.model_ids:
        raise RefusedError(Reason.DELEGATION_WRONG_MODEL, "the delegation does not name this model")
    if terms.currency != struct.currency:
        raise RefusedError(Reason.DELEGATION_WRONG_CURRENCY, f"the delegation's caps are in {struct.currency}")
    if terms.issued_at_unix_s >= struct.expires_at_unix_s:
        raise RefusedError(Reason.DELEGATION_EXPIRED, "the authorisation is issued after the delegation's end")
    if terms.issued_at_unix_s < struct.issued_at_unix_s - OWNER_SKEW_TOLERANCE_S:
        raise RefusedError(
            Reason.DELEGATION_NOT_YET_VALID, "the authorisation is issued before the delegation; compare clocks"
        )
    if typed_digest(struct, network) != terms.delegation_digest:
        raise RefusedError(
            Reason.DELEGATION_MISMATCH, "the authorisation names another delegation, or one for another network"
        )
    return cap


def check_delegation(
    terms: SessionAuthorization, message: pb.Delegation | None, *, network: str, now: float
) -> HeldDelegation | None:
    """Check that a delegation lets its session key open the session that it signed for, on this host.

    Args:
        terms: what the session key signed, for this host.
        message: the delegation that came with it; None = none came.
        network: our network's name.
        now: unix seconds.

    Returns:
        None when the client's own wallet signs: no delegation is named, and none came.

    Raises:
        RefusedError: DELEGATION_MISSING; by this host's clock DELEGATION_EXPIRED, DELEGATION_NOT_YET_VALID or
            DELEGATION_LIFETIME_TOO_LONG; or as :func:`check_covers` says. In this order.
        MalformedMessageError: a field outside its bounds.
    """
    if message is None:
        if terms.delegation_digest != NO_DIGEST:
            raise RefusedError(Reason.DELEGATION_MISSING, "the authorisation names a delegation that did not come")
        return None
    struct = delegation_of_message(message)
    _check_times(struct, now)
    cap = check_covers(terms, struct, network=network)
    return HeldDelegation(struct=struct, signature=message.signature, digest=terms.delegation_digest, cap_micros=cap)


def _check_times(struct: Delegation, now: float) -> None:
    if struct.expires_at_unix_s <= now or struct.expires_at_unix_s <= struct.issued_at_unix_s:
        raise RefusedError(Reason.DELEGATION_EXPIRED, "the delegation has expired; its owner signs a new one")
    if struct.issued_at_unix_s > now + SKEW_TOLERANCE_S:
        raise RefusedError(Reason.DELEGATION_NOT_YET_VALID, "the delegation is issued in the future; compare clocks")
    if struct.expires_at_unix_s - struct.issued_at_unix_s > MAX_LIFETIME_S:
        raise RefusedError(Reason.DELEGATION_LIFETIME_TOO_LONG, f"a delegation lives at most {MAX_LIFETIME_S} s")


def check_revocation_times(revocation: DelegationRevocation, now: float) -> None:
    """Check that a revocation is of now and can still take something back.

    Raises:
        RefusedError: REVOCATION_NOT_YET_VALID or REVOCATION_EXPIRED.
    """
    if revocation.issued_at_unix_s > now + SKEW_TOLERANCE_S:
        raise RefusedError(Reason.REVOCATION_NOT_YET_VALID, "the revocation is issued in the future; compare clocks")
    if revocation.issued_at_unix_s + REVOCATION_LIFETIME_S <= now:
        raise RefusedError(Reason.REVOCATION_EXPIRED, "what this revocation takes back has expired by itself")
