"""A host with an admission, an attack on it, and clients that ask for sessions one call at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hostmesh.errors import RpcError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.work import find_work
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.server import SessionServer
from hostmesh.v1 import session_pb2 as pb

World = Any
"""The one of the sessions' conftest."""
NETWORK = "hostmesh-test"
FLOOD = 2_000


@cache
def key_of(name: str) -> PeerKey:
    return PeerKey(hashlib.sha256(f"gate peer {name}".encode()).digest())


@cache
def wallet_of(name: str) -> Wallet:
    return Wallet.from_private_key(hashlib.sha256(f"gate wallet {name}".encode()).digest())


@dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


def host(world: World, policy: AdmissionPolicy | None = None, **more: Any) -> SessionServer:
    """Put a host with this admission in the place of the world's."""
    world.server = SessionServer(
        key=world.host,
        binding=world.binding,
        network=NETWORK,
        price_of=lambda model_id, peer_id: world.prices.get(model_id),
        system=world.clock.system(),
        limits=world.limits,
        network_of=world.networks.get,
        admission=policy,
        **more,
    )
    return world.server


async def challenge(world: World, name: str = "client") -> pb.Challenge:
    return await world.server.get_challenge(pb.GetChallengeRequest(), Call(key_of(name).peer_id))


def terms(world: World, nonce: bytes, name: str = "client", wallet: str | None = None) -> SessionAuthorization:
    return world.terms(
        nonce,
        client=wallet_of(wallet or name).address_bytes,
        client_peer_id=peer_id_to_bytes(key_of(name).peer_id),
    )


async def authorize(
    world: World,
    nonce: bytes,
    name: str = "client",
    *,
    wallet: str | None = None,
    signed_by: str | None = None,
    work: bytes = b"",
    proof: bytes = b"",
    lifetime_s: int = 3600,
) -> str:
    """Authorise a session; return the reason of the refusal, or nothing."""
    given = replace(terms(world, nonce, name, wallet), expires_at_unix_s=int(world.clock.unix) + lifetime_s)
    signature = wallet_of(signed_by or wallet or name).sign(given, NETWORK)
    request = pb.AuthorizeRequest(authorization=message_from_terms(given, signature), work=work, deposit_proof=proof)
    try:
        await world.server.authorize(request, Call(key_of(name).peer_id))
    except RpcError as error:
        return error.reason
    return ""


async def opened(world: World, name: str = "client", **more: Any) -> str:
    return await authorize(world, (await challenge(world, name)).nonce, name, **more)


async def attack(world: World) -> None:
    """Ask for challenges to no end, from a crowd."""
    for number in range(FLOOD):
        world.clock.advance(0.001)
        await challenge(world, f"attacker {number % 100}")
    assert world.server.work_bits == 14


def done(issued: pb.Challenge) -> bytes:
    work = find_work(issued.nonce, issued.work_bits, first=0, tries=1 << 19)
    assert work is not None
    return work
