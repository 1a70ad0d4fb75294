"""What was signed to open a session, as anybody verifies it who was not there. Pure; no clock: it holds for ever.

One function for all: whom the host shows its receipts, and the host itself before it writes a session. What the one
refuses the other never works for.
"""

from __future__ import annotations

from hostmesh.errors import BadSignatureError, RemoteProtocolError
from hostmesh.identity.delegation import delegation_of_message
from hostmesh.identity.structs import NO_DIGEST, Delegation, SessionAuthorization
from hostmesh.identity.typed_data import TypedStruct, recover_signer
from hostmesh.sessions.authorization import terms_from_message
from hostmesh.sessions.delegation import check_covers
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import parse

MAX_AUTHORIZATION_BYTES = 4_096
MAX_DELEGATION_BYTES = 16_384


def verify_papers(
    authorization: bytes, delegation: bytes, *, network: str, is_owner_known: bool = False
) -> tuple[SessionAuthorization, Delegation | None]:
    """Verify an authorisation and the delegation under which a session key signed it.

    Args:
        authorization: a ``SessionAuthorization`` message with its signature, serialised.
        delegation: a ``Delegation`` message, serialised; empty: the client's wallet signed.
        network: the network's name.
        is_owner_known: the owner may be a contract, which was asked whether it signed the delegation.

    Returns:
        What was authorised, and what was delegated; None without a delegation.

    Raises:
        RefusedError: BAD_SIGNATURE: the authorisation is not signed by the client or its delegate. Or a word that
            begins with DELEGATION.
        RemoteProtocolError: no authorisation.

    Cost: one recovery; two with a delegation.
    """
    message = parse(pb.SessionAuthorization, authorization, MAX_AUTHORIZATION_BYTES)
    terms = terms_from_message(message)
    struct, signer = None, terms.client
    if delegation:
        struct, signature = _delegation_of(delegation)
        signer = struct.delegate
        check_covers(terms, struct, network=network)
        if not is_owner_known and not _is_signed(struct, signature, struct.owner, network):
            raise RefusedError(Reason.DELEGATION_BAD_SIGNATURE, "the delegation is not signed by its owner")
    elif terms.delegation_digest != NO_DIGEST:
        raise RefusedError(Reason.DELEGATION_MISSING, "the authorisation names a delegation that is not there")
    if not _is_signed(terms, message.signature, signer, network):
        raise RefusedError(
            Reason.BAD_SIGNATURE, "the authorisation is not signed by who it says, or for another network"
        )
    return terms, struct


def _delegation_of(delegation: bytes) -> tuple[Delegation, bytes]:
    try:
        message = parse(pb.Delegation, delegation, MAX_DELEGATION_BYTES)
        return delegation_of_message(message), message.signature
    except RemoteProtocolError as error:
        raise RefusedError(Reason.DELEGATION_MISMATCH, f"no delegation: {error.message}") from error


def _is_signed(struct: TypedStruct, signature: bytes, signer: bytes, network: str) -> bool:
    try:
        return recover_signer(struct, signature, network) == signer
    except BadSignatureError:
        return False
