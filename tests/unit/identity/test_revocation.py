"""A wallet takes back its bindings of a key: each rule by its own error, whatever was changed, and the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import (
    BadSignatureError,
    BindingRevokedError,
    HostmeshError,
    KeyFileError,
    RecordExpiredError,
    RecordInvalidError,
    RemoteProtocolError,
    UsageError,
)
from hostmesh.identity.address import keccak256
from hostmesh.identity.binding import MAX_LIFETIME_S, SKEW_TOLERANCE_S, sign_binding, verify_binding
from hostmesh.identity.revocation import (
    REVOCATION_LIFE_S,
    load_revocation,
    save_revocation,
    sign_revocation,
    verify_revocation,
)
from hostmesh.identity.structs import BindingRevocation
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.v1 import discovery_pb2 as pb

WALLET = Wallet.from_private_key("4c" * 32)
OTHER_WALLET = Wallet.from_private_key("5d" * 32)
PEER = peer_id_from_public_key(bytes(range(32)))
OTHER_PEER = peer_id_from_public_key(bytes(range(1, 33)))
NETWORK = "hostmesh-test"
NOW = 1_700_000_000


def revoke(*, least_epoch: int | None = 3, now: float = NOW, peer_id: PeerId = PEER) -> pb.BindingRevocation:
    return sign_revocation(WALLET, peer_id, network=NETWORK, now=now, least_epoch=least_epoch)


def verify(revocation: pb.BindingRevocation, *, network: str = NETWORK, now: float = NOW) -> PeerId:
    return verify_revocation(revocation, network=network, now=now)


def resigned(**fields: object) -> pb.BindingRevocation:
    """One with other fields, signed again: wrong by its rules and not by its signature."""
    revocation = revoke()
    for name, value in fields.items():
        setattr(revocation, name, value)
    struct = BindingRevocation(
        operator=revocation.operator,
        peer_id=revocation.peer_id,
        least_epoch=revocation.least_epoch,
        issued_at_unix_s=revocation.issued_at_unix_s,
    )
    revocation.signature = WALLET.sign(struct, NETWORK)
    return revocation


def test_it_names_whom_it_concerns() -> None:
    revocation = revoke(now=NOW + 0.9)
    assert verify(revocation) == PEER
    assert (revocation.operator, revocation.least_epoch, revocation.issued_at_unix_s) == (WALLET.address_bytes, 3, NOW)


def test_without_an_epoch_it_is_above_all_that_were_counted() -> None:
    revocation = revoke(least_epoch=None)
    assert revocation.least_epoch == NOW
    later = revoke(least_epoch=None, now=NOW + 1)
    assert later.least_epoch > revocation.least_epoch


def test_what_is_signed_is_what_any_wallet_shows() -> None:
    """eth-account's own words, not ours."""
    message = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "salt", "type": "bytes32"},
            ],
            "BindingRevocation": [
                {"name": "operator", "type": "address"},
                {"name": "peerId", "type": "bytes"},
                {"name": "leastEpoch", "type": "uint64"},
                {"name": "issuedAt", "type": "uint64"},
            ],
        },
        "primaryType": "BindingRevocation",
        "domain": {"name": "hostmesh", "version": "1", "salt": keccak256(NETWORK.encode())},
        "message": {
            "operator": WALLET.address,
            "peerId": peer_id_to_bytes(PEER),
            "leastEpoch": 3,
            "issuedAt": NOW,
        },
    }
    signed = Account.sign_message(encode_typed_data(full_message=message), "4c" * 32)
    assert bytes(signed.signature) == revoke().signature


RULES: dict[str, tuple[pb.BindingRevocation, float, type[HostmeshError], str]] = {
    "future": (revoke(now=NOW + SKEW_TOLERANCE_S + 1), NOW, RecordInvalidError, "revocation.issued_at_unix_s"),
    "old": (revoke(), NOW + REVOCATION_LIFE_S + 0.1, RecordExpiredError, "revocation.issued_at_unix_s"),
    "voids nothing": (resigned(least_epoch=0), NOW, RecordInvalidError, "revocation.least_epoch"),
    "of no peer": (resigned(peer_id=b"\x00\x01x"), NOW, RecordInvalidError, "revocation.peer_id"),
    "another operator": (resigned(operator=OTHER_WALLET.address_bytes), NOW, BadSignatureError, ""),
}


@pytest.mark.parametrize(("revocation", "now", "error", "field"), RULES.values(), ids=RULES)
def test_each_rule_has_its_error(
    revocation: pb.BindingRevocation, now: float, error: type[HostmeshError], field: str
) -> None:
    with pytest.raises(error) as caught:
        verify(revocation, now=now)
    assert type(caught.value) is error
    assert getattr(caught.value, "field", "") == field


@pytest.mark.parametrize(
    ("issued", "now"), [(NOW + SKEW_TOLERANCE_S, NOW), (NOW, NOW + REVOCATION_LIFE_S)], ids=["ahead", "last moment"]
)
def test_the_edges_are_inside(issued: int, now: float) -> None:
    assert verify(revoke(now=issued), now=now) == PEER


def test_it_outlives_every_binding_that_it_concerns() -> None:
    """The youngest one: issued by a clock that is ahead, taken by one that is behind."""
    binding = sign_binding(
        WALLET, PEER, network=NETWORK, now=NOW + SKEW_TOLERANCE_S, lifetime_s=MAX_LIFETIME_S, revocation_epoch=2
    )
    last = NOW + REVOCATION_LIFE_S
    assert verify_binding(binding, peer_id=PEER, network=NETWORK, now=last) == WALLET.address_bytes
    assert verify(revoke(), now=last) == PEER
    with pytest.raises(RecordExpiredError):
        verify_binding(binding, peer_id=PEER, network=NETWORK, now=last + 1)


@given(epoch=st.integers(0, NOW), least=st.integers(1, 2 * NOW) | st.integers(1, 2**64 - 1))
def test_a_binding_holds_from_the_least_epoch_on(epoch: int, least: int) -> None:
    binding = sign_binding(WALLET, PEER, network=NETWORK, now=NOW, revocation_epoch=epoch)
    revocation = revoke(least_epoch=least)
    assert verify(revocation) == PEER
    if epoch >= least:
        verify_binding(binding, peer_id=PEER, network=NETWORK, now=NOW, least_epoch=revocation.least_epoch)
        return
    with pytest.raises(BindingRevokedError) as caught:
        verify_binding(binding, peer_id=PEER, network=NETWORK, now=NOW, least_epoch=revocation.least_epoch)
    assert (caught.value.code, caught.value.field) == ("BINDING_REVOKED", "binding.revocation_epoch")


@given(
    field=st.sampled_from(["operator", "peer_id", "least_epoch", "issued_at_unix_s", "signature"]),
    position=st.integers(0, 64),
    mask=st.integers(1, 255),
)
def test_a_flipped_bit_anywhere_is_refused(field: str, position: int, mask: int) -> None:
    revocation = revoke()
    value = getattr(revocation, field)
    if isinstance(value, bytes):
        broken = bytearray(value)
        broken[position % len(broken)] ^= mask
        setattr(revocation, field, bytes(broken))
    else:
        setattr(revocation, field, value ^ mask)
    with pytest.raises(RemoteProtocolError) as caught:
        verify(revocation, now=NOW + 300)
    # Of another peer's key, of an issue in the future and of an epoch of 0 the rule says it; of all else the signature.
    assert caught.value.code in ("SIGNATURE_BAD", "RECORD_INVALID")
    if field in ("operator", "signature"):
        assert caught.value.code == "SIGNATURE_BAD"


@given(st.text(min_size=1, max_size=20).filter(lambda name: name != NETWORK))
def test_on_another_network_it_says_nothing(network: str) -> None:
    with pytest.raises(BadSignatureError):
        verify(revoke(), network=network)


def test_of_another_peer_it_cannot_be_relabelled() -> None:
    revocation = revoke(peer_id=OTHER_PEER)
    revocation.peer_id = peer_id_to_bytes(PEER)
    with pytest.raises(BadSignatureError):
        verify(revocation)


def test_a_bindings_signature_is_no_revocation() -> None:
    binding = sign_binding(WALLET, PEER, network=NETWORK, now=NOW, revocation_epoch=3)
    revocation = revoke()
    revocation.signature = binding.signature
    with pytest.raises(BadSignatureError):
        verify(revocation)


@pytest.mark.parametrize(
    ("field", "value"), [("operator", bytes(19)), ("peer_id", b""), ("peer_id", bytes(65)), ("signature", bytes(66))]
)
def test_a_field_out_of_its_bounds_is_named(field: str, value: bytes) -> None:
    revocation = revoke()
    setattr(revocation, field, value)
    with pytest.raises(RecordInvalidError) as caught:
        verify(revocation)
    assert caught.value.field == f"revocation.{field}"


@pytest.mark.parametrize("least_epoch", [0, -1, 2**64])
def test_an_epoch_that_means_nothing_is_not_signed(least_epoch: int) -> None:
    with pytest.raises(UsageError):
        revoke(least_epoch=least_epoch)


# --- the file ---


def test_a_revocation_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "revocations" / "peer.json"
    save_revocation(path, revoke())
    assert load_revocation(path) == revoke()
    document = json.loads(path.read_text())
    assert document["revokes"] == {"operator": WALLET.address, "peer_id": PEER, "least_epoch": 3}
    path.chmod(0o644)
    assert load_revocation(path) == revoke()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("revokes", {}),
        ("revokes", []),
        ("issued_at_unix_s", -1),
        ("signature", "0x00"),
        ("signature", 5),
    ],
)
def test_a_damaged_file_is_no_revocation(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "revocation.json"
    save_revocation(path, revoke())
    document = json.loads(path.read_text())
    document[name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="holds no revocation") as caught:
        load_revocation(path)
    assert caught.value.path == str(path)
