"""The wallet's binding of a peer key: each rule by its own error, and the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from hostmesh.errors import (
    BadSignatureError,
    BindingRevokedError,
    HostmeshError,
    KeyFileError,
    RecordExpiredError,
    RecordInvalidError,
    UsageError,
)
from hostmesh.identity.binding import (
    MAX_LIFETIME_S,
    SKEW_TOLERANCE_S,
    load_binding,
    save_binding,
    sign_binding,
    verify_binding,
)
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, parse_peer_id, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.v1 import discovery_pb2 as pb

WALLET = Wallet.from_private_key("4c" * 32)
OTHER_WALLET = Wallet.from_private_key("5d" * 32)
PEER = peer_id_from_public_key(bytes(range(32)))
OTHER_PEER = peer_id_from_public_key(bytes(range(1, 33)))
NETWORK = "hostmesh-test"
NOW = 1_700_000_000


def bind(
    *, now: float = NOW, lifetime_s: int = 3600, revocation_epoch: int = 2, peer_id: PeerId = PEER
) -> pb.PeerBinding:
    return sign_binding(
        WALLET, peer_id, network=NETWORK, now=now, lifetime_s=lifetime_s, revocation_epoch=revocation_epoch
    )


def verify(binding: pb.PeerBinding, *, now: float = NOW, network: str = NETWORK, least_epoch: int = 0) -> bytes:
    return verify_binding(binding, peer_id=PEER, network=network, now=now, least_epoch=least_epoch)


def test_a_binding_proves_its_operator() -> None:
    binding = bind(now=NOW + 0.9)
    assert verify(binding) == WALLET.address_bytes
    assert binding.issued_at_unix_s == NOW
    assert binding.expires_at_unix_s == NOW + 3600
    assert binding.revocation_epoch == 2
    # What a wallet elsewhere would see: the address that eth-account knows for this key.
    assert "0x" + binding.operator.hex() == Account.from_key("4c" * 32).address.lower()


def resigned(**fields: object) -> pb.PeerBinding:
    """A binding with other fields, signed again: wrong by its rules and not by its signature."""
    from hostmesh.identity.structs import PeerBinding

    binding = bind()
    for name, value in fields.items():
        setattr(binding, name, value)
    struct = PeerBinding(
        operator=binding.operator,
        peer_id=binding.peer_id,
        issued_at_unix_s=binding.issued_at_unix_s,
        expires_at_unix_s=binding.expires_at_unix_s,
        revocation_epoch=binding.revocation_epoch,
    )
    binding.signature = WALLET.sign(struct, NETWORK)
    return binding


RULES: dict[str, tuple[pb.PeerBinding, float, int, type[HostmeshError], str]] = {
    "other peer": (bind(peer_id=OTHER_PEER), NOW, 0, RecordInvalidError, "binding.peer_id"),
    "future": (bind(now=NOW + SKEW_TOLERANCE_S + 1), NOW, 0, RecordInvalidError, "binding.issued_at_unix_s"),
    "too long": (
        resigned(expires_at_unix_s=NOW + MAX_LIFETIME_S + 1), NOW, 0, RecordInvalidError, "binding.expires_at_unix_s",
    ),
    "no life": (resigned(expires_at_unix_s=NOW), NOW, 0, RecordInvalidError, "binding.expires_at_unix_s"),
    "backwards": (resigned(expires_at_unix_s=NOW - 1), NOW, 0, RecordInvalidError, "binding.expires_at_unix_s"),
    "epoch above its time": (
        resigned(revocation_epoch=NOW + 1), NOW, 0, RecordInvalidError, "binding.revocation_epoch",
    ),
    "expired": (bind(), NOW + 3600 + SKEW_TOLERANCE_S + 0.1, 0, RecordExpiredError, "binding.expires_at_unix_s"),
    "revoked": (bind(), NOW, 3, BindingRevokedError, "binding.revocation_epoch"),
    "other operator": (
        resigned(operator=OTHER_WALLET.address_bytes), NOW, 0, BadSignatureError, "",
    ),
}  # fmt: skip


def test_the_highest_epoch_is_the_time_and_the_next_one_is_always_above_it() -> None:
    highest = bind(revocation_epoch=NOW)
    assert verify(highest) == WALLET.address_bytes
    with pytest.raises(UsageError, match="not above the time"):
        bind(revocation_epoch=NOW + 1)
    later = bind(now=NOW + 1, revocation_epoch=NOW + 1)
    assert verify(later, now=NOW + 1, least_epoch=NOW + 1) == WALLET.address_bytes


@pytest.mark.parametrize(("binding", "now", "epoch", "error", "field"), RULES.values(), ids=RULES.keys())
def test_each_rule_has_its_error(
    binding: pb.PeerBinding, now: float, epoch: int, error: type[HostmeshError], field: str
) -> None:
    with pytest.raises(error) as caught:
        verify(binding, now=now, least_epoch=epoch)
    assert type(caught.value) is error
    assert getattr(caught.value, "field", "") == field


@pytest.mark.parametrize(
    ("binding", "now", "epoch"),
    [
        (bind(now=NOW + SKEW_TOLERANCE_S), NOW, 0),
        (bind(), NOW + 3600 + SKEW_TOLERANCE_S, 0),
        (bind(lifetime_s=MAX_LIFETIME_S), NOW, 0),
        (bind(lifetime_s=1), NOW, 0),
        (bind(), NOW, 2),
    ],
    ids=["skew ahead", "skew behind", "longest", "shortest", "current epoch"],
)
def test_the_edges_are_inside(binding: pb.PeerBinding, now: float, epoch: int) -> None:
    assert verify(binding, now=now, least_epoch=epoch) == WALLET.address_bytes


def change_operator(binding: pb.PeerBinding) -> None:
    binding.operator = OTHER_WALLET.address_bytes


def change_issue(binding: pb.PeerBinding) -> None:
    binding.issued_at_unix_s -= 1


def change_expiry(binding: pb.PeerBinding) -> None:
    binding.expires_at_unix_s += 1


def change_epoch(binding: pb.PeerBinding) -> None:
    binding.revocation_epoch += 1


def change_signature(binding: pb.PeerBinding) -> None:
    binding.signature = binding.signature[:10] + bytes([binding.signature[10] ^ 1]) + binding.signature[11:]


def change_peer_to_the_right_one(binding: pb.PeerBinding) -> None:
    binding.peer_id = peer_id_to_bytes(PEER)


@pytest.mark.parametrize("change", [change_operator, change_issue, change_expiry, change_epoch, change_signature])
def test_a_changed_field_breaks_the_signature(change: Callable[[pb.PeerBinding], None]) -> None:
    binding = bind()
    change(binding)
    with pytest.raises(BadSignatureError):
        verify(binding)


def test_a_binding_of_another_peer_cannot_be_relabelled() -> None:
    binding = bind(peer_id=OTHER_PEER)
    change_peer_to_the_right_one(binding)
    with pytest.raises(BadSignatureError):
        verify(binding)


def test_a_binding_of_another_network_proves_nothing() -> None:
    with pytest.raises(BadSignatureError, match="network"):
        verify(bind(), network="hostmesh")


@pytest.mark.parametrize(
    ("field", "value"),
    [("operator", bytes(19)), ("operator", b""), ("peer_id", b""), ("peer_id", bytes(65)), ("signature", bytes(64))],
)
def test_a_field_out_of_its_bounds_is_named(field: str, value: bytes) -> None:
    binding = bind()
    setattr(binding, field, value)
    with pytest.raises(RecordInvalidError) as caught:
        verify(binding)
    assert caught.value.field == f"binding.{field}"


@pytest.mark.parametrize("lifetime_s", [0, -1, MAX_LIFETIME_S + 1])
def test_no_binding_lives_longer_than_a_week(lifetime_s: int) -> None:
    with pytest.raises(UsageError):
        bind(lifetime_s=lifetime_s)


# --- the file ---


def test_a_binding_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "binding.json"
    save_binding(path, bind())
    assert load_binding(path) == bind()
    save_binding(path, bind(revocation_epoch=3))
    assert load_binding(path) == bind(revocation_epoch=3)
    assert [entry.name for entry in path.parent.iterdir()] == ["binding.json"]


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    save_binding(tmp_path / "binding.json", bind())
    document = json.loads((tmp_path / "binding.json").read_text())
    assert document["operator"] == Account.from_key("4c" * 32).address
    assert parse_peer_id(document["peer_id"]) == PEER
    assert document["version"] == 1
    assert document["expires_at_unix_s"] == NOW + 3600


def test_a_file_that_was_carried_here_may_be_public(tmp_path: Path) -> None:
    save_binding(tmp_path / "binding.json", bind())
    (tmp_path / "binding.json").chmod(0o644)
    assert load_binding(tmp_path / "binding.json") == bind()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("version", None),
        ("operator", "0x00"),
        ("operator", 7),
        ("peer_id", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"),
        ("peer_id", "l0O"),
        ("issued_at_unix_s", -1),
        ("issued_at_unix_s", 2**64),
        ("expires_at_unix_s", 1.5),
        ("expires_at_unix_s", "soon"),
        ("revocation_epoch", None),
        ("signature", "0xzz"),
        ("signature", "0x00"),
        ("signature", 5),
    ],
)
def test_a_damaged_file_is_no_binding(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    save_binding(path, bind())
    document = json.loads(path.read_text())
    if value is None:
        del document[name]
    else:
        document[name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="holds no binding") as caught:
        load_binding(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '"x"', "{", "[" * 20000, "\udcff"])
def test_a_file_of_another_kind_is_no_binding(text: str, tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="holds no binding"):
        load_binding(path)
