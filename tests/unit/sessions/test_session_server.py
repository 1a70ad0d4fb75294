"""A host's sessions: every rule by its own reason, each counted, and nothing that a stranger can fill."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.sessions.server_kit import MODEL, NETWORK, OTHER, REFUSED, STRANGER, Call, authorize, opened, payload_of

from hostmesh.errors import RpcError, StatusCode
from hostmesh.identity.typed_data import SECP256K1_ORDER, typed_digest
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.record import SessionState
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


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
    assert session.is_open
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
    session = world.server.require_session(call, MODEL)
    assert world.server.active_sessions == 1
    assert session.is_open
    world.clock.advance(1.0)
    assert world.server.active_sessions == 0
    assert not session.is_open
    with pytest.raises(RpcError) as caught:
        world.server.require_session(call, MODEL)
    assert caught.value.reason == "UNAUTHORIZED"


async def test_closing_is_for_its_peer_and_repeatable(world: World) -> None:
    call = await opened(world)
    request = pb.CloseSessionRequest(session_id=call.session_id)
    with pytest.raises(RpcError) as caught:
        await world.server.close_session(request, Call(STRANGER))
    assert caught.value.details == {"cause": "UNKNOWN_SESSION"}
    session = world.server.require_session(call, MODEL)
    await world.server.close_session(request, Call(world.client.peer_id))
    assert not session.is_open
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
