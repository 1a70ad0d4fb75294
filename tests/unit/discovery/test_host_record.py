"""The signed record, with real wallets: what holds, and everything that does not."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_world import EPOCH, NETWORK, make_description, make_info, make_key, make_record, trusting_verifier

from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.record import GRACE_S, HostInfo, build_record, record_domain, verify_record
from hostmesh.discovery.terms import ModelKind, Place, Price
from hostmesh.errors import (
    BadSignatureError,
    ConfigError,
    RecordExpiredError,
    RecordInvalidError,
    RemoteProtocolError,
)
from hostmesh.identity.binding import sign_binding, verify_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.address_bytes import address_to_bytes
from hostmesh.net.envelope import seal_envelope
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.v1 import discovery_pb2 as pb

WALLET = Wallet.from_private_key("0x" + "11" * 32)
OTHER_WALLET = Wallet.from_private_key("0x" + "22" * 32)
KEY = make_key("host")
PAYLOAD_TYPE = b"/hostmesh/host-record"
"""As the protocol page states it, written out so that a change of the constant is noticed."""

FULL = HostDescription(
    models=[
        ModelOffer(
            model_id="smollm2-135m-instruct",
            kind=ModelKind.CHAT,
            price=Price(micros_per_mtok=0, currency="USD"),
            context_tokens=2048,
            max_output_tokens=512,
            quantisation="Q8_0",
            weights_sha256=bytes(range(32)),
            engine="llama.cpp",
            parameters=["temperature", "seed"],
        ),
        ModelOffer(model_id="minilm", kind=ModelKind.EMBEDDING),
    ],
    location="us/California",
    capabilities=["streaming"],
    max_concurrent_jobs=3,
    max_queued_jobs=7,
    software="hostmesh-host 0.1.0",
    protocols=["/hostmesh/job/1.0.0"],
)


def real_record(description: HostDescription = FULL, *, wallet: Wallet = WALLET, **changes: Any) -> pb.SignedHostRecord:
    fields: dict[str, Any] = {
        "key": KEY,
        "operator": wallet.address_bytes,
        "binding": sign_binding(wallet, KEY.peer_id, network=NETWORK, now=EPOCH),
        "network": NETWORK,
        "sequence": 42,
        "issued_at_unix_s": EPOCH,
        "started_at_unix_s": EPOCH - 60,
        "addresses": ("/ip4/192.0.2.1/tcp/4001", "/dns4/host.example/tcp/443/ws"),
    }
    return build_record(description, **{**fields, **changes})


def verify(signed: pb.SignedHostRecord, *, now: float = EPOCH, network: str = NETWORK) -> HostInfo:
    return verify_record(signed, expected_peer_id=KEY.peer_id, network=network, now=now, verify_binding=verify_binding)


def resealed(change: Any) -> pb.SignedHostRecord:
    """Return a record whose body a malicious host changed before it signed."""
    body = pb.HostRecord(
        network=NETWORK,
        peer_id=peer_id_to_bytes(KEY.peer_id),
        operator=WALLET.address_bytes,
        sequence=42,
        issued_at_unix_s=EPOCH,
        expires_at_unix_s=EPOCH + 120,
        state=pb.HOST_STATE_AVAILABLE,
        addresses=[address_to_bytes("/ip4/192.0.2.1/tcp/4001")],
        models=[pb.ModelOffer(model_id="m")],
    )
    change(body)
    envelope = seal_envelope(
        KEY, domain=record_domain(NETWORK), payload_type=PAYLOAD_TYPE, payload=body.SerializeToString()
    )
    return pb.SignedHostRecord(envelope=envelope, binding=sign_binding(WALLET, KEY.peer_id, network=NETWORK, now=EPOCH))


def test_what_is_signed_is_what_is_read() -> None:
    info = verify(real_record())
    assert info.peer_id == KEY.peer_id
    assert info.operator == WALLET.address_bytes
    assert info.operator_address == WALLET.address.lower()
    assert info.sequence == 42
    assert (info.issued_at_unix_s, info.expires_at_unix_s) == (EPOCH, EPOCH + 120)
    assert info.state is HostState.AVAILABLE
    assert info.addresses == ("/ip4/192.0.2.1/tcp/4001", "/dns4/host.example/tcp/443/ws")
    assert info.models == FULL.models
    assert info.place == Place(country_code="US", region="California")
    assert info.capabilities == ("streaming",)
    assert info.started_at_unix_s == EPOCH - 60
    assert (info.max_concurrent_jobs, info.max_queued_jobs) == (3, 7)
    assert info.software == "hostmesh-host 0.1.0"
    assert info.protocols == ("/hostmesh/job/1.0.0",)


def test_free_and_unpriced_stay_apart() -> None:
    info = verify(real_record())
    assert info.models[0].price == Price(micros_per_mtok=0, currency="USD")
    assert info.models[1].price is None
    assert info.models[1].context_tokens is None


def test_the_payload_type_and_domain_are_those_of_the_page() -> None:
    assert record_domain("mainnet") == "hostmesh:mainnet:host-record"
    signed = resealed(lambda body: None)
    assert verify(signed).sequence == 42


def test_a_tombstone_carries_no_offers() -> None:
    info = verify(real_record(state=HostState.WITHDRAWN))
    assert info.state is HostState.WITHDRAWN
    assert info.models == ()
    assert info.addresses == ()


@pytest.mark.parametrize(
    ("now", "error"),
    [
        (EPOCH - 30, None),
        (EPOCH - 31, RecordInvalidError),
        (EPOCH + 120 + GRACE_S, None),
        (EPOCH + 120 + GRACE_S + 1, RecordExpiredError),
    ],
)
def test_a_record_is_accepted_in_its_time_only(now: float, error: type[Exception] | None) -> None:
    signed = real_record()
    if error is None:
        assert verify(signed, now=now).sequence == 42
        return
    with pytest.raises(error):
        verify(signed, now=now)


def test_another_network_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        verify(real_record(), network="othernet")


def test_another_host_does_not_answer_for_the_one_asked() -> None:
    signed = make_record("other")
    with pytest.raises(RecordInvalidError) as caught:
        verify_record(
            signed, expected_peer_id=KEY.peer_id, network=NETWORK, now=EPOCH, verify_binding=trusting_verifier
        )
    assert caught.value.field == "peer_id"


def test_a_wallet_that_did_not_bind_the_key_is_refused() -> None:
    stolen = real_record()
    stolen.binding.signature = sign_binding(OTHER_WALLET, KEY.peer_id, network=NETWORK, now=EPOCH).signature
    with pytest.raises(BadSignatureError):
        verify(stolen)


def test_a_binding_of_wallet_a_does_not_serve_operator_b() -> None:
    signed = real_record()
    signed.binding.CopyFrom(sign_binding(OTHER_WALLET, KEY.peer_id, network=NETWORK, now=EPOCH))
    with pytest.raises(RecordInvalidError) as caught:
        verify(signed)
    assert caught.value.field == "binding.operator"


def test_a_binding_of_another_peer_is_refused() -> None:
    signed = real_record()
    signed.binding.CopyFrom(sign_binding(WALLET, make_key("other").peer_id, network=NETWORK, now=EPOCH))
    with pytest.raises(RecordInvalidError) as caught:
        verify(signed)
    assert caught.value.field == "binding.peer_id"


def test_an_expired_binding_is_refused() -> None:
    signed = real_record(binding=sign_binding(WALLET, KEY.peer_id, network=NETWORK, now=EPOCH - 1000, lifetime_s=900))
    with pytest.raises(RecordExpiredError) as caught:
        verify(signed)
    assert caught.value.field == "binding.expires_at_unix_s"


def test_a_record_without_binding_is_refused() -> None:
    signed = pb.SignedHostRecord(envelope=real_record().envelope)
    with pytest.raises(RecordInvalidError) as caught:
        verify(signed)
    assert caught.value.field == "binding"


def _set(name: str, value: Any) -> Any:
    return lambda body: setattr(body, name, value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("sequence", 0), "sequence"),
        (_set("expires_at_unix_s", EPOCH), "expires_at_unix_s"),
        (_set("expires_at_unix_s", EPOCH - 5), "expires_at_unix_s"),
        (_set("expires_at_unix_s", EPOCH + 121), "expires_at_unix_s"),
        (_set("expires_at_unix_s", 2**64 - 1), "expires_at_unix_s"),
        (_set("issued_at_unix_s", EPOCH + 31), "issued_at_unix_s"),
        (_set("started_at_unix_s", EPOCH + 31), "started_at_unix_s"),
        (_set("network", "othernet"), "network"),
        (_set("peer_id", peer_id_to_bytes(make_key("other").peer_id)), "peer_id"),
        (_set("operator", b"\x01" * 20), "binding.operator"),
        (_set("operator", b"\x01" * 19), "operator"),
        (lambda body: body.ClearField("models"), "models"),
        (lambda body: body.models.add(model_id="m"), "models"),
        (lambda body: body.models.extend([pb.ModelOffer(model_id=f"m{i}") for i in range(64)]), "models"),
        (lambda body: body.models.add(model_id=""), "models[1].model_id"),
        (lambda body: body.models.add(model_id="n", weights_sha256=b"short"), "models[1].weights_sha256"),
        (lambda body: body.models.add(model_id="n", price=pb.Price(currency="\x1b[2J")), "models[1].currency"),
        (lambda body: body.location.CopyFrom(pb.Location(country_code="us")), "location"),
        (lambda body: body.addresses.extend([b"\x04\x7f\x00\x00\x01\x06\x00\x50"] * 16), "addresses"),
        (lambda body: body.capabilities.extend(["c"] * 33), "capabilities"),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused_by_field(change: Any, field: str) -> None:
    with pytest.raises(RecordInvalidError) as caught:
        verify(resealed(change))
    assert caught.value.field == field


def test_bad_addresses_are_dropped_and_counted() -> None:
    good = address_to_bytes("/ip6/2001:db8::1/tcp/9")
    other_peer = address_to_bytes(f"/ip4/192.0.2.7/tcp/1/p2p/{make_key('other').peer_id}")
    info = verify(resealed(lambda body: body.addresses.extend([b"junk", good, good, other_peer])))
    assert info.addresses == ("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/9")
    assert info.dropped_addresses == 2


def test_values_of_a_later_version_read_as_unknown() -> None:
    def change(body: pb.HostRecord) -> None:
        body.ParseFromString(body.SerializeToString() + bytes([7 << 3, 99]))
        body.models[0].ParseFromString(body.models[0].SerializeToString() + bytes([2 << 3, 99]))

    info = verify(resealed(change))
    assert info.state is HostState.UNKNOWN
    assert info.models[0].kind is None


def test_an_oversized_record_is_refused_before_it_is_signed() -> None:
    offers = [ModelOffer(model_id=f"{i:03}" + "x" * 120, engine="y" * 64, parameters=["p" * 30]) for i in range(64)]
    with pytest.raises(ConfigError) as caught:
        real_record(HostDescription(models=offers))
    assert caught.value.name == "models"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": HostState.UNKNOWN},
        {"life_s": 0},
        {"life_s": 121},
        {"addresses": tuple(f"/ip4/192.0.2.{last}/tcp/1" for last in range(17))},
    ],
)
def test_a_record_that_no_reader_would_take_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^a record needs a state, a life of 1 to 120 s") as caught:
        real_record(**changes)
    assert caught.value.name == "record"


def test_the_last_value_of_its_range_is_signed() -> None:
    addresses = tuple(f"/ip4/192.0.2.{last}/tcp/1" for last in range(16))
    info = verify(real_record(life_s=1, addresses=addresses))
    assert (info.addresses, info.expires_at_unix_s) == (addresses, EPOCH + 1)
    assert verify(real_record(life_s=120)).expires_at_unix_s == EPOCH + 120


def test_an_oversized_envelope_is_refused_unread() -> None:
    signed = real_record()
    signed.envelope += b"\x00" * 10_752
    with pytest.raises(RecordInvalidError) as caught:
        verify(signed)
    assert caught.value.field == "envelope"


def test_the_signature_comes_before_the_meaning() -> None:
    """A forged body is refused for its signature, whatever it says; the wallet is not even asked."""
    asked: list[PeerId] = []

    def spy(binding: pb.PeerBinding, *, peer_id: PeerId, network: str, now: float) -> bytes:
        asked.append(peer_id)
        return verify_binding(binding, peer_id=peer_id, network=network, now=now)

    signed = real_record()
    broken = bytearray(signed.envelope)
    broken[60] ^= 1
    signed.envelope = bytes(broken)
    with pytest.raises(RemoteProtocolError):
        verify_record(signed, expected_peer_id=None, network=NETWORK, now=EPOCH, verify_binding=spy)
    assert asked == []


def test_the_digest_is_of_the_signed_body_alone() -> None:
    """Another binding around the same body is the same record, so nobody can frame a host for equivocation."""
    first = real_record()
    second = pb.SignedHostRecord(
        envelope=first.envelope,
        binding=sign_binding(WALLET, KEY.peer_id, network=NETWORK, now=EPOCH + 1),
    )
    # An unknown field outside the signed bytes.
    padded = pb.SignedHostRecord(envelope=first.envelope + bytes([15 << 3, 1]), binding=first.binding)
    digests = {verify(signed, now=EPOCH + 1).digest for signed in (first, second, padded)}
    assert len(digests) == 1


def test_capabilities_are_those_of_the_record() -> None:
    """D28: what the client wanted is never echoed as what the host has."""
    info = make_info("host", make_description("m", capabilities=["a"]))
    assert info.capabilities == ("a",)


def test_a_stock_libp2p_reads_the_envelope() -> None:
    """Another implementation agrees on the bytes that are signed."""
    from libp2p.peer.envelope import unmarshal_envelope

    signed = real_record()
    envelope = unmarshal_envelope(signed.envelope)
    assert envelope.payload_type == PAYLOAD_TYPE
    envelope.validate("hostmesh:testnet:host-record")
    with pytest.raises(ValueError, match="signature"):
        envelope.validate("hostmesh:othernet:host-record")
    body = pb.HostRecord.FromString(envelope.raw_payload)
    assert (body.network, body.sequence) == ("testnet", 42)
