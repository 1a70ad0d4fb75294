"""Contract wallets (EIP-1271): they delegate to keys, and are asked about that within bounds, or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from hostmesh.errors import ConfigError, RpcError, SessionError, StatusCode
from hostmesh.identity.delegation import delegation_of_message, digest_of_delegation, sign_delegation_revocation
from hostmesh.identity.typed_data import typed_digest
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.sessions.authorization import message_from_terms, terms_from_message
from hostmesh.sessions.contract_limits import ContractLimits
from hostmesh.sessions.delegation_table import DelegationLimits
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
CONTRACT = bytes([0xC0]) * 20
GOOD = b"what the contract takes"
KEY = Wallet.from_private_key("7a" * 32)
"""The session key that the contract delegates to."""


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


class Contracts:
    """A chain with one contract wallet."""

    def __init__(self, wait: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.wait = wait

    async def is_valid(self, address: bytes, digest: bytes, signature: bytes) -> bool:
        self.asked.append((address, digest, signature))
        await self.wait()
        return address == CONTRACT and signature == GOOD


def delegated(world: World, signature: bytes = GOOD) -> pb.Delegation:
    """Return the contract's delegation to the session key."""
    delegation = world.delegation(KEY)
    delegation.owner, delegation.signature = CONTRACT, signature
    return delegation


async def request_of(
    world: World, peer: PeerId | None = None, *, signature: bytes = GOOD, **changes: Any
) -> pb.AuthorizeRequest:
    """Return what the session key asks for; ``signature`` is the contract's, of the delegation."""
    peer = peer or world.client.peer_id
    delegation = delegated(world, signature)
    nonce = (await world.server.get_challenge(pb.GetChallengeRequest(), Call(peer))).nonce
    fields = {
        "client": CONTRACT,
        "client_peer_id": peer_id_to_bytes(peer),
        "delegation_digest": digest_of_delegation(delegation, NETWORK),
    }
    terms = world.terms(nonce, **(fields | changes))
    return pb.AuthorizeRequest(authorization=message_from_terms(terms, KEY.sign(terms, NETWORK)), delegation=delegation)


async def authorize(world: World, request: pb.AuthorizeRequest, peer: PeerId | None = None) -> bytes:
    return (await world.server.authorize(request, Call(peer or world.client.peer_id))).grant


def serve(world: World, contracts: Contracts, **limits: Any) -> Contracts:
    world.contracts = contracts
    world.limits = SessionServerLimits(contracts=ContractLimits(**limits))
    world.restart()
    return contracts


async def test_without_a_verifier_it_is_refused_and_told_why(world: World) -> None:
    with pytest.raises(RpcError) as caught:
        await authorize(world, await request_of(world))
    assert (caught.value.status, caught.value.reason) == (StatusCode.FAILED_PRECONDITION, "CONTRACT_WALLET")


@pytest.mark.parametrize("is_asked", [False, True])
async def test_a_contract_that_signs_a_session_itself_is_told_to_delegate(world: World, is_asked: bool) -> None:
    contracts = serve(world, Contracts()) if is_asked else Contracts()

    def before(method: Any, request: Any) -> None:
        if method.name == "Authorize":
            request.authorization.signature = GOOD

    world.before = before
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1_000)
    assert caught.value.reason == "CONTRACT_WALLET"
    assert caught.value.remedy.startswith("delegate to a session key")
    assert contracts.asked == []
    assert (world.server.granted, world.server.active_sessions) == (0, 0)


async def test_65_bytes_of_a_contract_are_a_wrong_signature(world: World) -> None:
    serve(world, Contracts())
    terms = world.terms(await world.nonce(), client=CONTRACT)
    for signature in (bytes(64) + b"\x1b", KEY.sign(terms, NETWORK)):
        with pytest.raises(RpcError) as caught:
            await authorize(world, pb.AuthorizeRequest(authorization=message_from_terms(terms, signature)))
        assert caught.value.reason == "BAD_SIGNATURE"


async def test_a_verifier_is_asked_for_exactly_this(world: World) -> None:
    contracts = serve(world, Contracts())
    request = await request_of(world)
    grant = await authorize(world, request)
    digest = typed_digest(delegation_of_message(request.delegation), NETWORK)
    assert contracts.asked == [(CONTRACT, digest, GOOD)]
    # A repetition asks nobody.
    assert await authorize(world, request) == grant
    assert len(contracts.asked) == 1


async def test_what_the_contract_does_not_take_is_no_signature(world: World) -> None:
    serve(world, Contracts())
    for signature in (b"another", bytes(64) + b"\x1b"):
        with pytest.raises(RpcError) as caught:
            await authorize(world, await request_of(world, signature=signature))
        assert caught.value.reason == "DELEGATION_BAD_SIGNATURE"


async def test_a_key_asks_no_contract(world: World) -> None:
    contracts = serve(world, Contracts())
    terms = world.terms(await world.nonce())
    await authorize(
        world, pb.AuthorizeRequest(authorization=message_from_terms(terms, world.wallet.sign(terms, NETWORK)))
    )
    assert contracts.asked == []


async def test_cheap_checks_come_before_the_contract(world: World) -> None:
    contracts = serve(world, Contracts())
    for changes in ({"currency": "EUR"}, {"nonce": bytes(32)}, {"slice_micros": 0}, {"host_peer_id": b"another"}):
        with pytest.raises(RpcError):
            await authorize(world, await request_of(world, **changes))
    request = await request_of(world)
    request.authorization.signature = world.wallet.sign(terms_from_message(request.authorization), NETWORK)
    with pytest.raises(RpcError, match="not signed by who it says"):
        await authorize(world, request)
    assert contracts.asked == []


async def test_a_chain_that_does_not_answer_is_given_up(world: World, autojump_clock: trio.testing.MockClock) -> None:
    serve(world, Contracts(trio.sleep_forever), timeout_s=3.0)
    request = await request_of(world)
    began = trio.current_time()
    with pytest.raises(RpcError) as caught:
        await authorize(world, request)
    assert trio.current_time() - began == 3.0
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "CONTRACT_UNAVAILABLE")
    assert caught.value.retry_after_ms == 5_000
    assert world.server.granted == 0


async def test_a_verifier_that_fails_is_no_answer(world: World) -> None:
    async def fail() -> None:
        raise OSError("no route to the chain at 192.0.2.1")

    serve(world, Contracts(fail))
    with pytest.raises(RpcError) as caught:
        await authorize(world, await request_of(world))
    assert caught.value.reason == "CONTRACT_UNAVAILABLE"
    assert "192" not in caught.value.message


async def test_only_so_many_are_asked_at_once(world: World, autojump_clock: trio.testing.MockClock) -> None:
    contracts = serve(world, Contracts(trio.sleep_forever), at_once=3, at_once_per_peer=2, timeout_s=5.0)
    peers = [peer_id_from_public_key(bytes([n]) * 32) for n in range(3)]
    outcomes: list[tuple[int, str]] = []

    async def attempt(number: int) -> None:
        request = await request_of(world, peers[number // 3])
        with pytest.raises(RpcError) as caught:
            await authorize(world, request, peers[number // 3])
        outcomes.append((number, caught.value.reason))
        assert caught.value.retry_after_ms == (1_000 if caught.value.reason == "RATE_LIMITED" else 5_000)

    async with trio.open_nursery() as nursery:
        for number in range(9):
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(attempt, number)
    asked = {number for number, reason in outcomes if reason == "CONTRACT_UNAVAILABLE"}
    # Two of the first peer, one more of the second: then three are asked.
    assert asked == {0, 1, 3}
    assert len(contracts.asked) == 3
    assert {reason for number, reason in outcomes if number not in asked} == {"RATE_LIMITED"}
    contracts.wait = trio.lowlevel.checkpoint
    await authorize(world, await request_of(world))


async def test_an_authorisation_that_comes_twice_while_the_chain_thinks_opens_one_session(world: World) -> None:
    thinking = trio.Event()
    serve(world, Contracts(thinking.wait))
    request = await request_of(world)
    grants: list[bytes] = []

    async def attempt() -> None:
        grants.append(await authorize(world, request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        nursery.start_soon(attempt)
        await trio.testing.wait_all_tasks_blocked()
        thinking.set()
    assert grants[0] == grants[1]
    assert (world.server.granted, world.server.active_sessions) == (1, 1)


async def test_what_happens_while_the_chain_thinks_counts(world: World) -> None:
    thinking = trio.Event()
    serve(world, Contracts(thinking.wait))
    request = await request_of(world)
    reasons: list[str] = []

    async def attempt() -> None:
        with pytest.raises(RpcError) as caught:
            await authorize(world, request)
        reasons.append(caught.value.reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        await trio.testing.wait_all_tasks_blocked()
        world.clock.advance(60)
        thinking.set()
    assert reasons == ["UNKNOWN_CHALLENGE"]
    assert world.server.active_sessions == 0


async def test_a_contract_may_own_a_delegation_and_take_it_back(world: World) -> None:
    contracts = serve(world, Contracts())
    delegation = delegated(world)
    digest = digest_of_delegation(delegation, NETWORK)
    for _ in range(2):
        terms = world.terms(await world.nonce(), client=CONTRACT, delegation_digest=digest)
        message = message_from_terms(terms, KEY.sign(terms, NETWORK))
        await authorize(world, pb.AuthorizeRequest(authorization=message, delegation=delegation))
    # Once for both: the same signature was found good.
    assert contracts.asked == [(CONTRACT, digest, GOOD)]
    revocation = sign_delegation_revocation(world.wallet, digest, network=NETWORK, now=world.clock.unix)
    revocation.owner, revocation.signature = CONTRACT, b"forged"
    with pytest.raises(RpcError) as caught:
        await world.server.revoke_delegation(
            pb.RevokeDelegationRequest(revocation=revocation), Call(world.client.peer_id)
        )
    assert caught.value.reason == "REVOCATION_BAD_SIGNATURE"
    revocation.signature = GOOD
    request = pb.RevokeDelegationRequest(revocation=revocation)
    assert (await world.server.revoke_delegation(request, Call(world.client.peer_id))).ended_sessions == 2


async def test_revocations_that_wait_for_the_chain_together_share_one_bound(world: World) -> None:
    thinking = trio.Event()
    world.contracts = Contracts(thinking.wait)
    world.limits = SessionServerLimits(contracts=ContractLimits(), delegations=DelegationLimits(revocations_per_peer=1))
    world.restart()
    outcomes: list[str] = []

    async def attempt(number: int) -> None:
        revocation = sign_delegation_revocation(
            world.wallet, number.to_bytes(32, "big"), network=NETWORK, now=world.clock.unix
        )
        revocation.owner, revocation.signature = CONTRACT, GOOD
        request = pb.RevokeDelegationRequest(revocation=revocation)
        try:
            await world.server.revoke_delegation(request, Call(world.client.peer_id))
        except RpcError as error:
            outcomes.append(error.reason)
        else:
            outcomes.append("taken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, 1)
        nursery.start_soon(attempt, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == [], "both are asked about"
        thinking.set()
    assert sorted(outcomes) == ["TOO_MANY_REVOCATIONS", "taken"]


async def test_a_session_key_is_never_a_contract(world: World) -> None:
    contracts = serve(world, Contracts())
    delegation = world.delegation(KEY)
    terms = world.terms(await world.nonce(), delegation_digest=digest_of_delegation(delegation, NETWORK))
    with pytest.raises(RpcError) as caught:
        await authorize(
            world, pb.AuthorizeRequest(authorization=message_from_terms(terms, GOOD), delegation=delegation)
        )
    assert caught.value.reason == "BAD_SIGNATURE"
    assert contracts.asked == []


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"timeout_s": 61.0}, {"at_once": 0}, {"at_once_per_peer": 0}])
def test_limits_have_bounds(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ContractLimits(**limits)
