"""What a client demands of a grant, each rule by its own word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from hostmesh.errors import SessionError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.net.envelope import seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.grant import open_grant, seal_grant
from hostmesh.v1 import session_pb2 as pb

HOST, OTHER, CLIENT = (PeerKey(bytes([number]) * 32) for number in (1, 2, 3))
NETWORK = "hostmesh-test"
NOW = 1_700_000_000.0
TERMS = SessionAuthorization(
    client=bytes(20),
    operator=bytes(range(20)),
    client_peer_id=peer_id_to_bytes(CLIENT.peer_id),
    host_peer_id=peer_id_to_bytes(HOST.peer_id),
    nonce=bytes(32),
    model_id="m",
    max_price_micros_per_mtok=1,
    currency="USD",
    spending_limit_micros=1,
    slice_micros=1_000,
    issued_at_unix_s=int(NOW),
    expires_at_unix_s=int(NOW) + 3600,
)


def good() -> pb.SessionGrant:
    return pb.SessionGrant(
        network=NETWORK,
        session_id=bytes(range(16)),
        authorization_digest=typed_digest(TERMS, NETWORK),
        client_peer_id=TERMS.client_peer_id,
        host_peer_id=TERMS.host_peer_id,
        issued_at_unix_s=int(NOW),
        expires_at_unix_s=int(NOW) + 3600,
    )


def sealed(
    grant: pb.SessionGrant | bytes,
    *,
    key: PeerKey = HOST,
    domain: str = f"hostmesh:{NETWORK}:session-grant",
    payload_type: bytes = b"/hostmesh/session-grant",
) -> bytes:
    payload = grant if isinstance(grant, bytes) else grant.SerializeToString()
    return seal_envelope(key, domain=domain, payload_type=payload_type, payload=payload)


def check(envelope: bytes, **changes: Any) -> pb.SessionGrant:
    return open_grant(envelope, **({"terms": TERMS, "host": HOST.peer_id, "network": NETWORK, "now": NOW} | changes))


def test_a_good_grant_opens() -> None:
    assert check(sealed(good())) == good()


def test_the_host_seals_what_the_client_opens() -> None:
    envelope = seal_grant(HOST, TERMS, network=NETWORK, session_id=bytes(range(16)), now=NOW + 0.5)
    assert check(envelope) == good()


def with_field(name: str, value: Any) -> bytes:
    grant = good()
    setattr(grant, name, value)
    return sealed(grant)


def bit_flipped() -> bytes:
    envelope = bytearray(sealed(good()))
    envelope[-1] ^= 1
    return bytes(envelope)


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "other signer": (lambda: sealed(good(), key=OTHER), "GRANT_WRONG_SIGNER"),
    "client as signer": (lambda: sealed(good(), key=CLIENT), "GRANT_WRONG_SIGNER"),
    "flipped bit": (bit_flipped, "GRANT_BAD_SIGNATURE"),
    "domain of another network": (
        lambda: sealed(good(), domain="hostmesh:hostmesh:session-grant"), "GRANT_BAD_SIGNATURE"
    ),
    "domain of another type": (lambda: sealed(good(), domain=f"hostmesh:{NETWORK}:quote"), "GRANT_BAD_SIGNATURE"),
    "another type": (lambda: sealed(good(), payload_type=b"/hostmesh/quote"), "GRANT_MALFORMED"),
    "no envelope": (lambda: b"\xff" * 100, "GRANT_MALFORMED"),
    "no grant": (lambda: sealed(b"\xff\xff"), "GRANT_MALFORMED"),
    "empty grant": (lambda: sealed(b""), "GRANT_MALFORMED"),
    "too large": (lambda: sealed(good().SerializeToString() + b"\x7a\xff\x10" + bytes(2175)), "GRANT_MALFORMED"),
    "short id": (lambda: with_field("session_id", bytes(15)), "GRANT_MALFORMED"),
    "no id": (lambda: with_field("session_id", b""), "GRANT_MALFORMED"),
    "network": (lambda: with_field("network", "hostmesh"), "GRANT_WRONG_NETWORK"),
    "digest": (lambda: with_field("authorization_digest", bytes(32)), "GRANT_WRONG_DIGEST"),
    "client": (lambda: with_field("client_peer_id", peer_id_to_bytes(OTHER.peer_id)), "GRANT_WRONG_CLIENT"),
    "host": (lambda: with_field("host_peer_id", peer_id_to_bytes(OTHER.peer_id)), "GRANT_WRONG_HOST"),
    "too long": (lambda: with_field("expires_at_unix_s", int(NOW) + 3601), "GRANT_WRONG_TIME"),
    "expired": (lambda: with_field("expires_at_unix_s", int(NOW)), "GRANT_WRONG_TIME"),
    "future": (lambda: with_field("issued_at_unix_s", int(NOW) + 31), "GRANT_WRONG_TIME"),
    "backwards": (lambda: with_field("issued_at_unix_s", int(NOW) + 4000), "GRANT_WRONG_TIME"),
}  # fmt: skip


@pytest.mark.parametrize(("envelope", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_word(envelope: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(SessionError) as caught:
        check(envelope())
    assert caught.value.reason == reason
    assert caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SessionAuthorization)])
def test_a_grant_for_other_terms_is_another_grant(field: str) -> None:
    value = getattr(TERMS, field)
    other = {int: lambda: value + 1, str: lambda: value + "x", bytes: lambda: value[:-1] + bytes([value[-1] ^ 1])}
    with pytest.raises(SessionError) as caught:
        check(sealed(good()), terms=dataclasses.replace(TERMS, **{field: other[type(value)]()}))
    assert caught.value.reason in {"GRANT_WRONG_DIGEST", "GRANT_WRONG_CLIENT", "GRANT_WRONG_HOST"}


def test_a_shorter_grant_is_a_grant() -> None:
    assert check(with_field("expires_at_unix_s", int(NOW) + 5)).expires_at_unix_s == int(NOW) + 5


def test_another_host_does_not_grant_in_the_name_of_the_one_that_was_meant() -> None:
    with pytest.raises(SessionError) as caught:
        check(sealed(good(), key=OTHER), host=OTHER.peer_id)
    assert caught.value.reason == "GRANT_WRONG_HOST"


def test_clocks_may_differ_by_half_a_minute() -> None:
    assert check(with_field("issued_at_unix_s", int(NOW) + 30)).issued_at_unix_s == NOW + 30
