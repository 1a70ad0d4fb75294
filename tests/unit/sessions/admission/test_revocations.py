"""A flood of revocations that nobody signed: it opens nothing, keeps nobody out, and tells nothing of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.gate_world import Call, attack, authorize, challenge, done, host, key_of, opened, wallet_of

from hostmesh.errors import RpcError
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


def junk(world: World, number: int) -> pb.RevokeDelegationRequest:
    """A revocation of a delegation that there never was, with a signature that is none."""
    return pb.RevokeDelegationRequest(
        revocation=pb.DelegationRevocation(
            owner=b"\x07" * 20,
            delegation_digest=number.to_bytes(32, "big"),
            issued_at_unix_s=int(world.clock.unix),
            signature=bytes(64) + b"\x1b",
        )
    )


async def flood(world: World, revocations: int, *, peers: int) -> dict[str, int]:
    """Bring junk from so many peers in turn; return how often each reason was answered."""
    reasons: dict[str, int] = {}
    for number in range(1, revocations + 1):
        try:
            await world.server.revoke_delegation(junk(world, number), Call(key_of(f"junk {number % peers}").peer_id))
        except RpcError as error:
            reasons[error.reason] = reasons.get(error.reason, 0) + 1
    return reasons


async def test_junk_revocations_keep_no_stranger_out(world: World) -> None:
    host(world)
    assert await flood(world, 480, peers=8) == {"REVOCATION_BAD_SIGNATURE": 400, "RATE_LIMITED": 80}
    assert await opened(world) == ""


async def test_junk_revocations_under_attack_keep_nobody_out_who_did_the_work(world: World) -> None:
    host(world)
    await attack(world)
    assert (await flood(world, 480, peers=8))["RATE_LIMITED"] == 80
    issued = await challenge(world)
    assert await authorize(world, issued.nonce, work=done(issued)) == ""


async def test_who_has_used_up_its_checks_learns_nothing_of_the_list(world: World) -> None:
    host(world, AdmissionPolicy(allowed_wallets=frozenset({wallet_of("friend").address_bytes})))
    await attack(world)
    assert await flood(world, 150, peers=1) == {"REVOCATION_BAD_SIGNATURE": 100, "RATE_LIMITED": 50}
    thief = "junk 0"
    said = {wallet: await opened(world, thief, wallet=wallet, signed_by=thief) for wallet in ("friend", "nobody")}
    assert said == {"friend": "WORK_REQUIRED", "nobody": "WORK_REQUIRED"}
