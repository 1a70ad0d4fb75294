"""A client with a session key: what its owner's delegation allows, and how that is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.sessions.client_kit import NETWORK, start

from hostmesh.errors import (
    DialError,
    RpcError,
    SessionError,
    StatusCode,
    UsageError,
)
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation_revocation
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.client_record import ClientState
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


KEY = Wallet.from_private_key("7a" * 32)


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
