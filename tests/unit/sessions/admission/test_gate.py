"""Admission at a host: over its service, what comes before the signature, what after, and what a stranger learns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from tests.support.gate_world import (
    NETWORK,
    Call,
    attack,
    authorize,
    challenge,
    done,
    host,
    key_of,
    opened,
    terms,
    wallet_of,
)

from hostmesh.errors import RpcError, StatusCode
from hostmesh.sessions.admission.deposits import DepositClaim, DepositVerdict
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


# --- who ---


async def test_a_list_is_of_wallets_whose_signature_holds(world: World) -> None:
    policy = AdmissionPolicy(only_listed=True, allowed_wallets=frozenset({wallet_of("friend").address_bytes}))
    host(world, policy)
    assert await opened(world, "friend") == ""
    assert await opened(world, "stranger") == "NOT_ALLOWED"
    # The claim to be of the list opens nothing, and tells nobody who is on it.
    assert await opened(world, "thief", wallet="friend", signed_by="thief") == "BAD_SIGNATURE"
    assert await opened(world, "thief", wallet="nobody", signed_by="thief") == "BAD_SIGNATURE"
    assert world.server.refusals == {"NOT_ALLOWED": 1, "BAD_SIGNATURE": 2}


async def test_a_refused_wallet_may_try_again_on_the_same_challenge_once_the_list_has_changed(world: World) -> None:
    server = host(world, AdmissionPolicy(only_listed=True))
    nonce = (await challenge(world)).nonce
    assert await authorize(world, nonce) == "NOT_ALLOWED"
    server.admission = replace(server.admission, allowed_wallets=frozenset({wallet_of("client").address_bytes}))
    assert await authorize(world, nonce) == ""
    # Off the list again: what is open stays open, and is asked for again.
    server.admission = AdmissionPolicy(only_listed=True)
    assert server.active_sessions == 1
    assert await authorize(world, nonce) == ""
    assert await opened(world) == "NOT_ALLOWED"


async def test_a_reputation_is_asked_for_wallets_whose_signature_holds(world: World) -> None:
    known = {wallet_of("payer").address_bytes: 550, wallet_of("defaulter").address_bytes: 50}
    asked: list[bytes] = []

    def reputation_of(wallet: bytes) -> int:
        asked.append(wallet)
        return known.get(wallet, 100)

    host(world, AdmissionPolicy(min_reputation=100), reputation_of=reputation_of)
    assert [await opened(world, name) for name in ("payer", "defaulter", "new")] == ["", "REPUTATION_TOO_LOW", ""]
    assert await opened(world, "thief", wallet="defaulter", signed_by="thief") == "BAD_SIGNATURE"
    assert len(asked) == 3


async def test_the_refusals_have_their_status_and_number(world: World) -> None:
    host(world, AdmissionPolicy(min_reputation=101))
    given = terms(world, (await challenge(world)).nonce)
    request = pb.AuthorizeRequest(authorization=message_from_terms(given, wallet_of("client").sign(given, NETWORK)))
    with pytest.raises(RpcError) as caught:
        await world.server.authorize(request, Call(key_of("client").peer_id))
    assert caught.value.status is StatusCode.PERMISSION_DENIED
    assert "100" in caught.value.message
    assert "101" in caught.value.message


# --- how often ---


@pytest.mark.parametrize("whose", ["wallet", "peer", "network"])
async def test_sessions_are_rated_and_come_back(whose: str, world: World) -> None:
    host(world, AdmissionPolicy(**{f"sessions_per_{whose}": Rate(per_second=0.1, burst=2)}))  # type: ignore[arg-type]
    for name in ("client", "other"):
        world.networks[key_of(name).peer_id] = "203.0.113.0/24"
    assert [await opened(world) for _ in range(3)] == ["", "", "RATE_LIMITED"]
    assert await opened(world, "other") == ("RATE_LIMITED" if whose == "network" else "")
    assert await opened(world, "client", wallet="other") == ("" if whose == "wallet" else "RATE_LIMITED")
    world.clock.advance(10.1)
    assert await opened(world) == ""


async def test_nobody_uses_up_another_wallets_rate(world: World) -> None:
    host(world, AdmissionPolicy(sessions_per_wallet=Rate(per_second=0.1, burst=1)))
    for _ in range(20):
        assert await opened(world, "thief", wallet="client", signed_by="thief") == "BAD_SIGNATURE"
    assert await opened(world) == ""


# --- work ---


async def test_without_an_attack_no_work_is_asked(world: World) -> None:
    host(world)
    for number in range(200):
        world.clock.advance(0.001)
        issued = await challenge(world, f"client {number}")
        assert issued.work_bits == 0
        assert await authorize(world, issued.nonce, f"client {number}") == ""
    assert world.server.work_bits == 0


async def test_under_attack_a_stranger_works(world: World) -> None:
    host(world)
    before = await challenge(world)
    await attack(world)
    issued = await challenge(world)
    assert issued.work_bits == 14
    assert issued.expires_at_unix_s in (int(world.clock.unix) + 59, int(world.clock.unix) + 60)
    assert await authorize(world, before.nonce) == "WORK_REQUIRED"
    assert await authorize(world, issued.nonce) == "WORK_REQUIRED"
    assert await authorize(world, issued.nonce, work=bytes(8)) == "WORK_TOO_LITTLE"
    assert await authorize(world, issued.nonce, "other", work=done(issued)) == "UNKNOWN_CHALLENGE"
    assert await authorize(world, issued.nonce, work=done(issued)) == ""
    # It opened one session: repeated it is the same one, and another wallet gets none on it.
    assert await authorize(world, issued.nonce, work=done(issued)) == ""
    assert await authorize(world, issued.nonce, wallet="other", work=done(issued)) == "REPLAYED"
    assert world.server.active_sessions == 1


async def test_a_challenge_under_attack_opens_one_session_however_soon_that_ends(world: World) -> None:
    host(world)
    await attack(world)
    issued = await challenge(world)
    assert await authorize(world, issued.nonce, work=done(issued), lifetime_s=1) == ""
    world.clock.advance(2.0)
    assert world.server.active_sessions == 0
    assert await authorize(world, issued.nonce, work=done(issued)) == "REPLAYED"


async def test_a_challenge_under_attack_is_good_for_a_minute(world: World) -> None:
    host(world)
    await attack(world)
    issued = await challenge(world)
    world.clock.advance(60.0)
    assert await authorize(world, issued.nonce, work=done(issued)) == "UNKNOWN_CHALLENGE"


async def test_who_has_a_session_needs_no_work(world: World) -> None:
    host(world)
    assert await opened(world) == ""
    await attack(world)
    issued = await challenge(world)
    assert issued.work_bits == 0
    assert await authorize(world, issued.nonce) == ""


async def test_a_wallet_of_the_list_needs_no_work_and_a_thief_learns_nothing_of_it(world: World) -> None:
    host(world, AdmissionPolicy(allowed_wallets=frozenset({wallet_of("friend").address_bytes})))
    await attack(world)
    assert await opened(world, "friend") == ""
    assert await opened(world, "thief", wallet="friend", signed_by="thief") == "WORK_REQUIRED"
    assert await opened(world, "thief", wallet="nobody", signed_by="thief") == "WORK_REQUIRED"


async def test_noise_without_work_leaves_the_checks_of_strangers_to_those_who_did_it(world: World) -> None:
    # Without the work before them, two hundred a second would have used up what strangers have.
    host(world)
    await attack(world)
    for number in range(1000):
        issued = await challenge(world, f"attacker {number % 100}")
        assert await authorize(world, issued.nonce, f"attacker {number % 100}") == "WORK_REQUIRED"
    issued = await challenge(world)
    assert await authorize(world, issued.nonce, work=done(issued)) == ""


async def test_a_host_gives_challenges_however_many_are_asked_for(world: World) -> None:
    host(world)
    await attack(world)
    for number in range(9_000):
        await challenge(world, f"attacker {number % 100}")
    assert len(world.server._gate._challenges) <= 1000
    assert (await challenge(world)).work_bits == 14


async def test_after_the_attack_all_is_as_before(world: World) -> None:
    host(world)
    await attack(world)
    world.clock.advance(200.0)
    issued = await challenge(world)
    assert issued.work_bits == 0
    assert await authorize(world, issued.nonce) == ""


# --- deposits ---


@dataclass
class Desk:
    """Takes proofs that begin with "paid"; waits until it is let go on."""

    asked: list[DepositClaim] = field(default_factory=list)
    may_answer: trio.Event = field(default_factory=trio.Event)

    async def verify_deposit(self, claim: DepositClaim) -> DepositVerdict:
        self.asked.append(claim)
        await self.may_answer.wait()
        return DepositVerdict(is_enough=claim.proof.startswith(b"paid"), why="send paid")


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.may_answer.set()
    return made


async def test_a_deposit_is_asked_of_strangers(world: World, desk: Desk) -> None:
    host(world, AdmissionPolicy(allowed_wallets=frozenset({wallet_of("friend").address_bytes})), deposits=desk)
    assert await opened(world) == "DEPOSIT_REQUIRED"
    assert await opened(world, proof=b"promised") == "DEPOSIT_REFUSED"
    assert await opened(world, proof=b"paid 5") == ""
    assert await opened(world, "friend") == ""
    assert [claim.wallet for claim in desk.asked] == [wallet_of("client").address_bytes] * 2
    assert desk.asked[1].proof == b"paid 5"
    assert (desk.asked[1].spending_limit_micros, desk.asked[1].currency) == (10_000, "USD")
    assert desk.asked[1].peer_id == key_of("client").peer_id


async def test_who_has_no_deposit_uses_up_nothing_of_his_networks_sessions(world: World, desk: Desk) -> None:
    host(world, AdmissionPolicy(sessions_per_network=Rate(per_second=0.1, burst=2)), deposits=desk)
    for name in ("client", "poor"):
        world.networks[key_of(name).peer_id] = "203.0.113.0/24"
    assert {await opened(world, "poor", proof=b"promised") for _ in range(9)} == {"DEPOSIT_REFUSED"}
    assert [await opened(world, proof=b"paid") for _ in range(3)] == ["", "", "RATE_LIMITED"]


async def test_a_deposit_is_not_looked_at_before_the_signature(world: World, desk: Desk) -> None:
    host(world, deposits=desk)
    assert await opened(world, "thief", wallet="client", signed_by="thief", proof=b"paid") == "BAD_SIGNATURE"
    assert desk.asked == []


async def test_what_happens_while_a_deposit_is_checked_counts(world: World) -> None:
    desk = Desk()
    host(world, deposits=desk)
    nonce = (await challenge(world)).nonce
    answers: list[str] = []

    async def ask(**more: Any) -> None:
        answers.append(await authorize(world, nonce, proof=b"paid", **more))

    async with trio.open_nursery() as nursery:
        for wallet in ("client", "client", "other"):
            nursery.start_soon(lambda wallet=wallet: ask(wallet=wallet))
        await trio.testing.wait_all_tasks_blocked()
        assert len(desk.asked) == 3
        desk.may_answer.set()
    # One of them opened the session; the same authorisation gets the same grant, the other one nothing.
    assert sorted(answers) in (["", "", "REPLAYED"], ["", "REPLAYED", "REPLAYED"])
    assert world.server.granted == 1
    assert world.server.active_sessions == 1


async def test_a_host_that_drains_meanwhile_opens_nothing(world: World) -> None:
    desk = Desk()
    server = host(world, deposits=desk)
    nonce = (await challenge(world)).nonce
    async with trio.open_nursery() as nursery:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await authorize(world, nonce, proof=b"paid"))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        server.drain()
        desk.may_answer.set()
    assert answers == ["DRAINING"]
    assert server.active_sessions == 0
