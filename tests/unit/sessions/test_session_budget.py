"""What a client may spend in all its sessions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sessions.client_kit import NETWORK, on_disk, start

from hostmesh.errors import (
    BudgetExceededError,
    SessionError,
    StoreError,
    UsageError,
)
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client_record import ClientState
from hostmesh.sessions.client_store import MAX_SESSIONS, ClientStore
from hostmesh.sessions.session import Session

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


MODEL = "smollm2-135m-instruct"


async def test_the_limits_of_open_sessions_stay_within_the_budget(world: World) -> None:
    manager = world.manager()
    manager.set_budget("USD", 25_000)
    first, second = await start(manager, world), await start(manager, world)
    world.calls.clear()
    with pytest.raises(BudgetExceededError) as caught:
        await start(manager, world, 5_001)
    error = caught.value
    assert (error.currency, error.limit_micros, error.spent_micros, error.open_micros) == ("USD", 25_000, 0, 20_000)
    assert error.needed_micros == 5_001
    assert world.calls == []
    first.charge(4_000)
    await first.close()
    assert manager.budget("USD") == Budget(currency="USD", limit_micros=25_000, spent_micros=4_000, open_micros=10_000)
    await start(manager, world, 11_000)
    second.charge(10_000)
    assert manager.budget("USD").left_micros == 0


async def test_another_currency_has_a_budget_of_its_own(world: World) -> None:
    manager = world.manager()
    manager.set_budget("EUR", 0)
    await start(manager, world)
    with pytest.raises(BudgetExceededError):
        await start(manager, world, currency="EUR")


async def test_what_was_spent_outlives_the_process_and_the_session(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    manager.set_budget("USD", 12_000)
    session = await start(manager, world)
    session.charge(3_000)
    assert world.manager(path=path).budget("USD").left_micros == 2_000
    world.clock.advance(3_600)
    again = world.manager(path=path)
    assert again.budget("USD") == Budget(currency="USD", limit_micros=12_000, spent_micros=3_000)
    with pytest.raises(BudgetExceededError):
        await start(again, world)
    again.set_budget("USD", 12_000, begin_anew=True)
    await start(again, world)


async def test_programs_that_share_a_file_share_the_budget(world: World, path: Path) -> None:
    first, second = world.manager(path=path), world.manager(key=PeerKey(bytes([9]) * 32), path=path)
    first.set_budget("USD", 15_000)
    await start(first, world)
    with pytest.raises(BudgetExceededError):
        await start(second, world)


async def test_two_that_race_for_the_rest_of_the_budget_get_one_session(world: World, path: Path) -> None:
    """The second passes the first look, and is stopped where its authorisation is written."""
    first, second = world.manager(path=path), world.manager(path=path)
    first.set_budget("USD", 10_000)
    raced = False

    def after(method: Any, response: Any) -> Any:
        nonlocal raced
        if method.name == "GetChallenge" and not raced:
            raced = True
            ClientStore(path, network=NETWORK).set_budget("USD", 0, begin_anew=False, now=world.clock.unix)
        return response

    world.after = after
    with pytest.raises(BudgetExceededError):
        await start(second, world)
    assert world.calls == ["GetChallenge"]


async def test_a_charge_is_on_disk_and_never_above_the_limit(world: World, path: Path) -> None:
    session: Session = await start(world.manager(path=path), world)
    session.charge(6_000)
    assert on_disk(path, "SELECT spent_micros FROM sessions") == [("6000",)]
    with pytest.raises(SessionError) as caught:
        session.charge(4_001)
    assert caught.value.reason == "SPENDING_LIMIT"
    session.charge(4_000)
    assert session.spent_micros == 10_000
    for amount in (-1, 1.0, True):
        with pytest.raises(UsageError):
            session.charge(amount)  # type: ignore[arg-type]


async def test_a_charge_after_the_end_needs_room_in_the_budget(world: World) -> None:
    manager = world.manager()
    manager.set_budget("USD", 10_000)
    session = await start(manager, world)
    await session.close()
    session.charge(1_000)
    await start(manager, world, 8_500)
    with pytest.raises(BudgetExceededError):
        session.charge(501)
    session.charge(500)


FULL = "CREATE TRIGGER full_{0} BEFORE {0} ON sessions BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"


async def test_on_a_full_disk_nothing_is_sent_and_nothing_acknowledged(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)
    on_disk(path, FULL.format("INSERT"))
    world.calls.clear()
    with pytest.raises(StoreError):
        await start(manager, world)
    assert world.calls == ["GetChallenge"]
    on_disk(path, FULL.format("UPDATE"))
    with pytest.raises(StoreError):
        session.charge(1)
    assert session.spent_micros == 0
    assert manager.budget("USD").spent_micros == 0
    # Ending needs no disk: it holds here, and on disk when it expires.
    await session.close()
    assert session.state is ClientState.CLOSED


async def test_a_grant_that_cannot_be_written_can_be_resumed(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    on_disk(path, FULL.format("UPDATE"))
    with pytest.raises(StoreError):
        await start(manager, world)
    on_disk(path, "DROP TRIGGER full_UPDATE")
    again = world.manager(path=path)
    await again.resume(again.resumable()[0].authorization_digest)
    assert world.server.granted == 1


def test_the_number_of_sessions_is_bounded(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    rows = ",".join(
        f"('{NETWORK}', x'00', x'{number:064x}', x'', 'active', '', x'', x'', 'USD', '1', '0', 2000000000)"
        for number in range(MAX_SESSIONS)
    )
    on_disk(
        path,
        "INSERT INTO sessions (network, client_peer_id, digest, authorization, state, end_reason, session_id, "
        f"grant_envelope, currency, limit_micros, spent_micros, expires_at_unix_s) VALUES {rows}",
    )
    terms = replace(world.terms(bytes(32)))
    with pytest.raises(SessionError) as caught:
        manager._book.begin(bytes(32), terms, bytes(65), None)
    assert caught.value.reason == "TOO_MANY_SESSIONS"


amounts = st.integers(0, 2**64 - 1)


@given(limit=amounts, spent=amounts, held=amounts, needed=amounts)
def test_a_budget_lets_pass_what_fits_and_nothing_else(limit: int, spent: int, held: int, needed: int) -> None:
    budget = Budget(currency="USD", limit_micros=limit, spent_micros=spent, open_micros=held)
    if needed == 0 or spent + held + needed <= limit:
        budget.require(needed)
    else:
        with pytest.raises(BudgetExceededError):
            budget.require(needed)
    Budget(currency="USD", limit_micros=None, spent_micros=spent, open_micros=held).require(needed)


@pytest.mark.parametrize("limit", [-1, 1.0, True, 2**64])
def test_a_budget_is_a_whole_number(limit: Any, world: World) -> None:
    with pytest.raises(UsageError):
        world.manager().set_budget("USD", limit)
