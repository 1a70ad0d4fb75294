"""What a host bounds of those who ask for sessions: challenges, signatures, sessions and fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.sessions.server_kit import MODEL, NETWORK, OTHER, REFUSED, STRANGER, Call, authorize, opened

from hostmesh.errors import ConfigError, MalformedMessageError, RecordExpiredError, RpcError, StatusCode
from hostmesh.net.peer_id import peer_id_from_public_key, peer_id_to_bytes
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.sessions.table import SessionLimits
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


async def test_a_flood_of_challenges_is_bounded_and_told_when_to_return(world: World) -> None:
    world.limits = SessionServerLimits(challenges=ChallengeLimits(per_peer=4))
    world.server = world.new_server()
    first = await world.nonce()
    world.clock.advance(20.0)
    for _ in range(3):
        await world.nonce()
    for _ in range(100):
        with pytest.raises(RpcError) as caught:
            await world.nonce()
        assert (caught.value.reason, caught.value.retry_after_ms) == ("TOO_MANY_CHALLENGES", 40_000)
        assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
    await authorize(world, world.terms(first))
    assert world.server.refusals == {"TOO_MANY_CHALLENGES": 100}


async def test_a_flood_from_one_network_leaves_the_others_in(world: World) -> None:
    world.limits = SessionServerLimits(challenges=ChallengeLimits(per_network=10))
    world.server = world.new_server()
    for number in range(50):
        peer = peer_id_from_public_key(number.to_bytes(32, "big"))
        world.networks[peer] = "203.0.113.0/24"
        try:
            await world.server.get_challenge(pb.GetChallengeRequest(), Call(peer))
        except RpcError as error:
            assert error.reason == "TOO_MANY_CHALLENGES"  # noqa: PT017 - any number of them is the point
    assert world.server.refusals == {"TOO_MANY_CHALLENGES": 40}
    world.networks[world.client.peer_id] = "198.51.100.0/24"
    await opened(world)


async def test_a_strangers_signatures_are_not_checked_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One peer is held by its own bucket, many peers by the one that strangers share."""
    world.limits = SessionServerLimits(
        checks_per_peer=Rate(per_second=1.0, burst=5), checks_of_strangers=Rate(per_second=1.0, burst=20)
    )
    world.server = world.new_server()
    checks = 0
    real = SignatureChecker.is_of_key

    def counted(*arguments: Any) -> bool:
        nonlocal checks
        checks += 1
        return real(*arguments)

    monkeypatch.setattr(SignatureChecker, "is_of_key", counted)
    guest = await opened(world)
    assert checks == 1
    reasons: dict[str, int] = {}
    for number in range(10):
        peer = peer_id_from_public_key(number.to_bytes(32, "big"))
        challenge = await world.server.get_challenge(pb.GetChallengeRequest(), Call(peer))
        terms = world.terms(challenge.nonce, client_peer_id=peer_id_to_bytes(peer), client=OTHER)
        for _ in range(10):
            with pytest.raises(RpcError) as caught:
                await authorize(world, terms, signature=bytes(64) + b"\x1b", peer=peer)
            reasons[caught.value.reason] = reasons.get(caught.value.reason, 0) + 1
            if caught.value.reason == "RATE_LIMITED":
                assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
                assert caught.value.retry_after_ms == 1000
    assert checks == 20
    assert reasons == {"BAD_SIGNATURE": 19, "RATE_LIMITED": 81}
    # A peer with a session is no stranger: the flood does not keep it from opening another.
    await opened(world)
    world.server.require_session(guest, MODEL)


async def test_cheap_refusals_take_no_signature_check(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignatureChecker, "is_of_key", lambda *_: pytest.fail("checked a signature"))
    for changes, reason, _ in REFUSED.values():
        if reason != "BAD_SIGNATURE":
            with pytest.raises(RpcError) as caught:
                await authorize(world, world.terms(await world.nonce(), **changes), signature=bytes(65))
            assert caught.value.reason == reason


async def test_sessions_are_bounded_before_their_signature_is_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.limits = SessionServerLimits(sessions=SessionLimits(per_peer=2))
    world.server = world.new_server()
    first = await opened(world)
    await opened(world)
    nonce = await world.nonce()
    monkeypatch.setattr(SignatureChecker, "is_of_key", lambda *_: pytest.fail("checked a signature"))
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(nonce))
    assert (caught.value.reason, caught.value.status) == ("TOO_MANY_SESSIONS", StatusCode.RESOURCE_EXHAUSTED)
    monkeypatch.undo()
    await world.server.close_session(pb.CloseSessionRequest(session_id=first.session_id), first)
    await authorize(world, world.terms(nonce))


async def test_the_binding_is_asked_for_once_a_minute(world: World) -> None:
    asked = 0
    real = world.binding

    def binding() -> Any:
        nonlocal asked
        asked += 1
        return real()

    world.binding = binding  # type: ignore[method-assign]
    world.server = world.new_server()
    for _ in range(10):
        await world.nonce()
    assert asked == 1
    world.clock.advance(60.0)
    await world.nonce()
    assert asked == 2


async def test_a_request_without_an_authorisation_is_malformed(world: World) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        await world.server.authorize(pb.AuthorizeRequest(), Call(STRANGER))
    assert caught.value.field == "authorization"


@pytest.mark.parametrize(
    ("field", "value"),
    [("client", b""), ("nonce", bytes(31)), ("signature", b""), ("model_id", ""), ("currency", "")],
)
async def test_a_field_out_of_its_bounds_is_malformed(field: str, value: Any, world: World) -> None:
    message = message_from_terms(world.terms(bytes(32)), bytes(65))
    setattr(message, field, value)
    with pytest.raises(MalformedMessageError) as caught:
        await world.server.authorize(pb.AuthorizeRequest(authorization=message), Call(STRANGER))
    assert caught.value.field.endswith(field)


def test_limits_are_above_nothing() -> None:
    with pytest.raises(ConfigError):
        SessionServerLimits(max_lifetime_s=0)
    with pytest.raises(ConfigError):
        SessionServerLimits(tracked_peers=0)


async def test_nobody_loses_a_session_to_one_who_cannot_sign(world: World) -> None:
    """A full host makes room only for an authorisation that holds."""
    world.limits = SessionServerLimits(sessions=SessionLimits(total=2, idle_s=100.0))
    world.server = world.new_server()
    held = [await opened(world), await opened(world)]
    world.clock.advance(101)
    forged = world.terms(await world.nonce())
    with pytest.raises(RpcError) as refused:
        await authorize(world, forged, signature=world.operator.sign(forged, NETWORK))
    assert refused.value.reason == "BAD_SIGNATURE"
    for call in held:
        world.server.require_session(call, MODEL)
    # Who signs gets the place of the one that is idle longest.
    world.clock.advance(101)
    world.server.require_session(held[0], MODEL)
    await opened(world)
    world.server.require_session(held[0], MODEL)
    with pytest.raises(RpcError) as gone:
        world.server.require_session(held[1], MODEL)
    assert gone.value.details == {"cause": "UNKNOWN_SESSION"}


async def test_an_authorisation_is_over_in_the_second_that_it_names(world: World) -> None:
    terms = world.terms(await world.nonce(), expires_at_unix_s=int(world.clock.unix) + 10)
    world.clock.advance(10)
    with pytest.raises(RpcError) as refused:
        await authorize(world, terms)
    assert refused.value.reason == "EXPIRED"
    assert world.server.refusals == {"EXPIRED": 1}


async def test_a_host_whose_binding_fails_says_that_it_is_its_own_fault(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def binding() -> Any:
        raise RecordExpiredError("the binding in /secret/path has expired", field="binding.expires_at_unix_s")

    world.binding = binding  # type: ignore[method-assign]
    world.server = world.new_server()
    for call in (world.nonce, lambda: authorize(world, world.terms(bytes(32)))):
        with pytest.raises(RpcError) as refused:
            await call()
        assert refused.value.status is StatusCode.UNAVAILABLE
        assert refused.value.retry_safe
        assert "path" not in refused.value.message
    assert "/secret/path" in caplog.text
