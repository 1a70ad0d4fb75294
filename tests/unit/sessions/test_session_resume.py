"""A client's sessions outlive its process, lost answers and its host's restart; and never cost more than its budget."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import (
    BudgetExceededError,
    ConnectionLostError,
    DialError,
    RpcError,
    SessionError,
    StatusCode,
    StoreError,
    UsageError,
)
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation_revocation
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client import SessionManager
from hostmesh.sessions.client_record import ClientState
from hostmesh.sessions.client_store import MAX_SESSIONS, ClientStore
from hostmesh.sessions.client_terms import default_slice
from hostmesh.sessions.session import Session
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
KEY = Wallet.from_private_key("7a" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@pytest.fixture
def kept(world: World, tmp_path: Path) -> World:
    world.path = tmp_path / "hosted_sessions.sqlite3"
    world.restart()
    return world


def on_disk(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


def start(manager: SessionManager, world: World, limit: int = 10_000, **options: Any) -> Any:
    return manager.start_session(world.choice, spending_limit_micros=limit, **options)


# --- resuming ---


async def test_a_session_is_on_disk_before_its_authorisation_leaves(world: World, path: Path) -> None:
    seen: list[Any] = []

    def before(method: Any, request: Any) -> None:
        if method.name == "Authorize":
            seen.extend(on_disk(path, "SELECT state, authorization FROM sessions"))
            assert seen == [("pending", request.authorization.SerializeToString())]

    world.before = before
    session = await start(world.manager(path=path), world)
    assert len(seen) == 1
    assert session.state is ClientState.ACTIVE
    assert on_disk(path, "SELECT state, session_id FROM sessions") == [("active", session.session_id)]


async def test_after_a_restart_of_the_client_the_same_session_goes_on(world: World, path: Path) -> None:
    before = await start(world.manager(path=path), world)
    before.charge(1_200)
    manager = world.manager(path=path)
    (listed,) = manager.resumable()
    assert (listed.session_id, listed.spent_micros, listed.state) == (before.session_id, 1_200, ClientState.ACTIVE)
    world.calls.clear()
    for key in (before.session_id, before.authorization_digest):
        session = await manager.resume(key)
        assert (session.session_id, session.grant, session.spent_micros) == (before.session_id, before.grant, 1_200)
        assert session.expires_at_unix_s == before.expires_at_unix_s
    assert world.calls == ["Authorize", "Authorize"]
    assert (world.server.granted, world.server.active_sessions) == (1, 1)


async def test_after_a_restart_of_the_host_the_same_session_goes_on(kept: World, path: Path) -> None:
    session = await start(kept.manager(path=path), kept)
    kept.restart()
    assert (await kept.manager(path=path).resume(session.session_id)).grant == session.grant
    await session.close()
    assert session.state is ClientState.CLOSED
    assert kept.server.active_sessions == 0


async def test_a_lost_answer_leaves_a_session_that_can_be_resumed(world: World, path: Path) -> None:
    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")
        return response

    world.after = after
    with pytest.raises(ConnectionLostError):
        await start(world.manager(path=path), world)
    world.after = lambda method, response: response
    manager = world.manager(path=path)
    (pending,) = manager.resumable()
    assert (pending.state, pending.session_id) == (ClientState.PENDING, b"")
    session = await manager.resume(pending.authorization_digest)
    assert session.state is pending.state is ClientState.ACTIVE
    assert world.server.granted == 1


async def test_an_authorisation_that_never_arrived_opens_its_session_when_it_is_resumed(
    world: World, path: Path
) -> None:
    def before(method: Any, request: Any) -> None:
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")

    world.before = before
    with pytest.raises(ConnectionLostError):
        await start(world.manager(path=path), world)
    world.before = lambda method, request: None
    manager = world.manager(path=path)
    await manager.resume(manager.resumable()[0].authorization_digest)
    assert world.server.granted == 1


async def test_a_host_that_lost_its_store_ends_the_session_and_opens_another(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)
    world.restart()
    with pytest.raises(SessionError) as caught:
        await manager.resume(session.session_id)
    assert caught.value.reason == "UNKNOWN_SESSION"
    assert "new session" in caught.value.remedy
    assert (session.state, session.end_reason) == (ClientState.CLOSED, "UNKNOWN_SESSION")
    assert manager.resumable() == []
    assert (await start(manager, world)).session_id != session.session_id


async def test_what_is_over_is_not_resumed(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    closed, expired, ended = [await start(manager, world, lifetime_s=60) for _ in range(3)]
    await closed.close()
    await world.server.close_session(
        pb.CloseSessionRequest(session_id=ended.session_id), type("Call", (), {"peer_id": world.client.peer_id})()
    )
    for session, reason in ((closed, "SESSION_CLOSED"), (ended, "SESSION_CLOSED")):
        with pytest.raises(SessionError) as caught:
            await manager.resume(session.session_id)
        assert caught.value.reason == reason
    world.clock.advance(60)
    assert expired.state is ClientState.EXPIRED
    with pytest.raises(SessionError) as caught:
        await manager.resume(expired.session_id)
    assert caught.value.reason == "SESSION_EXPIRED"
    with pytest.raises(SessionError) as caught:
        await world.manager(path=path).resume(bytes(16))
    assert caught.value.reason == "UNKNOWN_SESSION"


async def test_a_host_that_cannot_be_reached_leaves_the_session_as_it_was(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)

    def before(method: Any, request: Any) -> None:
        raise DialError("unreachable", stage="dial")

    world.before = before
    with pytest.raises(DialError):
        await manager.resume(session.session_id)
    assert session.state is ClientState.ACTIVE


async def test_a_host_that_grants_another_session_for_the_same_word_is_not_trusted(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)
    record = world.server._book.table._by_id[session.session_id]
    from hostmesh.sessions.grant import seal_grant

    record.grant = seal_grant(world.host, record.terms, network=NETWORK, session_id=bytes(16), now=world.clock.unix)
    with pytest.raises(SessionError) as caught:
        await manager.resume(session.session_id)
    assert caught.value.reason == "GRANT_CHANGED"
    assert session.state is ClientState.CLOSED


async def test_a_refused_authorisation_leaves_nothing(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    world.server.drain()
    opened = world.before

    def before(method: Any, request: Any) -> None:
        opened(method, request)
        if method.name == "Authorize":
            raise RpcError("no", status=StatusCode.FAILED_PRECONDITION, reason="PRICE_TOO_LOW")

    world.restart()
    world.before = before
    with pytest.raises(SessionError):
        await start(manager, world)
    assert manager.resumable() == []
    assert on_disk(path, "SELECT count(*) FROM sessions") == [(0,)]


async def test_another_peer_key_resumes_nothing_of_this_one(world: World, path: Path) -> None:
    session = await start(world.manager(path=path), world)
    other = world.manager(key=PeerKey(bytes([9]) * 32), path=path)
    assert other.resumable() == []
    with pytest.raises(SessionError):
        await other.resume(session.session_id)


async def test_a_close_that_the_host_did_not_hear_is_closing(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)

    def before(method: Any, request: Any) -> None:
        raise DialError("unreachable", stage="dial")

    world.before = before
    await session.close()
    assert session.state is ClientState.CLOSING
    assert session.is_closed
    assert manager.budget("USD").open_micros == 10_000
    assert world.manager(path=path).resumable() == []
    world.clock.advance(3600)
    assert manager.budget("USD").open_micros == 0


async def test_the_sessions_of_a_host_end_at_once(world: World, path: Path) -> None:
    manager = world.manager(path=path)
    session = await start(manager, world)
    world.calls.clear()
    assert manager.end_sessions_of(PeerKey(bytes([9]) * 32).peer_id, world.operator.address_bytes) == 0
    assert manager.end_sessions_of(world.host.peer_id, bytes(20)) == 0
    assert manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes) == 1
    assert (session.state, session.end_reason, session.is_closed) == (ClientState.CLOSED, "BINDING_REVOKED", True)
    assert world.calls == []
    assert on_disk(path, "SELECT state, end_reason FROM sessions") == [("closed", "BINDING_REVOKED")]
    await session.close()
    assert session.end_reason == "BINDING_REVOKED"


async def test_a_session_that_was_ended_while_its_grant_was_under_way_is_not_used(world: World) -> None:
    manager = world.manager()

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            assert manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes) == 1
        return response

    world.after = after
    with pytest.raises(SessionError) as caught:
        await start(manager, world)
    assert caught.value.reason == "BINDING_REVOKED"
    assert manager.resumable() == []


@pytest.mark.parametrize("is_closed", [False, True], ids=["binding revoked", "closed"])
async def test_a_session_that_ends_while_it_is_resumed_is_not_used(is_closed: bool, world: World) -> None:
    manager = world.manager()
    session = await start(manager, world)

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize" and is_closed:
            manager._book.end(session._record, ClientState.CLOSING)
        elif method.name == "Authorize":
            manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes)
        return response

    world.after = after
    with pytest.raises(SessionError) as caught:
        await manager.resume(session.session_id)
    assert caught.value.reason == ("SESSION_CLOSED" if is_closed else "BINDING_REVOKED")


# --- the budget ---


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


# --- slices ---


@given(ceiling=amounts, limit=amounts)
def test_a_slice_is_worth_8192_tokens_and_never_above_the_limit(ceiling: int, limit: int) -> None:
    found = default_slice(ceiling, limit)
    assert found <= limit
    assert found == limit or found * 1_000_000 >= ceiling * 8192 > (found - 1) * 1_000_000
    assert (found == 0) == (ceiling == 0 or limit == 0)


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


# --- delegation ---


async def test_a_session_key_opens_sessions_in_its_owners_name(world: World, path: Path) -> None:
    delegation = world.delegation(KEY, lifetime_s=600)
    manager = world.manager(wallet=KEY, delegation=delegation, path=path)
    session = await start(manager, world)
    assert (session.client, session.signer) == (world.wallet.address_bytes, KEY.address_bytes)
    assert session.expires_at_unix_s == delegation.expires_at_unix_s
    again = world.manager(wallet=KEY, delegation=delegation, path=path)
    assert (await again.resume(session.session_id)).grant == session.grant


@pytest.mark.parametrize(
    ("made", "options"),
    [
        ({"model_ids": ["m-30"]}, {}),
        ({"host_caps": {PeerKey(bytes([9]) * 32).peer_id: 50_000}}, {}),
        ({"currency": "EUR"}, {}),
        ({"host_caps": {}}, {"limit": 50_001}),
    ],
    ids=["model", "host", "currency", "cap"],
)
async def test_what_the_delegation_does_not_allow_is_not_sent(
    made: dict[str, Any], options: dict[str, Any], world: World
) -> None:
    made = {name: value for name, value in made.items() if value}
    manager = world.manager(wallet=KEY, delegation=world.delegation(KEY, **made))
    with pytest.raises(UsageError):
        await start(manager, world, **options)
    assert world.calls == []


def test_a_delegation_to_another_key_is_refused(world: World) -> None:
    with pytest.raises(UsageError):
        world.manager(wallet=world.wallet, delegation=world.delegation(KEY))
    with pytest.raises(UsageError):
        world.manager(wallet=KEY, delegation=pb.Delegation())


async def test_a_revocation_is_pushed_and_ends_the_sessions_here_and_there(world: World, path: Path) -> None:
    delegation = world.delegation(KEY)
    session = await start(world.manager(wallet=KEY, delegation=delegation), world)
    owner = world.manager(path=path)
    (outcome,) = await owner.revoke(delegation)
    assert (outcome.peer_id, outcome.is_delivered, outcome.ended_sessions) == (world.host.peer_id, True, 1)
    assert owner.revocations.pending() == []
    assert world.server.active_sessions == 0
    with pytest.raises(SessionError) as caught:
        await world.manager(wallet=KEY, delegation=delegation).resume(session.authorization_digest)
    assert caught.value.reason == "UNKNOWN_SESSION"
    with pytest.raises(SessionError) as caught:
        await start(world.manager(wallet=KEY, delegation=delegation), world)
    assert caught.value.reason == "DELEGATION_REVOKED"


async def test_a_host_that_was_not_reached_is_told_again_also_by_the_next_run(world: World, path: Path) -> None:
    delegation = world.delegation(KEY)

    def before(method: Any, request: Any) -> None:
        raise DialError("unreachable", stage="dial")

    world.before = before
    (outcome,) = await world.manager(path=path).revoke(delegation)
    assert (outcome.is_delivered, outcome.is_pending, outcome.detail) == (False, True, "DIAL_FAILED")
    manager = world.manager(path=path)
    (pending,) = manager.revocations.pending()
    assert (pending.peer_id, pending.digest) == (world.host.peer_id, digest_of_delegation(delegation, NETWORK))
    world.before = lambda method, request: None
    (outcome,) = await manager.revocations.retry()
    assert outcome.is_delivered
    assert manager.revocations.pending() == []
    assert await manager.revocations.retry() == []


async def test_a_host_that_refuses_for_good_is_not_told_again_and_one_that_is_busy_is(world: World) -> None:
    manager = world.manager()
    reasons = iter(["RATE_LIMITED", "REVOCATION_EXPIRED"])

    def before(method: Any, request: Any) -> None:
        raise RpcError("no", status=StatusCode.FAILED_PRECONDITION, reason=next(reasons))

    world.before = before
    (busy,) = await manager.revoke(world.delegation(KEY))
    assert (busy.is_pending, busy.detail) == (True, "RATE_LIMITED")
    (final,) = await manager.revocations.retry()
    assert (final.is_pending, final.detail) == (False, "REVOCATION_EXPIRED")
    assert manager.revocations.pending() == []


async def test_nobody_is_told_of_a_delegation_that_has_ended(world: World) -> None:
    manager = world.manager()

    def before(method: Any, request: Any) -> None:
        raise DialError("unreachable", stage="dial")

    world.before = before
    await manager.revoke(world.delegation(KEY, lifetime_s=60))
    world.clock.advance(60)
    assert manager.revocations.pending() == []


async def test_only_the_owner_revokes(world: World) -> None:
    delegation = world.delegation(KEY)
    manager = world.manager(wallet=KEY, delegation=delegation)
    session = await start(manager, world)
    with pytest.raises(UsageError):
        await manager.revoke(delegation)
    digest = digest_of_delegation(delegation, NETWORK)
    for owner, named in ((KEY, digest), (world.wallet, bytes(32))):
        wrong = sign_delegation_revocation(owner, named, network=NETWORK, now=world.clock.unix)
        with pytest.raises(UsageError):
            await manager.revoke(delegation, revocation=wrong)
    assert session.state is ClientState.ACTIVE
    carried = sign_delegation_revocation(world.wallet, digest, network=NETWORK, now=world.clock.unix)
    (outcome,) = await manager.revoke(delegation, revocation=carried)
    assert outcome.ended_sessions == 1
    assert (session.state, session.end_reason) == (ClientState.CLOSED, "DELEGATION_REVOKED")
