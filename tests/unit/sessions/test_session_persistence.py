"""A host that is killed at any write, or whose disk is full: what was acknowledged is there when it runs again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.errors import RpcError, StatusCode, StoreError
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation_revocation
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.record import SessionState
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.store import SessionStore
from hostmesh.sessions.table import SessionLimits
from hostmesh.store import Store
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


@pytest.fixture
def kept(world: World, tmp_path: Path) -> World:
    world.path = tmp_path / "hosted_sessions.sqlite3"
    world.restart()
    return world


def on_disk(world: World, statement: str) -> list[Any]:
    assert world.path is not None
    with closing(sqlite3.connect(world.path)) as db, db:
        return db.execute(statement).fetchall()


async def authorize(world: World, request: pb.AuthorizeRequest) -> Call:
    grant = (await world.server.authorize(request, Call(world.client.peer_id))).grant
    opened = open_envelope(
        grant, domain=f"hostmesh:{NETWORK}:session-grant", payload_type=b"/hostmesh/session-grant", max_bytes=2048
    )
    return Call(world.client.peer_id, pb.SessionGrant.FromString(opened.payload).session_id)


async def request_of(world: World, **changes: Any) -> pb.AuthorizeRequest:
    terms = world.terms(await world.nonce(), **changes)
    return pb.AuthorizeRequest(authorization=message_from_terms(terms, world.wallet.sign(terms, NETWORK)))


async def test_a_restart_keeps_the_session_its_grant_and_what_was_spent(kept: World) -> None:
    request = await request_of(kept)
    call = await authorize(kept, request)
    with kept.server.require_session(call, MODEL).reserve(4000) as work:
        work.settle(3000)
    kept.server.require_session(call, MODEL).reserve(2000).advance(500)
    before = kept.server.require_session(call, MODEL)
    kept.restart()
    after = kept.server.require_session(call, MODEL)
    assert (after.spent_micros, after.remaining_micros) == (3500, 6500)
    assert (after.signer, after.authorization_digest) == (kept.wallet.address_bytes, before.authorization_digest)
    assert (after.slice_micros, after.expires_at_unix_s) == (1000, before.expires_at_unix_s)
    assert await authorize(kept, request) == call
    assert kept.server.granted == 0


async def test_a_restart_keeps_that_a_session_was_closed_and_its_nonce_burnt(kept: World) -> None:
    request = await request_of(kept)
    call = await authorize(kept, request)
    await kept.server.close_session(pb.CloseSessionRequest(session_id=call.session_id), call)
    kept.restart()
    with pytest.raises(RpcError) as caught:
        kept.server.require_session(call, MODEL)
    assert caught.value.details == {"cause": "SESSION_CLOSED"}
    with pytest.raises(RpcError) as caught:
        await authorize(kept, request)
    assert caught.value.reason == "REPLAYED"


async def test_a_nonce_is_burnt_by_acceptance_only_also_on_disk(kept: World) -> None:
    request = await request_of(kept)
    forged = pb.AuthorizeRequest()
    forged.CopyFrom(request)
    forged.authorization.spending_limit_micros += 1
    with pytest.raises(RpcError):
        await authorize(kept, forged)
    assert on_disk(kept, "SELECT count(*) FROM sessions UNION ALL SELECT count(*) FROM burnt_nonces") == [(0,), (0,)]
    await authorize(kept, request)


async def test_the_nonce_of_a_session_that_had_to_go_is_kept(kept: World) -> None:
    kept.limits = SessionServerLimits(sessions=SessionLimits(total=1, idle_s=10.0))
    kept.restart()
    request = await request_of(kept)
    await authorize(kept, request)
    kept.clock.advance(11)
    await authorize(kept, await request_of(kept))
    for _ in range(2):
        with pytest.raises(RpcError) as caught:
            await authorize(kept, request)
        assert caught.value.reason == "REPLAYED"
        kept.restart()
    # Only for as long as it holds; then it says itself that it is over.
    kept.clock.advance(3600)
    with pytest.raises(RpcError) as caught:
        await authorize(kept, request)
    assert caught.value.reason == "EXPIRED"
    await authorize(kept, await request_of(kept))
    assert on_disk(kept, "SELECT count(*) FROM burnt_nonces") == [(0,)]


async def test_the_bounds_hold_after_a_restart(kept: World) -> None:
    kept.limits = SessionServerLimits(sessions=SessionLimits(per_peer=2))
    kept.restart()
    first = await authorize(kept, await request_of(kept))
    await authorize(kept, await request_of(kept))
    kept.restart()
    with pytest.raises(RpcError) as caught:
        await authorize(kept, await request_of(kept))
    assert caught.value.reason == "TOO_MANY_SESSIONS"
    await kept.server.close_session(pb.CloseSessionRequest(session_id=first.session_id), first)
    await authorize(kept, await request_of(kept))


async def test_what_has_expired_leaves_the_disk_and_is_not_read(kept: World) -> None:
    await authorize(kept, await request_of(kept))
    kept.clock.advance(3600)
    kept.restart()
    assert kept.server.active_sessions == 0
    await authorize(kept, await request_of(kept))
    assert on_disk(kept, "SELECT count(*) FROM sessions") == [(1,)]


async def test_hosts_and_networks_that_share_a_file_see_their_own(kept: World) -> None:
    await authorize(kept, await request_of(kept))
    for host, network in ((b"another", NETWORK), (peer_id_to_bytes(kept.host.peer_id), "hostmesh")):
        store = SessionStore(kept.path, host=host, network=network)
        assert store.load(kept.clock.unix).sessions == ()
        store.close()


async def test_a_row_that_nobody_wrote_is_a_store_that_cannot_be_used(kept: World) -> None:
    await authorize(kept, await request_of(kept))
    on_disk(kept, "UPDATE sessions SET authorization = x'ff'")
    with pytest.raises(StoreError) as caught:
        kept.restart()
    assert "move the file away" in caught.value.remedy


FULL = "CREATE TRIGGER full_{0} BEFORE {1} ON {0} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"


async def test_a_full_disk_opens_nothing_and_leaves_the_challenge_open(kept: World) -> None:
    request = await request_of(kept)
    on_disk(kept, FULL.format("sessions", "INSERT"))
    with pytest.raises(RpcError) as caught:
        await authorize(kept, request)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "SESSIONS_UNAVAILABLE")
    assert caught.value.retry_safe
    assert "sqlite3" not in caught.value.message
    assert kept.server.active_sessions == kept.server.granted == 0
    on_disk(kept, "DROP TRIGGER full_sessions")
    await authorize(kept, request)


async def test_a_full_disk_closes_and_ends_nothing(kept: World) -> None:
    call = await authorize(kept, await request_of(kept))
    on_disk(kept, FULL.format("sessions", "UPDATE"))
    with pytest.raises(RpcError) as caught:
        await kept.server.close_session(pb.CloseSessionRequest(session_id=call.session_id), call)
    assert caught.value.reason == "SESSIONS_UNAVAILABLE"
    assert kept.server.require_session(call, MODEL).state is SessionState.ACTIVE


async def test_on_a_full_disk_work_ends_and_none_begins_before_its_cost_is_written(kept: World) -> None:
    call = await authorize(kept, await request_of(kept))
    session = kept.server.require_session(call, MODEL)
    first, second = session.reserve(1000), session.reserve(1000)
    on_disk(kept, FULL.format("sessions", "UPDATE"))
    with pytest.raises(RpcError) as caught:
        first.advance(100)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "SESSIONS_UNAVAILABLE")
    assert second.settle(300) == 300
    with pytest.raises(RpcError) as caught:
        session.reserve(1)
    assert caught.value.reason == "SESSIONS_UNAVAILABLE"
    assert session.spent_micros == 400
    on_disk(kept, "DROP TRIGGER full_sessions")
    session.reserve(1)
    kept.restart()
    assert kept.server.require_session(call, MODEL).spent_micros == 400


async def test_a_host_that_serves_again_after_a_full_disk_knows_what_was_spent(kept: World) -> None:
    assert kept.path is not None
    store = SessionStore(kept.path, host=peer_id_to_bytes(kept.host.peer_id), network=NETWORK)
    kept.server = kept.new_server(store)
    call = await authorize(kept, await request_of(kept))
    reservation = kept.server.require_session(call, MODEL).reserve(1000)
    on_disk(kept, FULL.format("sessions", "UPDATE"))
    assert reservation.settle(300) == 300
    with pytest.raises(StoreError):
        kept.new_server(store)
    on_disk(kept, "DROP TRIGGER full_sessions")
    assert kept.new_server(store).require_session(call, MODEL).spent_micros == 300
    kept.restart()
    assert kept.server.require_session(call, MODEL).spent_micros == 300


# --- killed at every write ---


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class Killer:
    """Ends the process before or after the commit of the n-th write."""

    at: int
    after: bool
    writes: int = 0

    @contextmanager
    def around(self, transaction: Callable[[Store], Any], store: Store) -> Iterator[Any]:
        self.writes += 1
        is_now = self.writes == self.at
        with transaction(store) as db:
            yield db
            if is_now and not self.after:
                raise KilledError
        if is_now:
            raise KilledError


@dataclass
class Acknowledged:
    """What the other side was told."""

    granted: dict[bytes, Call] = field(default_factory=dict)
    """Call by serialised request."""
    spent: dict[bytes, int] = field(default_factory=dict)
    closed: set[bytes] = field(default_factory=set)
    revoked: bool = False


async def life(world: World, told: Acknowledged) -> AsyncIterator[None]:
    """Two sessions, one of them delegated, work in both, a close and a revocation."""
    key = type(world.wallet).from_private_key("7a" * 32)
    delegation = world.delegation(key)
    digest = digest_of_delegation(delegation, NETWORK)
    terms = world.terms(await world.nonce(), delegation_digest=digest)
    delegated = pb.AuthorizeRequest(
        authorization=message_from_terms(terms, key.sign(terms, NETWORK)), delegation=delegation
    )
    for request in (await request_of(world), delegated):
        call = await authorize(world, request)
        told.granted[request.SerializeToString()] = call
        yield
        with world.server.require_session(call, MODEL).reserve(4000) as work:
            for cost in (700, 1500):
                work.advance(cost)
                told.spent[call.session_id] = cost
                yield
            work.settle(2000)
    first, second = told.granted.values()
    await world.server.close_session(pb.CloseSessionRequest(session_id=first.session_id), first)
    told.closed.add(first.session_id)
    yield
    revocation = sign_delegation_revocation(world.wallet, digest, network=NETWORK, now=world.clock.unix)
    request = pb.RevokeDelegationRequest(revocation=revocation)
    assert (await world.server.revoke_delegation(request, second)).ended_sessions == 1
    told.revoked = True
    yield


async def live(world: World, told: Acknowledged) -> bool:
    """Return whether it was killed."""
    try:
        async for _ in life(world, told):
            pass
    except KilledError:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"])
async def test_whenever_it_is_killed_nothing_acknowledged_is_lost(
    kept: World, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = Store.transaction
    deaths = 0
    while True:
        assert kept.path is not None
        kept.path = kept.path.with_name(f"{deaths}.sqlite3")
        kept.restart()
        killer = Killer(deaths + 1, after)
        told = Acknowledged()
        with monkeypatch.context() as patched:
            patched.setattr(Store, "transaction", lambda store, killer=killer: killer.around(transaction, store))
            if not await live(kept, told):
                break
        deaths += 1
        kept.restart()
        await check_nothing_is_lost(kept, told)
    # Two grants, two slices and an end of each, a close, a revocation.
    assert deaths == 10


async def check_nothing_is_lost(world: World, told: Acknowledged) -> None:
    for serialised, call in told.granted.items():
        request = pb.AuthorizeRequest.FromString(serialised)
        is_delegated = request.HasField("delegation")
        if call.session_id in told.closed or (is_delegated and told.revoked):
            with pytest.raises(RpcError) as caught:
                await authorize(world, request)
            assert caught.value.reason == "REPLAYED"
            continue
        try:
            session = world.server.require_session(call, MODEL)
        except RpcError as error:
            # The write of its end was made, and its answer was not given.
            assert error.details["cause"] in ("SESSION_CLOSED", "DELEGATION_REVOKED")  # noqa: PT017
            continue
        assert session.spent_micros >= told.spent.get(call.session_id, 0)
        assert await authorize(world, request) == call
        if is_delegated:
            account = world.server._book.delegations.account(request.authorization.delegation_digest)
            assert account is not None
            assert account.spent_micros == session.spent_micros
