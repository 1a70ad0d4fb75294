"""Any field of a signed object flipped, replayed, or turned to another peer, host, network or session: refused."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.errors import HostmeshError, MalformedMessageError, RpcError, SessionError
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation, sign_delegation_revocation
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.authorization import ModelPrice, message_from_terms
from hostmesh.sessions.grant import open_grant, seal_grant
from hostmesh.sessions.reasons import GrantFault, Reason
from hostmesh.sessions.server import SessionServer
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb

NETWORK = "hostmesh-test"
MODEL = "smollm2-135m-instruct"
NOW = 1_700_000_000
HOST, CLIENT, OTHER_PEER = (PeerKey(bytes([number]) * 32) for number in (1, 2, 3))
OPERATOR, OWNER, KEY = (Wallet.from_private_key(f"{number:02x}" * 32) for number in (0x11, 0x12, 0x13))


@dataclasses.dataclass(frozen=True)
class Call:
    peer_id: PeerId
    session_id: bytes = b""


class Host:
    """One host, at rest."""

    def __init__(self, key: PeerKey = HOST, network: str = NETWORK) -> None:
        drawn = 0

        def random_bytes(size: int) -> bytes:
            nonlocal drawn
            drawn += 1
            return hashlib.sha256(drawn.to_bytes(8, "big")).digest()[:size]

        self.server = SessionServer(
            key=key,
            binding=lambda: sign_binding(OPERATOR, key.peer_id, network=network, now=NOW - 60),
            network=network,
            price_of=lambda model_id, _: ModelPrice(micros_per_mtok=150_000, currency="USD"),
            system=System(unix_s=lambda: float(NOW), monotonic_s=lambda: 1000.0, random_bytes=random_bytes),
        )

    async def nonce(self) -> bytes:
        return (await self.server.get_challenge(pb.GetChallengeRequest(), Call(CLIENT.peer_id))).nonce

    async def authorize(self, request: pb.AuthorizeRequest, peer: PeerId = CLIENT.peer_id) -> bytes:
        return (await self.server.authorize(request, Call(peer))).grant


def delegation() -> pb.Delegation:
    return sign_delegation(
        OWNER,
        KEY.address_bytes,
        model_ids=[MODEL, "all-minilm-l6-v2"],
        host_caps={HOST.peer_id: 50_000, OTHER_PEER.peer_id: 40_000},
        currency="USD",
        network=NETWORK,
        now=NOW,
        nonce=bytes(range(32)),
        lifetime_s=7200,
    )


def terms_for(nonce: bytes, /, **changes: Any) -> SessionAuthorization:
    fields: dict[str, Any] = {
        "client": OWNER.address_bytes,
        "operator": OPERATOR.address_bytes,
        "client_peer_id": peer_id_to_bytes(CLIENT.peer_id),
        "host_peer_id": peer_id_to_bytes(HOST.peer_id),
        "nonce": nonce,
        "model_id": MODEL,
        "max_price_micros_per_mtok": 150_000,
        "currency": "USD",
        "spending_limit_micros": 10_000,
        "slice_micros": 1_000,
        "issued_at_unix_s": NOW,
        "expires_at_unix_s": NOW + 3600,
    }
    return SessionAuthorization(**(fields | changes))


def request_for(nonce: bytes, *, is_delegated: bool) -> pb.AuthorizeRequest:
    if not is_delegated:
        terms = terms_for(nonce)
        return pb.AuthorizeRequest(authorization=message_from_terms(terms, OWNER.sign(terms, NETWORK)))
    word = delegation()
    terms = terms_for(nonce, delegation_digest=digest_of_delegation(word, NETWORK))
    return pb.AuthorizeRequest(authorization=message_from_terms(terms, KEY.sign(terms, NETWORK)), delegation=word)


def flip(message: Any, data: st.DataObject) -> str:
    """Change one field of a message by one bit, one unit or one item; return its name."""
    name = data.draw(st.sampled_from([found.name for found, _ in message.ListFields()]))
    value = getattr(message, name)
    if isinstance(value, int):
        setattr(message, name, value ^ (1 << data.draw(st.integers(0, 40))))
    elif isinstance(value, bytes):
        bit = data.draw(st.integers(0, 8 * len(value) - 1))
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        setattr(message, name, bytes(changed))
    elif isinstance(value, str):
        setattr(message, name, value + data.draw(st.sampled_from(["x", " ", "\u0301"])))
    elif name == "model_ids":
        value[data.draw(st.integers(0, 1))] += "x"
    else:
        flip(value[data.draw(st.integers(0, 1))], data)
    return name


AUTHORIZATION_REASONS = {
    "client": {"BAD_SIGNATURE", "DELEGATION_WRONG_OWNER"},
    "operator": {"WRONG_OPERATOR"},
    "client_peer_id": {"WRONG_PEER"},
    "host_peer_id": {"WRONG_HOST"},
    "nonce": {"UNKNOWN_CHALLENGE"},
    "model_id": {"BAD_SIGNATURE", "DELEGATION_WRONG_MODEL"},
    "max_price_micros_per_mtok": {"BAD_SIGNATURE", "PRICE_TOO_LOW"},
    "currency": {"WRONG_CURRENCY"},
    "spending_limit_micros": {"BAD_SIGNATURE", "DELEGATION_CAP", "SLICE_OVER_LIMIT"},
    "issued_at_unix_s": {
        "BAD_SIGNATURE",
        "NOT_YET_VALID",
        "LIFETIME_TOO_LONG",
        "EXPIRED",
        "DELEGATION_NOT_YET_VALID",
    },
    "expires_at_unix_s": {"BAD_SIGNATURE", "LIFETIME_TOO_LONG", "EXPIRED"},
    "signature": {"BAD_SIGNATURE"},
    "slice_micros": {"BAD_SIGNATURE", "SLICE_OVER_LIMIT", "SLICE_TOO_LARGE", "SLICE_MISSING"},
    "delegation_digest": {"DELEGATION_MISMATCH"},
}
DELEGATION_REASONS = {
    "owner": {"DELEGATION_WRONG_OWNER"},
    "model_ids": {"DELEGATION_WRONG_MODEL", "DELEGATION_MISMATCH"},
    "host_caps": {"DELEGATION_WRONG_HOST", "DELEGATION_MISMATCH"},
    "currency": {"DELEGATION_WRONG_CURRENCY"},
    "issued_at_unix_s": {
        "DELEGATION_MISMATCH", "DELEGATION_NOT_YET_VALID", "DELEGATION_LIFETIME_TOO_LONG", "DELEGATION_EXPIRED",
    },
    "expires_at_unix_s": {"DELEGATION_MISMATCH", "DELEGATION_LIFETIME_TOO_LONG", "DELEGATION_EXPIRED"},
    "delegate": {"DELEGATION_MISMATCH"},
    "nonce": {"DELEGATION_MISMATCH"},
    "signature": {"DELEGATION_BAD_SIGNATURE"},
}  # fmt: skip


async def refused(host: Host, request: pb.AuthorizeRequest, peer: PeerId = CLIENT.peer_id) -> str:
    with pytest.raises(HostmeshError) as caught:
        await host.authorize(request, peer)
    error = caught.value
    # A model's id may become no text that fits, say: then it is no such message at all.
    return error.reason if isinstance(error, RpcError) else error.code


@settings(deadline=None)
@given(data=st.data(), is_delegated=st.booleans())
def test_no_field_of_an_authorisation_can_be_changed(data: st.DataObject, is_delegated: bool) -> None:
    async def attempt() -> None:
        host = Host()
        request = request_for(await host.nonce(), is_delegated=is_delegated)
        changed = pb.AuthorizeRequest.FromString(request.SerializeToString())
        name = flip(changed.authorization, data)
        assert await refused(host, changed) in AUTHORIZATION_REASONS[name] | {MalformedMessageError.code}
        assert host.server.granted == 0
        # It spent nothing of the real one.
        await host.authorize(request)

    trio.run(attempt)


@settings(deadline=None)
@given(data=st.data(), is_known=st.booleans())
def test_no_field_of_a_delegation_can_be_changed(data: st.DataObject, is_known: bool) -> None:
    async def attempt() -> None:
        host = Host()
        if is_known:
            await host.authorize(request_for(await host.nonce(), is_delegated=True))
        request = request_for(await host.nonce(), is_delegated=True)
        changed = pb.AuthorizeRequest.FromString(request.SerializeToString())
        name = flip(changed.delegation, data)
        assert await refused(host, changed) in DELEGATION_REASONS[name] | {MalformedMessageError.code}
        await host.authorize(request)

    trio.run(attempt)


@settings(deadline=None)
@given(data=st.data(), is_known=st.booleans())
def test_no_field_of_a_revocation_can_be_changed(data: st.DataObject, is_known: bool) -> None:
    async def attempt() -> None:
        host = Host()
        if is_known:
            await host.authorize(request_for(await host.nonce(), is_delegated=True))
        real = sign_delegation_revocation(OWNER, digest_of_delegation(delegation(), NETWORK), network=NETWORK, now=NOW)
        changed = pb.DelegationRevocation.FromString(real.SerializeToString())
        flip(changed, data)
        with pytest.raises(RpcError) as caught:
            await host.server.revoke_delegation(
                pb.RevokeDelegationRequest(revocation=changed), Call(OTHER_PEER.peer_id)
            )
        assert caught.value.reason in {
            "REVOCATION_BAD_SIGNATURE", "REVOCATION_WRONG_OWNER", "REVOCATION_EXPIRED", "REVOCATION_NOT_YET_VALID",
        }  # fmt: skip
        assert host.server.active_sessions == int(is_known)
        request = pb.RevokeDelegationRequest(revocation=real)
        response = await host.server.revoke_delegation(request, Call(OTHER_PEER.peer_id))
        assert response.ended_sessions == int(is_known)

    trio.run(attempt)


GRANT_FAULTS = {
    "network": GrantFault.GRANT_WRONG_NETWORK,
    "authorization_digest": GrantFault.GRANT_WRONG_DIGEST,
    "client_peer_id": GrantFault.GRANT_WRONG_CLIENT,
    "host_peer_id": GrantFault.GRANT_WRONG_HOST,
}


@settings(deadline=None)
@given(data=st.data())
def test_no_bit_of_a_grant_can_be_changed(data: st.DataObject) -> None:
    terms = terms_for(bytes(32))
    grant = seal_grant(HOST, terms, network=NETWORK, session_id=bytes(16), now=NOW)
    bit = data.draw(st.integers(0, 8 * len(grant) - 1))
    changed = bytearray(grant)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SessionError) as caught:
        open_grant(bytes(changed), terms, host=HOST.peer_id, network=NETWORK, now=NOW)
    assert caught.value.reason in {"GRANT_BAD_SIGNATURE", "GRANT_MALFORMED", "GRANT_WRONG_SIGNER"}


@settings(deadline=None)
@given(
    changes=st.sampled_from(
        [
            {"host_peer_id": peer_id_to_bytes(OTHER_PEER.peer_id)},
            {"client_peer_id": peer_id_to_bytes(OTHER_PEER.peer_id)},
            {"spending_limit_micros": 10_001},
            {"slice_micros": 999},
            {"nonce": bytes([1]) * 32},
        ]
    )
)
def test_a_grant_answers_one_authorisation_only(changes: dict[str, Any]) -> None:
    """Signed by the right host, for another session."""
    terms = terms_for(bytes(32))
    grant = seal_grant(HOST, terms_for(bytes(32), **changes), network=NETWORK, session_id=bytes(16), now=NOW)
    with pytest.raises(SessionError) as caught:
        open_grant(grant, terms, host=HOST.peer_id, network=NETWORK, now=NOW)
    name = next(iter(changes))
    assert caught.value.reason == GRANT_FAULTS.get(name, GrantFault.GRANT_WRONG_DIGEST)


@settings(deadline=None)
@given(is_delegated=st.booleans(), target=st.sampled_from(["peer", "host", "network", "replay"]))
def test_what_was_signed_for_one_place_is_worth_nothing_in_another(is_delegated: bool, target: str) -> None:
    async def attempt() -> str:
        host = Host()
        request = request_for(await host.nonce(), is_delegated=is_delegated)
        await host.authorize(request)
        match target:
            case "peer":
                return await refused(host, request, OTHER_PEER.peer_id)
            case "host":
                return await refused(Host(OTHER_PEER), request)
            case "network":
                elsewhere = Host(network="hostmesh")
                assert await elsewhere.nonce() == request.authorization.nonce
                return await refused(elsewhere, request)
            case _:
                # With another word over the same challenge, signed by the right key.
                terms = terms_for(request.authorization.nonce, spending_limit_micros=9_000)
                again = pb.AuthorizeRequest(authorization=message_from_terms(terms, OWNER.sign(terms, NETWORK)))
                return await refused(host, again)

    assert (
        trio.run(attempt)
        == {
            "peer": Reason.WRONG_PEER,
            "host": Reason.WRONG_HOST,
            "network": Reason.DELEGATION_MISMATCH if is_delegated else Reason.BAD_SIGNATURE,
            "replay": Reason.REPLAYED,
        }[target]
    )


@settings(deadline=None)
@given(network=st.sampled_from(["hostmesh", "hostmesh-test2"]))
def test_a_revocation_of_another_network_revokes_nothing(network: str) -> None:
    async def attempt() -> None:
        host = Host()
        await host.authorize(request_for(await host.nonce(), is_delegated=True))
        digest = digest_of_delegation(delegation(), NETWORK)
        foreign = sign_delegation_revocation(OWNER, digest, network=network, now=NOW)
        with pytest.raises(RpcError) as caught:
            await host.server.revoke_delegation(pb.RevokeDelegationRequest(revocation=foreign), Call(CLIENT.peer_id))
        assert caught.value.reason == Reason.REVOCATION_BAD_SIGNATURE
        assert host.server.active_sessions == 1

    trio.run(attempt)
