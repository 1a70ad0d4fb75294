"""A host's sessions: every rule by its own reason, each counted, and nothing that a stranger can fill."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.errors import ConfigError, MalformedMessageError, RecordExpiredError, RpcError, StatusCode
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import SECP256K1_ORDER, typed_digest
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.authorization import ModelPrice, message_from_terms
from hostmesh.sessions.record import SessionState
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.sessions.table import SessionLimits
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
STRANGER = peer_id_from_public_key(bytes(range(32)))


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


async def authorize(
    world: World,
    terms: SessionAuthorization,
    *,
    signature: bytes | None = None,
    network: str = NETWORK,
    peer: PeerId | None = None,
) -> bytes:
    signature = signature if signature is not None else world.wallet.sign(terms, network)
    request = pb.AuthorizeRequest(authorization=message_from_terms(terms, signature))
    return (await world.server.authorize(request, Call(peer or world.client.peer_id))).grant


def payload_of(grant: bytes) -> pb.SessionGrant:
    opened = open_envelope(
        grant, domain=f"hostmesh:{NETWORK}:session-grant", payload_type=b"/hostmesh/session-grant", max_bytes=2048
    )
    return pb.SessionGrant.FromString(opened.payload)


async def opened(world: World, **changes: Any) -> Call:
    """Open a session and return a call within it."""
    grant = await authorize(world, world.terms(await world.nonce(), **changes))
    return Call(world.client.peer_id, payload_of(grant).session_id)


async def test_a_challenge_names_the_operator_and_shows_the_binding(world: World) -> None:
    first = await world.server.get_challenge(pb.GetChallengeRequest(), Call(world.client.peer_id))
    second = await world.server.get_challenge(pb.GetChallengeRequest(), Call(world.client.peer_id))
    assert len(first.nonce) == 32
    assert first.nonce != second.nonce
    assert first.operator == world.operator.address_bytes
    assert first.binding == world.binding()
    assert first.expires_at_unix_s == world.clock.unix + 60


async def test_a_grant_answers_its_authorisation(world: World) -> None:
    terms = world.terms(await world.nonce())
    grant = await authorize(world, terms)
    opened_envelope = open_envelope(
        grant, domain=f"hostmesh:{NETWORK}:session-grant", payload_type=b"/hostmesh/session-grant", max_bytes=2048
    )
    assert opened_envelope.peer_id == world.host.peer_id
    payload = payload_of(grant)
    assert payload.network == NETWORK
    assert payload.authorization_digest == typed_digest(terms, NETWORK)
    assert payload.client_peer_id == peer_id_to_bytes(world.client.peer_id)
    assert payload.host_peer_id == peer_id_to_bytes(world.host.peer_id)
    assert payload.issued_at_unix_s == int(world.clock.unix)
    assert payload.expires_at_unix_s == terms.expires_at_unix_s
    assert len(payload.session_id) == 16
    assert world.server.granted == world.server.active_sessions == 1
    assert world.server.refusals == {}


OTHER = bytes(range(20))
REFUSED: dict[str, tuple[dict[str, Any], str, StatusCode]] = {
    "client peer": ({"client_peer_id": peer_id_to_bytes(STRANGER)}, "WRONG_PEER", StatusCode.UNAUTHENTICATED),
    "host peer": ({"host_peer_id": peer_id_to_bytes(STRANGER)}, "WRONG_HOST", StatusCode.UNAUTHENTICATED),
    "operator": ({"operator": OTHER}, "WRONG_OPERATOR", StatusCode.UNAUTHENTICATED),
    "client": ({"client": OTHER}, "BAD_SIGNATURE", StatusCode.UNAUTHENTICATED),
    "nonce": ({"nonce": bytes(32)}, "UNKNOWN_CHALLENGE", StatusCode.UNAUTHENTICATED),
    "model": ({"model_id": MODEL[:-1]}, "UNKNOWN_MODEL", StatusCode.NOT_FOUND),
    "price": ({"max_price_micros_per_mtok": 149_999}, "PRICE_TOO_LOW", StatusCode.FAILED_PRECONDITION),
    "zero price": ({"max_price_micros_per_mtok": 0}, "PRICE_TOO_LOW", StatusCode.FAILED_PRECONDITION),
    "currency": ({"currency": "EUR"}, "WRONG_CURRENCY", StatusCode.FAILED_PRECONDITION),
    "expired": ({"expires_at_unix_s": 1_700_000_000}, "EXPIRED", StatusCode.UNAUTHENTICATED),
    "long expired": ({"issued_at_unix_s": 5, "expires_at_unix_s": 10}, "EXPIRED", StatusCode.UNAUTHENTICATED),
    "backwards": (
        {"issued_at_unix_s": 1_700_000_020, "expires_at_unix_s": 1_700_000_010}, "EXPIRED", StatusCode.UNAUTHENTICATED
    ),
    "future": ({"issued_at_unix_s": 1_700_000_031}, "NOT_YET_VALID", StatusCode.UNAUTHENTICATED),
    "slice above the limit": ({"slice_micros": 10_001}, "SLICE_OVER_LIMIT", StatusCode.FAILED_PRECONDITION),
    "no slice": ({"slice_micros": 0}, "SLICE_MISSING", StatusCode.FAILED_PRECONDITION),
    "slice above the host's": (
        {"slice_micros": 9_832, "spending_limit_micros": 2_000_000}, "SLICE_TOO_LARGE",
        StatusCode.FAILED_PRECONDITION,
    ),
    "delegation": ({"delegation_digest": bytes([1]) * 32}, "DELEGATION_MISSING", StatusCode.UNAUTHENTICATED),
    "lifetime": (
        {"expires_at_unix_s": 1_700_000_000 + 86_401}, "LIFETIME_TOO_LONG", StatusCode.FAILED_PRECONDITION
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "reason", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_terms_that_do_not_hold_are_refused_by_their_reason(
    changes: dict[str, Any], reason: str, status: StatusCode, world: World
) -> None:
    """The wallet signed exactly these terms, so that no signature hides the rule."""
    nonce = await world.nonce()
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(nonce, **changes))
    assert (caught.value.reason, caught.value.status) == (reason, status)
    assert caught.value.message
    assert world.server.refusals == {reason: 1}
    assert world.server.active_sessions == 0
    # The challenge was not spent.
    await authorize(world, world.terms(nonce))


# Changes that the host would accept, had the wallet signed them.
FLIPPED: dict[str, dict[str, Any]] = {
    "client": {"client": OTHER},
    "dearer": {"max_price_micros_per_mtok": 150_001},
    "more": {"spending_limit_micros": 10_001},
    "less": {"spending_limit_micros": 9_999},
    "larger slice": {"slice_micros": 1_001},
    "earlier": {"issued_at_unix_s": 1_699_999_999},
    "longer": {"expires_at_unix_s": 1_700_003_601},
    "model": {"model_id": "all-minilm-l6-v2"},
    "currency": {"currency": "EUR", "model_id": "free"},
}


@pytest.mark.parametrize("changes", FLIPPED.values(), ids=FLIPPED.keys())
async def test_terms_that_were_changed_after_signing_are_refused(changes: dict[str, Any], world: World) -> None:
    world.prices["all-minilm-l6-v2"] = ModelPrice(micros_per_mtok=100_000, currency="USD")
    world.prices["free"] = ModelPrice(micros_per_mtok=0, currency="EUR")
    terms = world.terms(await world.nonce())
    signature = world.wallet.sign(terms, NETWORK)
    with pytest.raises(RpcError) as caught:
        await authorize(world, dataclasses.replace(terms, **changes), signature=signature)
    assert caught.value.reason == "BAD_SIGNATURE"
    assert world.server.refusals == {"BAD_SIGNATURE": 1}
    await authorize(world, terms, signature=signature)


async def test_an_authorisation_for_another_network_is_refused(world: World) -> None:
    terms = world.terms(await world.nonce())
    with pytest.raises(RpcError) as caught:
        await authorize(world, terms, network="hostmesh")
    assert caught.value.reason == "BAD_SIGNATURE"
    assert "network" in caught.value.message


async def test_the_malleable_twin_of_a_signature_is_refused(world: World) -> None:
    terms = world.terms(await world.nonce())
    signature = world.wallet.sign(terms, NETWORK)
    s = SECP256K1_ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(RpcError) as caught:
        await authorize(world, terms, signature=twin)
    assert caught.value.reason == "BAD_SIGNATURE"


@pytest.mark.parametrize(
    "changes",
    [
        {"issued_at_unix_s": 1_700_000_030},
        {"issued_at_unix_s": 1_700_000_000 - 80_000},
        {"expires_at_unix_s": 1_700_000_001},
        {"expires_at_unix_s": 1_700_000_000 + 86_400},
        {"max_price_micros_per_mtok": 2**64 - 1},
        {"spending_limit_micros": 1_000},
        {"spending_limit_micros": 2**64 - 1},
    ],
    ids=lambda changes: next(iter(changes.items())),
)
async def test_the_edges_are_inside(changes: dict[str, Any], world: World) -> None:
    await authorize(world, world.terms(await world.nonce(), **changes))


async def test_a_free_model_needs_its_currency_and_an_unpriced_one_is_none(world: World) -> None:
    world.prices[MODEL] = ModelPrice(micros_per_mtok=0, currency="USD")
    await authorize(world, world.terms(await world.nonce(), max_price_micros_per_mtok=0, slice_micros=0))
    del world.prices[MODEL]
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(await world.nonce()))
    assert caught.value.reason == "UNKNOWN_MODEL"


# --- replay ---


async def test_the_identical_authorisation_gets_the_same_grant(world: World) -> None:
    terms = world.terms(await world.nonce())
    first = await authorize(world, terms)
    world.clock.advance(300.0)
    assert await authorize(world, terms) == first
    assert (world.server.granted, world.server.active_sessions) == (1, 1)


async def test_a_repetition_keeps_what_was_spent(world: World) -> None:
    terms = world.terms(await world.nonce())
    call = Call(world.client.peer_id, payload_of(await authorize(world, terms)).session_id)
    with world.server.require_session(call, MODEL).reserve(4000) as reservation:
        reservation.settle(3000)
    await authorize(world, terms)
    assert world.server.require_session(call, MODEL).remaining_micros == 7000


async def test_a_repetition_costs_no_signature_check(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = world.terms(await world.nonce())
    signature = world.wallet.sign(terms, NETWORK)
    grant = await authorize(world, terms, signature=signature)
    monkeypatch.setattr(SignatureChecker, "is_of_key", lambda *_: pytest.fail("checked a signature"))
    for _ in range(500):
        assert await authorize(world, terms, signature=signature) == grant


async def test_a_captured_authorisation_is_worth_nothing_to_another_peer(world: World) -> None:
    """Verbatim (it names the first client's peer), and with a challenge of the thief's own (then nobody signed it)."""
    terms = world.terms(await world.nonce())
    signature = world.wallet.sign(terms, NETWORK)
    await authorize(world, terms, signature=signature)
    challenge = await world.server.get_challenge(pb.GetChallengeRequest(), Call(STRANGER))
    relabelled = dataclasses.replace(terms, client_peer_id=peer_id_to_bytes(STRANGER))
    renewed = dataclasses.replace(relabelled, nonce=challenge.nonce)
    for stolen, reason in ((terms, "WRONG_PEER"), (relabelled, "REPLAYED"), (renewed, "BAD_SIGNATURE")):
        with pytest.raises(RpcError) as caught:
            await authorize(world, stolen, signature=signature, peer=STRANGER)
        assert caught.value.reason == reason
    assert world.server.refusals == {"WRONG_PEER": 1, "REPLAYED": 1, "BAD_SIGNATURE": 1}


async def test_a_challenge_of_another_peer_is_unknown(world: World) -> None:
    challenge = await world.server.get_challenge(pb.GetChallengeRequest(), Call(STRANGER))
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(challenge.nonce))
    assert caught.value.reason == "UNKNOWN_CHALLENGE"


async def test_a_nonce_opens_one_session(world: World) -> None:
    nonce = await world.nonce()
    await authorize(world, world.terms(nonce))
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(nonce, spending_limit_micros=20_000))
    assert caught.value.reason == "REPLAYED"
    assert world.server.granted == 1


async def test_a_challenge_is_good_for_a_minute(world: World) -> None:
    nonce = await world.nonce()
    world.clock.advance(59.9)
    await authorize(world, world.terms(nonce))
    late = await world.nonce()
    world.clock.advance(60.0)
    with pytest.raises(RpcError) as caught:
        await authorize(world, world.terms(late))
    assert caught.value.reason == "UNKNOWN_CHALLENGE"


async def test_after_its_end_an_authorisation_is_expired_and_not_forgotten(world: World) -> None:
    terms = world.terms(await world.nonce())
    await authorize(world, terms)
    world.clock.advance(3600.0)
    with pytest.raises(RpcError) as caught:
        await authorize(world, terms)
    assert caught.value.reason == "EXPIRED"


async def test_a_host_that_restarted_knows_nothing_and_says_so(world: World) -> None:
    terms = world.terms(await world.nonce())
    call = Call(world.client.peer_id, payload_of(await authorize(world, terms)).session_id)
    world.server = world.new_server()
    with pytest.raises(RpcError) as caught:
        await authorize(world, terms)
    assert caught.value.reason == "UNKNOWN_CHALLENGE"
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, MODEL)
    assert caught.value.details["cause"] == "UNKNOWN_SESSION"


# --- use ---


async def test_a_session_says_who_pays_and_how_much(world: World) -> None:
    session = world.server.require_session(await opened(world), MODEL)
    assert session.client == world.wallet.address
    assert session.client_address == world.wallet.address_bytes
    assert session.peer_id == world.client.peer_id
    assert (session.model_id, session.currency) == (MODEL, "USD")
    assert (session.max_price_micros_per_mtok, session.spending_limit_micros) == (150_000, 10_000)
    assert (session.spent_micros, session.remaining_micros) == (0, 10_000)
    assert session.expires_at_unix_s == 1_700_003_600
    assert session.state is SessionState.ACTIVE
    assert session.session_id.hex() not in repr(session)


async def test_money_is_reserved_settled_and_given_back(world: World) -> None:
    session = world.server.require_session(await opened(world), MODEL)
    with session.reserve(6000) as first:
        assert session.remaining_micros == 4000
        with pytest.raises(RpcError) as caught:
            session.reserve(4001)
        assert (caught.value.reason, caught.value.status) == ("SPENDING_LIMIT", StatusCode.FAILED_PRECONDITION)
        assert first.settle(2500) == 2500
        assert first.settle(2500) == 0
    assert (session.spent_micros, session.remaining_micros) == (2500, 7500)
    with pytest.raises(ZeroDivisionError), session.reserve(7500):
        raise ZeroDivisionError
    assert session.remaining_micros == 7500
    last = session.reserve(7500)
    assert last.settle(10**12) == 7500
    assert session.spent_micros == session.spending_limit_micros
    last.release()
    assert session.spent_micros == 10_000


USES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "none": ({"session_id": b""}, MODEL, "NO_SESSION", "NO_SESSION"),
    "guess": ({"session_id": bytes(16)}, MODEL, "UNKNOWN_SESSION", "UNKNOWN_SESSION"),
    "stranger": ({"peer_id": STRANGER}, MODEL, "SESSION_OF_ANOTHER_PEER", "UNKNOWN_SESSION"),
    "model": ({}, "all-minilm-l6-v2", "WRONG_MODEL", "WRONG_MODEL"),
}


@pytest.mark.parametrize(("changes", "model", "counted", "shown"), USES.values(), ids=USES.keys())
async def test_another_use_is_refused(
    changes: dict[str, Any], model: str, counted: str, shown: str, world: World
) -> None:
    call = dataclasses.replace(await opened(world), **changes)
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, model)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
    assert caught.value.details == {"cause": shown}
    assert world.server.refusals == {counted: 1}


async def test_a_stranger_cannot_tell_a_session_from_none(world: World) -> None:
    call = await opened(world)
    answers = []
    for session_id in (call.session_id, bytes(16)):
        with pytest.raises(RpcError) as caught:
            world.server.require_session(Call(STRANGER, session_id), MODEL)
        answers.append((caught.value.message, caught.value.status, caught.value.reason, caught.value.details))
    assert answers[0] == answers[1]


async def test_a_session_ends_when_its_time_is_over(world: World) -> None:
    call = await opened(world)
    world.clock.advance(3599.0)
    world.server.require_session(call, MODEL)
    assert world.server.active_sessions == 1
    world.clock.advance(1.0)
    assert world.server.active_sessions == 0
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, MODEL)
    assert caught.value.reason == "UNAUTHORIZED"


async def test_closing_is_for_its_peer_and_repeatable(world: World) -> None:
    call = await opened(world)
    request = pb.CloseSessionRequest(session_id=call.session_id)
    with pytest.raises(RpcError) as caught:
        await world.server.close_session(request, Call(STRANGER))
    assert caught.value.details == {"cause": "UNKNOWN_SESSION"}
    world.server.require_session(call, MODEL)
    await world.server.close_session(request, Call(world.client.peer_id))
    await world.server.close_session(request, Call(world.client.peer_id))
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, MODEL)
    assert caught.value.details == {"cause": "SESSION_CLOSED"}
    assert world.server.refusals == {"SESSION_OF_ANOTHER_PEER": 1, "SESSION_CLOSED": 1}


async def test_a_draining_host_opens_none_and_keeps_those_it_has(world: World) -> None:
    waiting = await world.nonce()
    terms = world.terms(await world.nonce())
    call = Call(world.client.peer_id, payload_of(await authorize(world, terms)).session_id)
    world.server.drain()
    world.server.drain()
    for attempt in (world.nonce(), authorize(world, world.terms(waiting))):
        with pytest.raises(RpcError) as caught:
            await attempt
        assert (caught.value.reason, caught.value.status) == ("DRAINING", StatusCode.UNAVAILABLE)
    world.server.require_session(call, MODEL)
    await authorize(world, terms)


# --- floods ---


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
