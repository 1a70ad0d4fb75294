"""How large a slice a client owes at most: what it names, what it takes by itself, and what a host takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sessions.client_kit import start

from hostmesh.errors import ConfigError, SessionError, UsageError
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.client_terms import ChosenHost, SessionWish, draft_terms, slice_of
from hostmesh.sessions.server_limits import SessionServerLimits, limits_of_slices
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

MODEL = "smollm2-135m-instruct"
amounts = st.integers(0, 2**40)


@given(price=amounts, limit=amounts, tokens=st.sampled_from([1, 1024, 8192]))
def test_a_slice_is_worth_so_many_tokens_and_never_above_the_limit(price: int, limit: int, tokens: int) -> None:
    found = slice_of(tokens, price, limit)
    assert found <= limit
    assert found == limit or found * 1_000_000 >= price * tokens > (found - 1) * 1_000_000
    assert (found == 0) == (price == 0 or limit == 0)


async def test_a_slice_that_nobody_names_is_at_the_hosts_price_however_high_the_ceiling(world: World) -> None:
    session = await start(world.manager(), world, 10**9, max_price_micros_per_mtok=150_000 * 1000)
    # 8,192 tokens at 150,000 a million.
    assert session.slice_micros == 1_229


@pytest.mark.parametrize(
    ("least", "most", "tokens"),
    [(0, 0, 8192), (1, 2**63, 8192), (1, 1000, 1000), (20_000, 65_536, 20_000), (10**6, 10**7, 65_536), (9, 8, 9)],
)
def test_a_slice_that_nobody_names_keeps_to_what_hosts_say(least: int, most: int, tokens: int, world: World) -> None:
    def answer(slice_micros: int | None, *, price: int = 10**6, ceiling: int | None = None) -> int:
        draft = draft_terms(
            ChosenHost(
                peer_id=world.host.peer_id,
                operator=world.operator.address_bytes,
                model_id=MODEL,
                price=ModelPrice(micros_per_mtok=price, currency="USD"),
            ),
            SessionWish(
                spending_limit_micros=10**12,
                model_id=None,
                max_price_micros_per_mtok=ceiling,
                currency=None,
                slice_micros=slice_micros,
                lifetime_s=60,
            ),
            client=bytes(20),
            client_peer_id=world.client.peer_id,
            delegation=None,
            network="testnet",
        )
        challenge = pb.Challenge(nonce=bytes(32), min_slice_tokens=least, max_slice_tokens=most)
        return draft.answer(challenge, now=1_700_000_000).slice_micros

    assert answer(None) == tokens
    assert answer(7) == 7, "a slice that is named is what it is"
    # Of a model that is free now, the ceiling says what a slice is worth.
    assert answer(None, price=0, ceiling=10**6) == tokens


async def test_a_slice_below_the_least_of_the_host_is_refused_with_what_it_takes(world: World) -> None:
    world.limits = SessionServerLimits()
    world.restart()
    # 1,024 tokens at 150,000 a million are 153.6.
    for limit, slice_micros in ((10_000, 154), (154, None), (20, None)):
        session = await start(world.manager(), world, limit, slice_micros=slice_micros)
        assert session.slice_micros == min(limit, 154)
    for limit, slice_micros in ((10_000, 153), (154, 153), (20, 19)):
        with pytest.raises(SessionError) as caught:
            await start(world.manager(), world, limit, slice_micros=slice_micros)
        assert caught.value.reason == "SLICE_TOO_SMALL"
        assert "154" in caught.value.message
        assert "slice_micros" in caught.value.remedy


def test_bounds_of_slices_that_contradict_each_other_are_refused() -> None:
    for wrong in ((2048, 1024), (0, None), (None, 0)):
        with pytest.raises(ConfigError):
            limits_of_slices(*wrong, longest_context_tokens=0)
    limits = limits_of_slices(None, None, longest_context_tokens=131_072)
    assert (limits.min_slice_tokens, limits.max_slice_tokens) == (1024, 131_072)


async def test_a_slice_is_chosen_signed_and_told(world: World) -> None:
    manager = world.manager()
    assert (await start(manager, world)).slice_micros == 1_229
    session = await start(manager, world, slice_micros=2_000)
    assert session.slice_micros == 2_000
    call = type("Call", (), {"peer_id": world.client.peer_id, "session_id": session.session_id})()
    held = world.server.require_session(call, MODEL)
    assert (held.slice_micros, held.authorization_digest) == (2_000, session.authorization_digest)
    for limit, slice_micros in ((10_000, 0), (10_000, 10_001), (0, None)):
        with pytest.raises(UsageError):
            await start(manager, world, limit, slice_micros=slice_micros)
    with pytest.raises(SessionError) as caught:
        await start(manager, world, 2_000_000, slice_micros=9_832)
    assert caught.value.reason == "SLICE_TOO_LARGE"
    assert "9831" in caught.value.message
