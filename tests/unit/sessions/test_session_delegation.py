"""Session keys: what an owner delegated, how much of it, until when; and what taking it back does."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.errors import ConfigError, MalformedMessageError, RpcError, StatusCode
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation_revocation
from hostmesh.identity.wallet import Wallet
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.sessions.authorization import ModelPrice, message_from_terms
from hostmesh.sessions.delegation_table import DelegationLimits
from hostmesh.sessions.reasons import STATUS_OF, Reason
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
KEY = Wallet.from_private_key("7a" * 32)
STRANGER_WALLET = Wallet.from_private_key("7b" * 32)
STRANGER = peer_id_from_public_key(bytes(range(32)))
DAY_S = 86_400


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


async def opened(
    world: World, delegation: pb.Delegation | None, *, signer: Wallet = KEY, named: bytes | None = None, **changes: Any
) -> tuple[Call, pb.SessionGrant]:
    """Open a session under a delegation."""
    if named is None:
        named = bytes(32) if delegation is None else digest_of_delegation(delegation, NETWORK)
    terms = world.terms(await world.nonce(), delegation_digest=named, **changes)
    request = pb.AuthorizeRequest(
        authorization=message_from_terms(terms, signer.sign(terms, NETWORK)), delegation=delegation
    )
    envelope = (await world.server.authorize(request, Call(world.client.peer_id))).grant
    payload = open_envelope(
        envelope, domain=f"hostmesh:{NETWORK}:session-grant", payload_type=b"/hostmesh/session-grant", max_bytes=2048
    ).payload
    grant = pb.SessionGrant.FromString(payload)
    return Call(world.client.peer_id, grant.session_id), grant


async def refusal(world: World, delegation: pb.Delegation | None, **options: Any) -> str:
    with pytest.raises(RpcError) as caught:
        await opened(world, delegation, **options)
    assert caught.value.status is STATUS_OF[Reason(caught.value.reason)]
    assert caught.value.message
    return caught.value.reason


def revocation_of(world: World, delegation: pb.Delegation, **options: Any) -> pb.RevokeDelegationRequest:
    arguments: dict[str, Any] = {
        "owner": world.wallet,
        "delegation_digest": digest_of_delegation(delegation, NETWORK),
        "network": NETWORK,
        "now": world.clock.unix,
    }
    return pb.RevokeDelegationRequest(revocation=sign_delegation_revocation(**(arguments | options)))


async def revoke(world: World, request: pb.RevokeDelegationRequest, peer: PeerId = STRANGER) -> int:
    return (await world.server.revoke_delegation(request, Call(peer))).ended_sessions


async def test_a_session_key_opens_a_session_in_its_owners_name(world: World) -> None:
    call, _ = await opened(world, world.delegation(KEY))
    session = world.server.require_session(call, MODEL)
    assert session.client_address == world.wallet.address_bytes
    assert session.signer == KEY.address_bytes
    assert session.is_delegated


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "host": ({"host_caps": {STRANGER: 50_000}}, {}, "DELEGATION_WRONG_HOST"),
    "model": ({"model_ids": ["m-30"]}, {}, "DELEGATION_WRONG_MODEL"),
    "currency": ({"currency": "EUR"}, {}, "DELEGATION_WRONG_CURRENCY"),
    "expired": ({"now": 1_700_000_000 - 60, "lifetime_s": 60}, {}, "DELEGATION_EXPIRED"),
    "future": ({"now": 1_700_000_031}, {}, "DELEGATION_NOT_YET_VALID"),
    "clocks half a minute apart": ({"now": 1_700_000_030}, {}, ""),
    "network": ({"network": "hostmesh"}, {}, "DELEGATION_BAD_SIGNATURE"),
    "cap": ({"host_caps": {STRANGER: 50_000}}, {}, "DELEGATION_WRONG_HOST"),
    "limit above the cap": ({}, {"spending_limit_micros": 50_001}, "DELEGATION_CAP"),
    "owner": ({"owner": STRANGER_WALLET}, {}, "DELEGATION_WRONG_OWNER"),
    "owner that is named": ({"owner": STRANGER_WALLET}, {"client": STRANGER_WALLET.address_bytes}, ""),
    "another key signs": ({}, {"signer": STRANGER_WALLET}, "BAD_SIGNATURE"),
    "the owner itself signs": ({}, {"signer": Wallet.from_private_key("7c" * 32)}, "BAD_SIGNATURE"),
    "another is named": ({}, {"named": bytes([1]) * 32}, "DELEGATION_MISMATCH"),
    "none is named": ({}, {"named": bytes(32)}, "DELEGATION_MISMATCH"),
}


@pytest.mark.parametrize(("made", "used", "reason"), FAULTS.values(), ids=FAULTS.keys())
async def test_every_fault_has_its_reason_and_spends_nothing(
    made: dict[str, Any], used: dict[str, Any], reason: str, world: World
) -> None:
    delegation = world.delegation(KEY, **made)
    if not reason:
        await opened(world, delegation, **used)
        return
    assert await refusal(world, delegation, **used) == reason
    assert world.server.refusals == {reason: 1}
    assert world.server.granted == 0


async def test_a_delegation_that_is_named_must_come(world: World) -> None:
    digest = digest_of_delegation(world.delegation(KEY), NETWORK)
    assert await refusal(world, None, named=digest) == "DELEGATION_MISSING"


async def test_a_delegation_lives_a_day_at_most(world: World) -> None:
    delegation = world.delegation(KEY)
    delegation.expires_at_unix_s += 1
    assert await refusal(world, delegation) == "DELEGATION_LIFETIME_TOO_LONG"


async def test_a_forged_delegation_is_refused_also_when_the_real_one_is_known(world: World) -> None:
    real = world.delegation(KEY)
    await opened(world, real)
    forged = world.delegation(KEY, owner=STRANGER_WALLET)
    forged.owner = world.wallet.address_bytes
    assert await refusal(world, forged) == "DELEGATION_BAD_SIGNATURE"


@pytest.mark.parametrize("fault", ["host_caps", "model_ids"])
async def test_a_delegation_without_hosts_or_models_or_with_two_caps_is_malformed(fault: str, world: World) -> None:
    delegation = world.delegation(KEY)
    delegation.ClearField(fault)  # type: ignore[arg-type]
    with pytest.raises(MalformedMessageError):
        await opened(world, delegation, named=bytes(32))
    twice = world.delegation(KEY)
    twice.host_caps.append(twice.host_caps[0])
    with pytest.raises(MalformedMessageError):
        await opened(world, twice, named=bytes(32))


async def test_the_session_ends_with_the_delegation(world: World) -> None:
    delegation = world.delegation(KEY, lifetime_s=600)
    call, grant = await opened(world, delegation)
    assert grant.expires_at_unix_s == delegation.expires_at_unix_s
    assert world.server.require_session(call, MODEL).expires_at_unix_s == delegation.expires_at_unix_s
    work = world.server.require_session(call, MODEL).reserve(100)
    world.clock.advance(600)
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, MODEL)
    assert caught.value.details == {"cause": "SESSION_EXPIRED"}
    # What was begun may still be paid for.
    assert work.settle(100) == 100


# --- the cap ---


async def test_the_cap_bounds_all_sessions_together(world: World) -> None:
    delegation = world.delegation(KEY, host_caps={world.host.peer_id: 15_000})
    first, _ = await opened(world, delegation)
    assert await refusal(world, delegation, spending_limit_micros=5_001) == "DELEGATION_CAP"
    await opened(world, delegation, spending_limit_micros=5_000)
    with world.server.require_session(first, MODEL).reserve(10_000) as work:
        work.advance(4_000)
        await world.server.close_session(pb.CloseSessionRequest(session_id=first.session_id), first)
        # 4,000 are spent and 6,000 are still reserved.
        assert await refusal(world, delegation, spending_limit_micros=1_000) == "DELEGATION_CAP"
        work.settle(7_000)
    assert await refusal(world, delegation, spending_limit_micros=3_001) == "DELEGATION_CAP"
    await opened(world, delegation, spending_limit_micros=3_000)


async def test_another_delegation_and_the_owner_itself_have_money_of_their_own(world: World) -> None:
    used = world.delegation(KEY, host_caps={world.host.peer_id: 10_000})
    await opened(world, used)
    await opened(world, world.delegation(KEY, nonce=bytes([9]) * 32))
    await opened(world, None, signer=world.wallet, spending_limit_micros=10**12)


async def test_what_was_spent_is_counted_after_a_restart(world: World, tmp_path: Any) -> None:
    world.path = tmp_path / "sessions.sqlite3"
    world.restart()
    delegation = world.delegation(KEY, host_caps={world.host.peer_id: 15_000})
    call, _ = await opened(world, delegation)
    with world.server.require_session(call, MODEL).reserve(9_000) as work:
        work.settle(9_000)
    await world.server.close_session(pb.CloseSessionRequest(session_id=call.session_id), call)
    world.restart()
    assert await refusal(world, delegation, spending_limit_micros=6_001) == "DELEGATION_CAP"
    await opened(world, delegation, spending_limit_micros=6_000)


async def test_a_full_table_drops_no_account_that_matters(world: World) -> None:
    world.prices[MODEL] = ModelPrice(micros_per_mtok=0, currency="USD")
    world.limits = SessionServerLimits(delegations=DelegationLimits(total=3))
    world.restart()
    free = {"spending_limit_micros": 0, "slice_micros": 0}
    running, revoked, idle, other = (world.delegation(KEY, nonce=bytes([n]) * 32) for n in range(4))
    await opened(world, running, **free)
    await opened(world, revoked, **free)
    await revoke(world, revocation_of(world, revoked))
    call, _ = await opened(world, idle, **free)
    assert await refusal(world, other, **free) == "TOO_MANY_DELEGATIONS"
    await world.server.close_session(pb.CloseSessionRequest(session_id=call.session_id), call)
    await opened(world, other, **free)
    assert await refusal(world, revoked, **free) == "DELEGATION_REVOKED"
    assert await revoke(world, revocation_of(world, running)) == 1


OWNERS = [Wallet.from_private_key(bytes([n]) * 32) for n in range(1, 7)]
FREE = {"spending_limit_micros": 0, "slice_micros": 0}


async def junk(world: World, number: int, peer: PeerId, owner: Wallet) -> str:
    """Open a free session under a new delegation, and have that revoked: an account that stays for its day."""
    delegation = world.delegation(KEY, owner=owner, nonce=number.to_bytes(32, "big"))
    nonce = (await world.server.get_challenge(pb.GetChallengeRequest(), Call(peer))).nonce
    terms = world.terms(
        nonce,
        client=owner.address_bytes,
        client_peer_id=peer_id_to_bytes(peer),
        delegation_digest=digest_of_delegation(delegation, NETWORK),
        **FREE,
    )
    request = pb.AuthorizeRequest(
        authorization=message_from_terms(terms, KEY.sign(terms, NETWORK)), delegation=delegation
    )
    try:
        await world.server.authorize(request, Call(peer))
    except RpcError as error:
        assert error.status is StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
        assert error.retry_after_ms == 600_000  # noqa: PT017
        return error.reason
    await revoke(world, revocation_of(world, delegation, owner=owner), peer)
    return "taken"


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("party", "most"), [("owner", 5), ("peer", 3), ("network", 4)])
async def test_one_partys_revoked_delegations_crowd_nobody_else_out(
    world: World, tmp_path: Any, party: str, most: int, restarts: bool
) -> None:
    world.prices[MODEL] = ModelPrice(micros_per_mtok=0, currency="USD")
    world.limits = SessionServerLimits(delegations=DelegationLimits(total=8, per_owner=5, per_network=4, per_peer=3))
    world.path = tmp_path / "hosted_sessions.sqlite3"
    world.restart()
    peers = [peer_id_from_public_key(bytes([n]) * 32) for n in range(8)]
    # All of it has one owner, one peer or one network, and is as different as can be otherwise.
    for number, peer in enumerate(peers):
        world.networks[peer] = "203.0.113.0/24" if party == "network" else f"203.0.{number}.0/24"
    outcomes = []
    for number in range(6):
        peer = peers[0] if party == "peer" else peers[number]
        outcomes.append(await junk(world, number, peer, OWNERS[0] if party == "owner" else OWNERS[number]))
        if restarts:
            world.restart()
    assert outcomes == ["taken"] * most + ["TOO_MANY_DELEGATIONS"] * (6 - most)
    # Somebody else has room, and a delegation that is in use does not need any.
    mine = world.delegation(KEY)
    await opened(world, mine, **FREE)
    await opened(world, mine, **FREE)
    # A day later the accounts are gone, and the party has its room again.
    world.clock.advance(DAY_S + 100)
    peer = peers[0] if party == "peer" else peers[6]
    assert await junk(world, 7, peer, OWNERS[0]) == "taken"


async def test_a_party_at_its_bound_makes_room_by_its_own_idle_delegations_alone(world: World) -> None:
    world.prices[MODEL] = ModelPrice(micros_per_mtok=0, currency="USD")
    world.limits = SessionServerLimits(delegations=DelegationLimits(total=9, per_owner=2, per_network=9, per_peer=9))
    world.restart()
    others = world.delegation(KEY, owner=OWNERS[0])
    digest = digest_of_delegation(others, NETWORK)
    call, _ = await opened(world, others, client=OWNERS[0].address_bytes, **FREE)
    await world.server.close_session(pb.CloseSessionRequest(session_id=call.session_id), call)
    one, two, three = (world.delegation(KEY, nonce=bytes([n]) * 32) for n in range(3))
    calls = [(await opened(world, each, **FREE))[0] for each in (one, two)]
    # Another owner's idle account is no room for this one.
    assert await refusal(world, three, **FREE) == "TOO_MANY_DELEGATIONS"
    await world.server.close_session(pb.CloseSessionRequest(session_id=calls[1].session_id), calls[1])
    await opened(world, three, **FREE)
    table = world.server._book.delegations
    assert table.account(digest) is not None
    assert table.account(digest_of_delegation(two, NETWORK)) is None
    assert len(table) == 3


# --- revocation ---


async def test_a_revocation_ends_the_sessions_and_opens_none(world: World) -> None:
    delegation = world.delegation(KEY)
    calls = [(await opened(world, delegation))[0] for _ in range(2)]
    own, _ = await opened(world, None, signer=world.wallet)
    work = world.server.require_session(calls[0], MODEL).reserve(1_000)
    request = revocation_of(world, delegation)
    assert await revoke(world, request) == 2
    for call in calls:
        with pytest.raises(RpcError) as caught:
            world.server.require_session(call, MODEL)
        assert (caught.value.reason, caught.value.details) == ("UNAUTHORIZED", {"cause": "DELEGATION_REVOKED"})
    assert await refusal(world, delegation) == "DELEGATION_REVOKED"
    world.server.require_session(own, MODEL)
    # Work that was begun ends, and is paid for.
    assert work.settle(900) == 900
    assert await revoke(world, request, world.client.peer_id) == 0


async def test_a_revocation_of_a_delegation_in_use_outlives_the_host(world: World, tmp_path: Any) -> None:
    world.path = tmp_path / "sessions.sqlite3"
    world.restart()
    delegation = world.delegation(KEY)
    await opened(world, delegation, spending_limit_micros=1_000)
    await revoke(world, revocation_of(world, delegation))
    world.restart()
    assert await refusal(world, delegation, spending_limit_micros=1_000) == "DELEGATION_REVOKED"


async def test_a_revocation_that_came_first_holds(world: World, tmp_path: Any) -> None:
    world.path = tmp_path / "sessions.sqlite3"
    world.restart()
    delegation = world.delegation(KEY)
    for _ in range(2):
        assert await revoke(world, revocation_of(world, delegation)) == 0
    assert await refusal(world, delegation) == "DELEGATION_REVOKED"
    world.restart()
    assert await refusal(world, delegation) == "DELEGATION_REVOKED"
    world.clock.advance(DAY_S + 61)
    assert await refusal(world, delegation) == "DELEGATION_EXPIRED"
    # By then it is forgotten: it takes nobody's place.
    await opened(world, world.delegation(KEY))
    assert len(world.server._book.delegations) == 1


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "future": ({"now": 1_700_000_031}, "REVOCATION_NOT_YET_VALID"),
    "old": ({"now": 1_700_000_000 - DAY_S - 60}, "REVOCATION_EXPIRED"),
    "another owner": ({"owner": STRANGER_WALLET}, "REVOCATION_WRONG_OWNER"),
    "network": ({"network": "hostmesh"}, "REVOCATION_BAD_SIGNATURE"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD.keys())
async def test_a_revocation_that_does_not_hold_ends_nothing(changes: dict[str, Any], reason: str, world: World) -> None:
    delegation = world.delegation(KEY)
    call, _ = await opened(world, delegation)
    with pytest.raises(RpcError) as caught:
        await revoke(world, revocation_of(world, delegation, **changes))
    assert caught.value.reason == reason
    assert caught.value.message
    assert caught.value.status is STATUS_OF[Reason(reason)]
    world.server.require_session(call, MODEL)


async def test_another_owners_revocation_of_the_same_digest_revokes_nothing(world: World) -> None:
    """It may come before the delegation: then the host cannot know whose it is, and keeps it for its own owner only."""
    delegation = world.delegation(KEY)
    assert await revoke(world, revocation_of(world, delegation, owner=STRANGER_WALLET)) == 0
    await opened(world, delegation)


async def test_junk_pushes_nothing_out_and_a_delegation_in_use_needs_no_room(world: World) -> None:
    world.limits = SessionServerLimits(
        delegations=DelegationLimits(revocations=6, revocations_per_network=4, revocations_per_peer=3)
    )
    world.restart()
    used, unseen = world.delegation(KEY), world.delegation(KEY, nonce=bytes([8]) * 32)
    call, _ = await opened(world, used)
    await revoke(world, revocation_of(world, unseen), world.client.peer_id)

    async def junk(number: int, peer: PeerId) -> str:
        request = revocation_of(world, used, owner=STRANGER_WALLET, delegation_digest=number.to_bytes(32, "big"))
        try:
            await revoke(world, request, peer)
        except RpcError as error:
            assert error.status is StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
            return error.reason
        return "taken"

    peers = [peer_id_from_public_key(bytes([n]) * 32) for n in range(4)]
    for peer in peers[:2]:
        world.networks[peer] = "203.0.113.0/24"
    outcomes = [await junk(number, peers[number // 5]) for number in range(20)]
    taken = [number for number, outcome in enumerate(outcomes) if outcome == "taken"]
    # Three of the first peer, one more of its network, one of the third peer: then the table is full.
    assert taken == [0, 1, 2, 5, 10]
    assert set(outcomes) == {"taken", "TOO_MANY_REVOCATIONS"}
    assert await refusal(world, unseen) == "DELEGATION_REVOKED"
    assert await revoke(world, revocation_of(world, used), peers[0]) == 1
    with pytest.raises(RpcError):
        world.server.require_session(call, MODEL)


async def test_revocations_cost_no_more_signature_checks_than_sessions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0
    real = SignatureChecker.is_of_key

    def counted(*arguments: Any) -> bool:
        nonlocal checks
        checks += 1
        return real(*arguments)

    delegation = world.delegation(KEY)
    await opened(world, delegation)
    monkeypatch.setattr(SignatureChecker, "is_of_key", counted)
    good = revocation_of(world, delegation)
    forged = pb.RevokeDelegationRequest()
    forged.CopyFrom(good)
    forged.revocation.signature = bytes(64) + b"\x1b"
    reasons = []
    for _ in range(150):
        with pytest.raises(RpcError) as caught:
            await revoke(world, forged)
        reasons.append(caught.value.reason)
    assert checks == reasons.count("REVOCATION_BAD_SIGNATURE") == 100
    assert reasons.count("RATE_LIMITED") == 50
    # Another peer is heard, and what is done already costs nothing.
    assert await revoke(world, good, world.client.peer_id) == 1
    for _ in range(200):
        assert await revoke(world, good) == 0
    assert checks == 101


async def test_a_revocation_that_there_is_no_room_for_costs_no_signature_check(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.limits = SessionServerLimits(delegations=DelegationLimits(revocations_per_network=2, revocations_per_peer=1))
    world.restart()
    peers = [peer_id_from_public_key(bytes([n]) * 32) for n in range(3)]
    world.networks.update(dict.fromkeys(peers, "203.0.113.0/24"))
    requests = [
        revocation_of(world, world.delegation(KEY), delegation_digest=number.to_bytes(32, "big")) for number in range(4)
    ]
    await revoke(world, requests[0], peers[0])
    await revoke(world, requests[1], peers[1])

    def unaffordable(*_: Any) -> bool:
        raise AssertionError

    monkeypatch.setattr(SignatureChecker, "is_of_key", unaffordable)
    # The first is over what is its own, the last over what is its network's.
    for request, peer in zip(requests[2:], (peers[0], peers[2]), strict=True):
        with pytest.raises(RpcError) as caught:
            await revoke(world, request, peer)
        assert caught.value.reason == "TOO_MANY_REVOCATIONS"


async def test_strangers_who_revoke_what_was_never_here_hold_up_nobody_who_revokes_what_is_in_use(world: World) -> None:
    delegation = world.delegation(KEY)
    await opened(world, delegation)
    reason = ""
    for number in range(1_000):
        unknown = revocation_of(world, delegation, delegation_digest=number.to_bytes(32, "big"))
        try:
            await revoke(world, unknown, peer_id_from_public_key(number.to_bytes(32, "big")))
        except RpcError as error:
            reason = error.reason
            break
    assert reason == "RATE_LIMITED"
    assert await revoke(world, revocation_of(world, delegation)) == 1


async def test_a_request_without_a_revocation_is_malformed(world: World) -> None:
    with pytest.raises(MalformedMessageError):
        await world.server.revoke_delegation(pb.RevokeDelegationRequest(), Call(STRANGER))


async def test_the_end_of_all_sessions_is_kept_and_has_its_reason(world: World, tmp_path: Any) -> None:
    world.path = tmp_path / "sessions.sqlite3"
    world.restart()
    first, _ = await opened(world, None, signer=world.wallet)
    second, _ = await opened(world, world.delegation(KEY))
    assert world.server.end_all() == 2
    world.restart()
    for call in (first, second):
        with pytest.raises(RpcError) as caught:
            world.server.require_session(call, MODEL)
        assert caught.value.details == {"cause": "BINDING_REVOKED"}
    assert world.server.end_all() == 0


def test_limits_are_above_nothing() -> None:
    with pytest.raises(ConfigError):
        DelegationLimits(total=0)
    with pytest.raises(ConfigError):
        SessionServerLimits(max_slice_tokens=0)


def test_the_worlds_host_is_capped(world: World) -> None:
    (cap,) = world.delegation(KEY).host_caps
    assert cap.host_peer_id == peer_id_to_bytes(world.host.peer_id)
