"""What tests of a host's sessions share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from hostmesh.errors import StatusCode
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
STRANGER = peer_id_from_public_key(bytes(range(32)))


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


async def authorize(
    world: World,
    terms: SessionAuthorization,
    *,
    signature: bytes | None = None,
    network: str = NETWORK,
    peer: PeerId | None = None,
) -> bytes:
    signature = signature if signature is not None else world.wallet.sign(terms, network)
    request = pb.AuthorizeRequest(authorization=message_from_terms(terms, signature))
    return (await world.server.authorize(request, Call(peer or world.client.peer_id))).grant


def payload_of(grant: bytes) -> pb.SessionGrant:
    opened = open_envelope(
        grant, domain=f"hostmesh:{NETWORK}:session-grant", payload_type=b"/hostmesh/session-grant", max_bytes=2048
    )
    return pb.SessionGrant.FromString(opened.payload)


async def opened(world: World, **changes: Any) -> Call:
    """Open a session and return a call within it."""
    grant = await authorize(world, world.terms(await world.nonce(), **changes))
    return Call(world.client.peer_id, payload_of(grant).session_id)


OTHER = bytes(range(20))
REFUSED: dict[str, tuple[dict[str, Any], str, StatusCode]] = {
    "client peer": ({"client_peer_id": peer_id_to_bytes(STRANGER)}, "WRONG_PEER", StatusCode.UNAUTHENTICATED),
    "host peer": ({"host_peer_id": peer_id_to_bytes(STRANGER)}, "WRONG_HOST", StatusCode.UNAUTHENTICATED),
    "operator": ({"operator": OTHER}, "WRONG_OPERATOR", StatusCode.UNAUTHENTICATED),
    "client": ({"client": OTHER}, "BAD_SIGNATURE", StatusCode.UNAUTHENTICATED),
    "nonce": ({"nonce": bytes(32)}, "UNKNOWN_CHALLENGE", StatusCode.UNAUTHENTICATED),
    "model": ({"model_id": MODEL[:-1]}, "UNKNOWN_MODEL", StatusCode.NOT_FOUND),
    "price": ({"max_price_micros_per_mtok": 149_999}, "PRICE_TOO_LOW", StatusCode.FAILED_PRECONDITION),
    "zero price": ({"max_price_micros_per_mtok": 0}, "PRICE_TOO_LOW", StatusCode.FAILED_PRECONDITION),
    "currency": ({"currency": "EUR"}, "WRONG_CURRENCY", StatusCode.FAILED_PRECONDITION),
    "expired": ({"expires_at_unix_s": 1_700_000_000}, "EXPIRED", StatusCode.UNAUTHENTICATED),
    "long expired": ({"issued_at_unix_s": 5, "expires_at_unix_s": 10}, "EXPIRED", StatusCode.UNAUTHENTICATED),
    "backwards": (
        {"issued_at_unix_s": 1_700_000_020, "expires_at_unix_s": 1_700_000_010}, "EXPIRED", StatusCode.UNAUTHENTICATED
    ),
    "future": ({"issued_at_unix_s": 1_700_000_031}, "NOT_YET_VALID", StatusCode.UNAUTHENTICATED),
    "slice above the limit": ({"slice_micros": 10_001}, "SLICE_OVER_LIMIT", StatusCode.FAILED_PRECONDITION),
    "no slice": ({"slice_micros": 0}, "SLICE_MISSING", StatusCode.FAILED_PRECONDITION),
    "slice above the host's": (
        {"slice_micros": 9_832, "spending_limit_micros": 2_000_000}, "SLICE_TOO_LARGE",
        StatusCode.FAILED_PRECONDITION,
    ),
    "delegation": ({"delegation_digest": bytes([1]) * 32}, "DELEGATION_MISSING", StatusCode.UNAUTHENTICATED),
    "lifetime": (
        {"expires_at_unix_s": 1_700_000_000 + 86_401}, "LIFETIME_TOO_LONG", StatusCode.FAILED_PRECONDITION
    ),
}  # fmt: skip
