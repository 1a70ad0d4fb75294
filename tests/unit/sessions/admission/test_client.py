"""A client at a host that asks for work or a deposit: what it sends, in which order, and what it does not do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import trio

from hostmesh.errors import SessionError, UsageError
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions import opening
from hostmesh.sessions.admission.deposits import DepositClaim, DepositVerdict
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.work import WorkLimit, find_work
from hostmesh.sessions.server import SessionServer
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

CHALLENGE, AUTHORIZE, CLOSE = "GetChallenge", "Authorize", "CloseSession"


class Call:
    session_id = b""

    def __init__(self, number: int) -> None:
        self.peer_id = PeerKey(hashlib.sha256(str(number).encode()).digest()).peer_id


CROWD = [Call(number) for number in range(50)]


def host(world: World, **more: Any) -> SessionServer:
    world.server = SessionServer(
        key=world.host,
        binding=world.binding,
        network="hostmesh-test",
        price_of=lambda model_id, peer_id: world.prices.get(model_id),
        system=world.clock.system(),
        **more,
    )
    return world.server


async def attack(world: World) -> None:
    for _ in range(20):
        for call in CROWD:
            world.clock.advance(0.001)
            await world.server.get_challenge(pb.GetChallengeRequest(), call)
    assert world.server.work_bits == 14


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, WorkLimit]]:
    """The work that was begun. It is done here, at once."""
    begun: list[tuple[int, WorkLimit]] = []

    async def do_work(nonce: bytes, bits: int, limit: WorkLimit) -> bytes:
        begun.append((bits, limit))
        await trio.lowlevel.checkpoint()
        work = find_work(nonce, bits, first=0, tries=1 << 20)
        assert work is not None
        return work

    monkeypatch.setattr(opening, "do_work", do_work)
    return begun


async def test_work_is_done_when_it_is_asked_for(world: World, works: list[tuple[int, WorkLimit]]) -> None:
    host(world)
    async with world.manager().open_session(world.choice, spending_limit_micros=10_000):
        assert works == []
    await attack(world)
    world.calls.clear()
    limit = WorkLimit(max_bits=15, max_s=3.0)
    async with world.manager().open_session(world.choice, spending_limit_micros=10_000, work=limit):
        assert world.server.active_sessions == 1
    assert world.calls == [CHALLENGE, AUTHORIZE, AUTHORIZE, CLOSE]
    assert works == [(14, limit)]


async def test_a_wallet_of_the_list_does_none(world: World, works: list[tuple[int, WorkLimit]]) -> None:
    host(world, admission=AdmissionPolicy(allowed_wallets=frozenset({world.wallet.address_bytes})))
    await attack(world)
    async with world.manager().open_session(world.choice, spending_limit_micros=10_000):
        pass
    assert world.calls == [CHALLENGE, AUTHORIZE, CLOSE]
    assert works == []


async def test_a_second_session_needs_none(world: World, works: list[tuple[int, WorkLimit]]) -> None:
    host(world)
    await attack(world)
    manager = world.manager()
    async with (
        manager.open_session(world.choice, spending_limit_micros=10_000),
        manager.open_session(world.choice, spending_limit_micros=10_000),
    ):
        assert world.server.active_sessions == 2
    assert len(works) == 1


async def test_an_attack_that_begins_meanwhile_costs_another_challenge(
    world: World, works: list[tuple[int, WorkLimit]]
) -> None:
    host(world)

    def begin(method: Any, request: Any) -> None:
        if method.name == AUTHORIZE and AUTHORIZE not in world.calls[:-1]:
            world.server._gate._admission.attack.called(world.clock.monotonic, 1000)

    world.before = begin
    async with world.manager().open_session(world.choice, spending_limit_micros=10_000):
        assert world.server.active_sessions == 1
    assert world.calls == [CHALLENGE, AUTHORIZE, CHALLENGE, AUTHORIZE, AUTHORIZE, CLOSE]
    assert len(works) == 1


async def test_more_than_was_agreed_is_not_done(world: World) -> None:
    host(world)
    await attack(world)
    manager = world.manager()
    with pytest.raises(SessionError) as caught:
        async with manager.open_session(world.choice, spending_limit_micros=10_000, work=WorkLimit(max_bits=13)):
            pass
    assert caught.value.reason == "WORK_REQUIRED"
    assert caught.value.remedy
    assert world.calls == [CHALLENGE, AUTHORIZE]
    assert world.server.active_sessions == 0
    assert manager.resumable() == []


async def test_a_host_that_is_never_content_gets_work_once(world: World, works: list[tuple[int, WorkLimit]]) -> None:
    host(world)
    await attack(world)

    def break_work(method: Any, request: Any) -> None:
        if method.name == AUTHORIZE:
            request.work = b""

    world.before = break_work
    with pytest.raises(SessionError) as caught:
        async with world.manager().open_session(world.choice, spending_limit_micros=10_000):
            pass
    assert caught.value.reason == "WORK_REQUIRED"
    assert world.calls == [CHALLENGE, AUTHORIZE, AUTHORIZE]
    assert len(works) == 1


class Desk:
    def __init__(self) -> None:
        self.proofs: list[bytes] = []

    async def verify_deposit(self, claim: DepositClaim) -> DepositVerdict:
        self.proofs.append(claim.proof)
        return DepositVerdict(is_enough=claim.proof == b"paid", why="the desk wants paid")


async def test_a_proof_of_a_deposit_is_brought(world: World) -> None:
    desk = Desk()
    host(world, deposits=desk)
    for proof, reason in ((b"", "DEPOSIT_REQUIRED"), (b"soon", "DEPOSIT_REFUSED")):
        with pytest.raises(SessionError) as caught:
            async with world.manager().open_session(world.choice, spending_limit_micros=1, deposit_proof=proof):
                pass
        assert caught.value.reason == reason
        assert "deposit_proof" in caught.value.remedy
    assert "the desk wants paid" in caught.value.message
    async with world.manager().open_session(world.choice, spending_limit_micros=1, deposit_proof=b"paid"):
        assert world.server.active_sessions == 1
    assert desk.proofs == [b"soon", b"paid"]


async def test_a_proof_is_bounded_before_anything_is_sent(world: World) -> None:
    with pytest.raises(UsageError):
        async with world.manager().open_session(world.choice, spending_limit_micros=1, deposit_proof=bytes(2049)):
            pass
    assert world.calls == []
