"""A client opens sessions on a host: the whole exchange, and every way in which a host can lie or fail."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    MalformedMessageError,
    RpcError,
    SessionError,
    StatusCode,
    UsageError,
)
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.server_limits import SessionServerLimits

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
OTHER_WALLET = Wallet.from_private_key("5d" * 32)
OTHER_KEY = PeerKey(bytes([9]) * 32)


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: Any
    session_id: bytes


async def test_a_session_is_open_in_the_block_and_closed_after(world: World) -> None:
    async with world.manager().open_session(world.choice, spending_limit_micros=10_000) as session:
        assert world.server.active_sessions == 1
        call = Call(world.client.peer_id, session.session_id)
        held = world.server.require_session(call, MODEL)
        assert held.client == world.wallet.address
        assert (held.spending_limit_micros, held.max_price_micros_per_mtok, held.currency) == (10_000, 150_000, "USD")
        assert held.expires_at_unix_s == session.expires_at_unix_s == int(world.clock.unix) + 3600
        assert session.peer_id == world.host.peer_id
        assert session.operator == world.operator.address_bytes
        assert (session.model_id, session.currency) == (MODEL, "USD")
        assert (session.max_price_micros_per_mtok, session.spending_limit_micros) == (150_000, 10_000)
        assert session.grant
        assert session.session_id.hex() not in repr(session)
        assert not session.is_closed
    assert session.is_closed
    assert world.server.active_sessions == 0
    assert world.calls == ["GetChallenge", "Authorize", "CloseSession"]


async def test_the_terms_can_be_chosen(world: World) -> None:
    world.prices["other"] = ModelPrice(micros_per_mtok=7, currency="EUR")
    async with world.manager().open_session(
        world.choice,
        spending_limit_micros=5,
        model_id="other",
        max_price_micros_per_mtok=9,
        currency="EUR",
        lifetime_s=60,
    ) as session:
        held = world.server.require_session(Call(world.client.peer_id, session.session_id), "other")
        assert (held.max_price_micros_per_mtok, held.currency, held.spending_limit_micros) == (9, "EUR", 5)
        assert held.expires_at_unix_s == int(world.clock.unix) + 60


async def test_several_sessions_are_open_at_once(world: World) -> None:
    manager = world.manager()
    async with trio.open_nursery() as nursery:
        ids = set()

        async def hold() -> None:
            async with manager.open_session(world.choice, spending_limit_micros=1) as session:
                ids.add(session.session_id)
                if len(ids) == 50:
                    every.set()
                await every.wait()
                assert world.server.active_sessions > 0

        every = trio.Event()
        for _ in range(50):
            nursery.start_soon(hold)
    assert len(ids) == 50
    assert world.server.active_sessions == 0
    assert world.server.refusals == {}


UNUSABLE: dict[str, dict[str, Any]] = {
    "no life": {"lifetime_s": 0},
    "long life": {"lifetime_s": 86_401},
    "debt": {"spending_limit_micros": -1},
    "too much": {"spending_limit_micros": 2**64},
    "price": {"max_price_micros_per_mtok": -1},
    "part of a unit": {"spending_limit_micros": 1.0},
    "yes": {"spending_limit_micros": True},
    "part of a price": {"max_price_micros_per_mtok": 150_000.0},
    "part of a second": {"lifetime_s": 60.5},
    "no model": {"model_id": "m" * 129},
    "no currency": {"currency": "c" * 17},
    "no text": {"model_id": "\ud800"},
}


@pytest.mark.parametrize("changes", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_terms_that_no_host_can_accept_are_not_sent(changes: dict[str, Any], world: World) -> None:
    with pytest.raises(UsageError):
        async with world.manager().open_session(world.choice, **({"spending_limit_micros": 1} | changes)):
            pytest.fail("opened")
    assert world.calls == []


async def test_an_unpriced_choice_needs_a_ceiling_and_a_currency(world: World) -> None:
    choice = dataclasses.replace(world.choice, price=None)
    for changes in ({}, {"max_price_micros_per_mtok": 150_000}):
        with pytest.raises(UsageError):
            await world.manager().start_session(choice, spending_limit_micros=1, **changes)
    session = await world.manager().start_session(
        choice, spending_limit_micros=1, max_price_micros_per_mtok=150_000, currency="USD"
    )
    assert session.max_price_micros_per_mtok == 150_000


# --- a host that is not what discovery found ---


def other_operator(world: World, challenge: Any) -> None:
    challenge.operator = OTHER_WALLET.address_bytes


def other_operator_and_binding(world: World, challenge: Any) -> None:
    challenge.operator = OTHER_WALLET.address_bytes
    challenge.binding.CopyFrom(sign_binding(OTHER_WALLET, world.host.peer_id, network=NETWORK, now=world.clock.unix))


def binding_of_another_operator(world: World, challenge: Any) -> None:
    challenge.binding.CopyFrom(sign_binding(OTHER_WALLET, world.host.peer_id, network=NETWORK, now=world.clock.unix))


def binding_of_another_peer(world: World, challenge: Any) -> None:
    challenge.binding.CopyFrom(sign_binding(world.operator, OTHER_KEY.peer_id, network=NETWORK, now=world.clock.unix))


def binding_of_another_network(world: World, challenge: Any) -> None:
    challenge.binding.CopyFrom(
        sign_binding(world.operator, world.host.peer_id, network="hostmesh", now=world.clock.unix)
    )


def old_binding(world: World, challenge: Any) -> None:
    challenge.binding.CopyFrom(
        sign_binding(world.operator, world.host.peer_id, network=NETWORK, now=world.clock.unix - 700_000)
    )


def forged_binding(world: World, challenge: Any) -> None:
    challenge.binding.expires_at_unix_s += 1


def no_binding(world: World, challenge: Any) -> None:
    challenge.ClearField("binding")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_operator, "OPERATOR_CHANGED"),
        (other_operator_and_binding, "OPERATOR_CHANGED"),
        (binding_of_another_operator, "OPERATOR_CHANGED"),
        (binding_of_another_peer, "BAD_BINDING"),
        (binding_of_another_network, "BAD_BINDING"),
        (old_binding, "BAD_BINDING"),
        (forged_binding, "BAD_BINDING"),
        (no_binding, "BAD_BINDING"),
    ],
)
async def test_nothing_is_signed_for_a_host_that_proves_nothing(change: Any, reason: str, world: World) -> None:
    def after(method: Any, response: Any) -> Any:
        if method.name == "GetChallenge":
            change(world, response)
        return response

    world.after = after
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == reason
    assert caught.value.remedy
    assert world.calls == ["GetChallenge"]


async def test_a_grant_that_proves_nothing_is_no_session(world: World) -> None:
    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            response.grant = response.grant[:-1] + bytes([response.grant[-1] ^ 1])
        return response

    world.after = after
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "GRANT_BAD_SIGNATURE"


async def test_a_grant_of_another_session_is_no_session(world: World) -> None:
    grants = []

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            grants.append(response.grant)
            response.grant = grants[0]
        return response

    world.after = after
    await world.manager().start_session(world.choice, spending_limit_micros=1)
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "GRANT_WRONG_DIGEST"


# --- a host that refuses ---


async def test_a_refusal_says_why_and_what_to_do(world: World) -> None:
    world.prices[MODEL] = ModelPrice(micros_per_mtok=200_000, currency="USD")
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1, max_price_micros_per_mtok=199_999)
    assert caught.value.reason == "PRICE_TOO_LOW"
    assert "200000" in caught.value.message
    assert "ceiling" in caught.value.remedy
    assert isinstance(caught.value.__cause__, RpcError)


@pytest.mark.parametrize(("ahead_s", "reason"), [(31.5, "NOT_YET_VALID"), (-3601.0, "EXPIRED")])
async def test_a_clock_that_is_off_is_named(ahead_s: float, reason: str, world: World) -> None:
    with pytest.raises(SessionError) as caught:
        await world.manager(ahead_s=ahead_s).start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == reason
    assert "clock" in caught.value.remedy


@pytest.mark.parametrize("ahead_s", [29.0, -29.0])
async def test_clocks_may_differ_by_half_a_minute(ahead_s: float, world: World) -> None:
    session = await world.manager(ahead_s=ahead_s).start_session(world.choice, spending_limit_micros=1)
    assert session.session_id


async def test_a_client_of_another_network_is_told(world: World) -> None:
    with pytest.raises(SessionError) as caught:
        await world.manager(network="hostmesh").start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "BAD_BINDING"
    assert "network" in caught.value.message + caught.value.remedy


async def test_a_busy_host_says_when_to_return(world: World) -> None:
    world.limits = SessionServerLimits(challenges=ChallengeLimits(per_peer=1))
    world.server = world.new_server()
    await world.nonce()
    with pytest.raises(RpcError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert (caught.value.status, caught.value.retry_after_ms) == (StatusCode.RESOURCE_EXHAUSTED, 60_000)
    assert caught.value.retry_safe


async def test_a_draining_host_sends_the_client_elsewhere(world: World) -> None:
    world.server.drain()
    with pytest.raises(SessionError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "DRAINING"


async def test_a_reason_from_a_newer_host_is_handed_on(world: World) -> None:
    def before(method: Any, request: Any) -> None:
        raise RpcError("no", status=StatusCode.PERMISSION_DENIED, reason="NEW_WORD")

    world.before = before
    with pytest.raises(RpcError) as caught:
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "NEW_WORD"


# --- a path that fails ---


async def test_a_lost_answer_is_asked_for_again_and_opens_one_session(world: World) -> None:
    lost = 2

    def after(method: Any, response: Any) -> Any:
        nonlocal lost
        if method.name == "Authorize" and lost:
            lost -= 1
            raise ConnectionLostError("the connection ended")
        return response

    world.after = after
    session = await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert world.calls == ["GetChallenge", "Authorize", "Authorize", "Authorize"]
    assert (world.server.granted, world.server.active_sessions) == (1, 1)
    world.server.require_session(Call(world.client.peer_id, session.session_id), MODEL)


async def test_a_path_that_stays_broken_is_given_up(world: World) -> None:
    def before(method: Any, request: Any) -> None:
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")

    world.before = before
    with pytest.raises(ConnectionLostError):
        await world.manager().start_session(world.choice, spending_limit_micros=1)
    assert world.calls == ["GetChallenge", "Authorize", "Authorize", "Authorize"]


async def test_opening_has_one_deadline_for_everything(world: World, autojump_clock: trio.testing.MockClock) -> None:
    started = trio.current_time()

    def after(method: Any, response: Any) -> Any:
        autojump_clock.jump(6.0)
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")
        return response

    world.after = after
    with pytest.raises(ConnectionLostError):
        await world.manager().start_session(world.choice, spending_limit_micros=1, timeout_s=10.0)
    assert trio.current_time() - started == 12.0

    def late(method: Any, response: Any) -> Any:
        autojump_clock.jump(10.0)
        return response

    world.after = late
    with pytest.raises(DeadlineExceededError):
        await world.manager().start_session(world.choice, spending_limit_micros=1, timeout_s=10.0)
    assert world.calls[-1] == "GetChallenge"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLostError("gone"),
        DeadlineExceededError("late"),
        DialError("unreachable", stage="dial"),
        RpcError("no", status=StatusCode.UNAUTHENTICATED, reason="UNAUTHORIZED"),
        MalformedMessageError("nonsense"),
    ],
    ids=lambda error: error.code,
)
async def test_closing_is_best_effort(error: Exception, world: World) -> None:
    def before(method: Any, request: Any) -> None:
        if method.name == "CloseSession":
            raise error

    world.before = before
    async with world.manager().open_session(world.choice, spending_limit_micros=1) as session:
        pass
    assert session.is_closed
    assert world.calls.count("CloseSession") == 1


async def test_what_fails_in_the_block_comes_out_of_it(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.manager().open_session(world.choice, spending_limit_micros=1):
            raise ZeroDivisionError
    assert world.server.active_sessions == 0


async def test_closing_twice_asks_once(world: World) -> None:
    session = await world.manager().start_session(world.choice, spending_limit_micros=1)
    await session.close()
    await session.close()
    assert world.calls.count("CloseSession") == 1


class SilentHost:
    """Passes calls on, but never answers CloseSession."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self.asked = trio.Event()

    async def unary(self, peer_id: Any, method: Any, request: Any, **options: Any) -> Any:
        if method.name == "CloseSession":
            self.asked.set()
            await trio.sleep_forever()
        return await self._wire.unary(peer_id, method, request, **options)


async def test_a_cancelled_block_closes_its_session_within_two_seconds(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    manager = world.manager()
    manager._caller = silent = SilentHost(manager._caller)
    with trio.CancelScope() as scope:
        async with manager.open_session(world.choice, spending_limit_micros=1):
            started = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert silent.asked.is_set()
    assert trio.current_time() - started == 2.0
