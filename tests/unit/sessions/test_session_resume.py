"""A client's sessions outlive it and its hosts: they are resumed, or end for a reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.sessions.client_kit import NETWORK, on_disk, start

from hostmesh.errors import (
    ConnectionLostError,
    DialError,
    HostmeshError,
    RpcError,
    SessionError,
    StatusCode,
    UsageError,
)
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.client_record import ClientState
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


@pytest.fixture
def kept(world: World, tmp_path: Path) -> World:
    world.path = tmp_path / "hosted_sessions.sqlite3"
    world.restart()
    return world


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


@pytest.mark.parametrize("error", [
    DialError("unreachable", stage="dial"),
    RpcError("busy", status=StatusCode.RESOURCE_EXHAUSTED, reason="RATE_LIMITED"),
    RpcError("no", status=StatusCode.UNAVAILABLE, reason="DRAINING"),
], ids=["unreachable", "busy", "draining"])  # fmt: skip
async def test_a_pending_session_that_cannot_be_resumed_now_can_be_later(
    error: HostmeshError, world: World, path: Path
) -> None:
    """The host opened it, its answer was lost; the next attempt does not reach it, and says nothing of the first."""

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")
        return response

    def before(method: Any, request: Any) -> None:
        raise error

    world.after = after
    with pytest.raises(ConnectionLostError):
        await start(world.manager(path=path), world)
    world.after = lambda method, response: response
    manager = world.manager(path=path)
    (pending,) = manager.resumable()
    world.before = before
    with pytest.raises(HostmeshError):
        await manager.resume(pending.authorization_digest)
    assert on_disk(path, "SELECT state, digest FROM sessions") == [("pending", pending.authorization_digest)]
    assert manager.budget("USD").open_micros == 10_000
    world.before = lambda method, request: None
    for again in (manager, world.manager(path=path)):
        session = await again.resume(pending.authorization_digest)
        assert session.state is ClientState.ACTIVE
    assert (world.server.granted, world.server.active_sessions) == (1, 1)


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


@pytest.mark.parametrize("is_pending", [False, True], ids=["active", "pending"])
@pytest.mark.parametrize("is_delegated", [False, True], ids=["wallet", "session key"])
async def test_another_wallet_resumes_nothing_of_this_one(
    is_delegated: bool, is_pending: bool, world: World, path: Path
) -> None:
    """Its countersignatures would be worth nothing: jobs would run, and none be paid."""
    key, stranger = Wallet.from_private_key("7a" * 32), Wallet.from_private_key("7b" * 32)
    own: dict[str, Any] = {"wallet": key, "delegation": world.delegation(key)} if is_delegated else {}

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            raise ConnectionLostError("the connection ended")
        return response

    if is_pending:
        world.after = after
        with pytest.raises(ConnectionLostError):
            await start(world.manager(path=path, **own), world)
    else:
        await start(world.manager(path=path, **own), world)
    world.after = lambda method, response: response
    (session,) = world.manager(path=path, **own).resumable()
    assert session.signer == (key if is_delegated else world.wallet).address_bytes
    others: list[dict[str, Any]] = [
        {"wallet": stranger},
        {"wallet": stranger, "delegation": world.delegation(stranger)},
        # Who pays is the same, who signs is not.
        {} if is_delegated else {"wallet": key, "delegation": world.delegation(key)},
    ]
    kept = on_disk(path, "SELECT * FROM sessions")
    world.calls.clear()
    for options in others:
        other = world.manager(path=path, **options)
        assert other.resumable() == []
        with pytest.raises(UsageError) as caught:
            await other.resume(session.authorization_digest)
        assert caught.value.remedy
    assert (world.calls, on_disk(path, "SELECT * FROM sessions")) == ([], kept)
    # The one that signed it resumes it, also under no delegation of this run.
    again = await world.manager(path=path, **({"wallet": key} if is_delegated else {})).resume(
        session.authorization_digest
    )
    assert (again.state, again.signer) == (ClientState.ACTIVE, session.signer)


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
