"""Grants: the host's signed word that a session is open. Pure; ``now`` is unix seconds."""

from __future__ import annotations

from hostmesh.errors import BadSignatureError, RemoteProtocolError, SessionError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.authorization import SKEW_TOLERANCE_S
from hostmesh.sessions.reasons import GrantFault
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import parse

PAYLOAD_TYPE = b"/hostmesh/session-grant"
MAX_GRANT_BYTES = 2048
SESSION_ID_BYTES = 16


def grant_domain(network: str) -> str:
    """Return the domain string under which a network's grants are signed."""
    return f"hostmesh:{network}:session-grant"


def seal_grant(
    key: PeerKey,
    terms: SessionAuthorization,
    *,
    network: str,
    session_id: bytes,
    now: float,
    expires_at_unix_s: int | None = None,
) -> bytes:
    """Return the signed grant that answers an authorisation.

    Args:
        key: the host's peer key.
        terms: what the client authorised; the grant ends no later than it does.
        network: the network's name.
        session_id: 16 random bytes.
        now: unix seconds.
        expires_at_unix_s: when what else limits it ends, a delegation; None = nothing does.
    """
    grant = pb.SessionGrant(
        network=network,
        session_id=session_id,
        authorization_digest=typed_digest(terms, network),
        client_peer_id=terms.client_peer_id,
        host_peer_id=terms.host_peer_id,
        issued_at_unix_s=int(now),
        expires_at_unix_s=min(terms.expires_at_unix_s, expires_at_unix_s or terms.expires_at_unix_s),
    )
    return seal_envelope(
        key, domain=grant_domain(network), payload_type=PAYLOAD_TYPE, payload=grant.SerializeToString()
    )


def open_grant(
    envelope: bytes, terms: SessionAuthorization, *, host: PeerId, network: str, now: float
) -> pb.SessionGrant:
    """Check a host's grant against what the client authorised.

    Args:
        envelope: as it came.
        terms: what this client signed.
        host: the peer that was asked.
        network: our network's name.
        now: unix seconds.

    Raises:
        SessionError: ``reason`` is a word of :class:`~hostmesh.sessions.reasons.GrantFault`; the host may hold a
            session open that ends by itself.
    """
    try:
        opened = open_envelope(
            envelope, domain=grant_domain(network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_GRANT_BYTES
        )
        if opened.peer_id != host:
            raise _fault(GrantFault.GRANT_WRONG_SIGNER, "another peer than the host signed the grant")
        grant = parse(pb.SessionGrant, opened.payload, MAX_GRANT_BYTES)
    except BadSignatureError as error:
        raise _fault(GrantFault.GRANT_BAD_SIGNATURE, "the grant's signature does not verify") from error
    except RemoteProtocolError as error:
        raise _fault(GrantFault.GRANT_MALFORMED, f"the grant is malformed: {error.message}") from error
    if grant.network != network:
        raise _fault(GrantFault.GRANT_WRONG_NETWORK, "the grant is of another network")
    if grant.client_peer_id != terms.client_peer_id:
        raise _fault(GrantFault.GRANT_WRONG_CLIENT, "the grant is for another client peer")
    if grant.host_peer_id != terms.host_peer_id or grant.host_peer_id != peer_id_to_bytes(host):
        raise _fault(GrantFault.GRANT_WRONG_HOST, "the grant names another host peer")
    if grant.authorization_digest != typed_digest(terms, network):
        raise _fault(GrantFault.GRANT_WRONG_DIGEST, "the grant answers another authorisation")
    if not (
        grant.issued_at_unix_s <= now + SKEW_TOLERANCE_S
        and now < grant.expires_at_unix_s <= terms.expires_at_unix_s
        and grant.issued_at_unix_s < grant.expires_at_unix_s
    ):
        raise _fault(GrantFault.GRANT_WRONG_TIME, "the grant's times are not those of the authorisation")
    return grant


def _fault(reason: GrantFault, message: str) -> SessionError:
    return SessionError(message, reason=reason.value, remedy="do not trust this host; choose another")
