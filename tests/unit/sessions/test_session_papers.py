"""What a host opens a session on is what others believe it: clocks that differ, dates that were made up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.sessions.client_kit import NETWORK, on_disk, start

from hostmesh.errors import ReceiptError, RpcError, SessionError
from hostmesh.identity.delegation import digest_of_delegation
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.receipts.bundle import SessionPapers, verify_session
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.client_terms import SessionDraft
from hostmesh.sessions.grant import open_grant, seal_grant
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

MODEL = "smollm2-135m-instruct"
KEY = Wallet.from_private_key("7a" * 32)
HOUR_S = 3600


def delegated(world: World, delegation: pb.Delegation, nonce: bytes, ahead_s: float) -> SessionAuthorization:
    """What a session key signs whose clock is so far ahead of the host's."""
    issued = int(world.clock.unix + ahead_s)
    return world.terms(
        nonce,
        delegation_digest=digest_of_delegation(delegation, NETWORK),
        issued_at_unix_s=issued,
        expires_at_unix_s=issued + 2 * HOUR_S,
        spending_limit_micros=1_000,
    )


async def opened(world: World, terms: SessionAuthorization, delegation: pb.Delegation) -> SessionPapers:
    """Open the session, and return what the host then has to show for it."""
    call = type("Call", (), {"peer_id": world.client.peer_id, "session_id": b""})()
    request = pb.AuthorizeRequest(
        authorization=message_from_terms(terms, KEY.sign(terms, NETWORK)), delegation=delegation
    )
    envelope = (await world.server.authorize(request, call)).grant
    grant = open_grant(envelope, terms, host=world.host.peer_id, network=NETWORK, now=world.clock.unix)
    call.session_id = grant.session_id
    session = world.server.require_session(call, MODEL)
    return SessionPapers(
        network=NETWORK,
        authorization=session.signed_authorization,
        grant=session.grant,
        delegation=session.delegation,
    )


def believed(world: World, terms: SessionAuthorization, delegation: pb.Delegation) -> str:
    """What somebody says who is shown such papers and knows no host: a word, empty if he believes them."""
    papers = SessionPapers(
        network=NETWORK,
        authorization=message_from_terms(terms, KEY.sign(terms, NETWORK)).SerializeToString(),
        grant=seal_grant(world.host, terms, network=NETWORK, session_id=bytes(16), now=world.clock.unix),
        delegation=delegation.SerializeToString(),
    )
    try:
        verify_session(papers)
    except ReceiptError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("owner_s", [-30, 0, 25, 30])
@pytest.mark.parametrize("key_s", [-30, -10, 0, 30])
async def test_clocks_that_the_host_tolerates_are_tolerated_by_everybody(
    owner_s: int, key_s: int, world: World
) -> None:
    delegation = world.delegation(KEY, now=world.clock.unix + owner_s)
    papers = await opened(world, delegated(world, delegation, await world.nonce(), key_s), delegation)
    terms, cap_micros = verify_session(papers)
    assert (terms.signer, cap_micros) == (KEY.address_bytes, 50_000)
    manager = world.manager(wallet=KEY, delegation=delegation, ahead_s=key_s)
    assert (await start(manager, world)).signer == KEY.address_bytes


BACKDATED: dict[str, tuple[int, int, int, str]] = {
    "an hour before the delegation": (0, HOUR_S, -HOUR_S, "DELEGATION_NOT_YET_VALID"),
    "further than two clocks are apart": (30, HOUR_S, -31, "DELEGATION_NOT_YET_VALID"),
    "after the delegation's end": (0, 10, 20, "DELEGATION_EXPIRED"),
    "at the delegation's end": (0, 10, 10, "DELEGATION_EXPIRED"),
}
"""When the delegation is issued, how long it lives, when the authorisation is issued."""


@pytest.mark.parametrize(("owner_s", "lifetime_s", "key_s", "reason"), BACKDATED.values(), ids=BACKDATED.keys())
async def test_a_date_that_nobody_would_believe_opens_nothing(
    owner_s: int, lifetime_s: int, key_s: int, reason: str, world: World
) -> None:
    delegation = world.delegation(KEY, now=world.clock.unix + owner_s, lifetime_s=lifetime_s)
    terms = delegated(world, delegation, await world.nonce(), key_s)
    assert believed(world, terms, delegation) == "BAD_DELEGATION"
    with pytest.raises(RpcError) as caught:
        await opened(world, terms, delegation)
    assert caught.value.reason == reason
    assert (world.server.granted, world.server.active_sessions) == (0, 0)
    # The challenge was not used up.
    await opened(world, replace(terms, issued_at_unix_s=int(world.clock.unix)), delegation)


async def test_what_the_host_refuses_is_what_others_do_not_believe(world: World) -> None:
    """Second by second around both bounds."""
    delegation = world.delegation(KEY, now=world.clock.unix + 30, lifetime_s=50)
    for key_s in [*range(-33, -27), *range(27, 30)]:
        terms = delegated(world, delegation, await world.nonce(), key_s)
        try:
            await opened(world, terms, delegation)
            is_open = True
        except RpcError:
            is_open = False
        assert is_open == (believed(world, terms, delegation) == "") == (key_s >= -30), key_s


@pytest.mark.parametrize(("made", "ahead_s", "reason"), [
    ({"lifetime_s": 60}, 60, "DELEGATION_EXPIRED"),
    ({}, -61, "DELEGATION_NOT_YET_VALID"),
])  # fmt: skip
async def test_a_client_does_not_send_what_nobody_would_believe(
    made: dict[str, Any], ahead_s: int, reason: str, world: World, path: Any
) -> None:
    delegation = world.delegation(KEY, **made)
    manager = world.manager(wallet=KEY, delegation=delegation, ahead_s=ahead_s, path=path)
    with pytest.raises(SessionError) as caught:
        await start(manager, world)
    assert caught.value.reason == reason
    assert caught.value.remedy
    assert world.calls == ["GetChallenge"]
    assert on_disk(path, "SELECT count(*) FROM sessions") == [(0,)]


async def test_a_client_with_a_clock_of_its_own_making_is_refused_by_the_host(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SessionDraft.answer

    def answer(self: SessionDraft, challenge: pb.Challenge, *, now: int) -> SessionAuthorization:
        return replace(honest(self, challenge, now=now), issued_at_unix_s=now - HOUR_S)

    monkeypatch.setattr(SessionDraft, "answer", answer)
    manager = world.manager(wallet=KEY, delegation=world.delegation(KEY))
    with pytest.raises(SessionError) as caught:
        await start(manager, world)
    assert caught.value.reason == "DELEGATION_NOT_YET_VALID"
    assert world.server.granted == 0


@pytest.mark.parametrize(("signer", "owner", "reason"), [
    ("stranger", "client", "BAD_SIGNATURE"),
    ("key", "stranger", "DELEGATION_BAD_SIGNATURE"),
])  # fmt: skip
async def test_papers_are_verified_once_more_before_they_are_written(
    signer: str, owner: str, reason: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a host's own checks miss: here, each signature."""
    monkeypatch.setattr(SignatureChecker, "is_of_key", lambda *arguments: True)
    stranger = Wallet.from_private_key("7b" * 32)
    delegation = world.delegation(KEY)
    if owner == "stranger":
        delegation.signature = world.delegation(KEY, owner=stranger).signature
    terms = delegated(world, delegation, await world.nonce(), 0)
    request = pb.AuthorizeRequest(
        authorization=message_from_terms(terms, (KEY if signer == "key" else stranger).sign(terms, NETWORK)),
        delegation=delegation,
    )
    with pytest.raises(RpcError) as caught:
        await world.server.authorize(request, type("Call", (), {"peer_id": world.client.peer_id})())
    assert caught.value.reason == reason
    assert (world.server.granted, world.server.active_sessions) == (0, 0)
