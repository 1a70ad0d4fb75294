"""What a refused record is refused with, word for word, and the last byte and second that is not refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from discovery_world import EPOCH, NETWORK, make_binding, make_key, make_operator, make_record, trusting_verifier

from hostmesh.discovery.description import Gpu, Hardware, HostDescription, ModelOffer, Reachability
from hostmesh.discovery.record import HostInfo, build_record, open_body, verify_record
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.errors import BadSignatureError, ConfigError, RecordExpiredError, RecordInvalidError, RemoteProtocolError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.v1 import discovery_pb2 as pb

DOMAIN, TYPE = "hostmesh:testnet:host-record", b"/hostmesh/host-record"
"""As the protocol page states them."""
KEY, OTHER = make_key("host"), make_key("other")
RECORD = make_record("host")
SKEW_S = 30
CLOCKS = "one of the two clocks is wrong; compare both with a time server"


def verify(signed: pb.SignedHostRecord, *, now: float = EPOCH) -> HostInfo:
    return verify_record(
        signed, expected_peer_id=KEY.peer_id, network=NETWORK, now=now, verify_binding=trusting_verifier
    )


def sealed(payload: bytes) -> bytes:
    return seal_envelope(KEY, domain=DOMAIN, payload_type=TYPE, payload=payload)


def body_of(signed: pb.SignedHostRecord) -> pb.HostRecord:
    opened = open_envelope(signed.envelope, domain=DOMAIN, payload_type=TYPE, max_bytes=10_752)
    return pb.HostRecord.FromString(opened.payload)


def resigned(**fields: Any) -> pb.SignedHostRecord:
    """Return the record with other values, signed anew by its host."""

    def edit(body: pb.HostRecord) -> None:
        for name, value in fields.items():
            setattr(body, name, value)

    return changed(edit)


def changed(edit: Callable[[pb.HostRecord], None]) -> pb.SignedHostRecord:
    body = body_of(RECORD)
    edit(body)
    return pb.SignedHostRecord(envelope=sealed(body.SerializeToString()), binding=RECORD.binding)


def with_models(*model_ids: str) -> pb.SignedHostRecord:
    def edit(body: pb.HostRecord) -> None:
        del body.models[:]
        for model_id in model_ids:
            body.models.add(model_id=model_id)

    return changed(edit)


def bound(binding: pb.PeerBinding | None) -> pb.SignedHostRecord:
    return pb.SignedHostRecord(envelope=RECORD.envelope, binding=binding)


def _forged() -> pb.PeerBinding:
    binding = make_binding(KEY, make_operator("host"))
    binding.signature = bytes(65)
    return binding


def _padded(payload_bytes: int) -> bytes:
    """Return RECORD's body, made this long by a field of a later version."""
    body = body_of(RECORD).SerializeToString()
    head = bytes([0xC2, 0x3E])  # field 1000, length-delimited
    room = payload_bytes - len(body) - len(head) - 2
    return body + head + bytes([room & 0x7F | 0x80, room >> 7]) + bytes(room)


REFUSALS: dict[str, tuple[Callable[[], pb.SignedHostRecord], type[RemoteProtocolError], str, str]] = {
    "another peer": (
        lambda: make_record("other"),
        RecordInvalidError,
        "the record is signed by another peer",
        "peer_id",
    ),
    "no sequence": (lambda: resigned(sequence=0), RecordInvalidError, "the record has no sequence", "sequence"),
    "another network": (
        lambda: resigned(network="othernet"),
        RecordInvalidError,
        "the record is of another network",
        "network",
    ),
    "names another peer": (
        lambda: resigned(peer_id=peer_id_to_bytes(OTHER.peer_id)),
        RecordInvalidError,
        "the record names another peer than the one that signed it",
        "peer_id",
    ),
    "from the future": (
        lambda: resigned(issued_at_unix_s=EPOCH + SKEW_S + 1, expires_at_unix_s=EPOCH + SKEW_S + 2),
        RecordInvalidError,
        "the record is issued in the future",
        "issued_at_unix_s",
    ),
    "too long a life": (
        lambda: resigned(expires_at_unix_s=EPOCH + 121),
        RecordInvalidError,
        "the record does not live 1 to 120 s",
        "expires_at_unix_s",
    ),
    "expired": (
        lambda: resigned(issued_at_unix_s=EPOCH - 151, expires_at_unix_s=EPOCH - 31),
        RecordExpiredError,
        "the record has expired",
        "expires_at_unix_s",
    ),
    "starts in the future": (
        lambda: resigned(started_at_unix_s=EPOCH + SKEW_S + 1),
        RecordInvalidError,
        "the host says it starts in the future",
        "started_at_unix_s",
    ),
    "no binding": (lambda: bound(None), RecordInvalidError, "the record has no binding", "binding"),
    "binding of another peer": (
        lambda: bound(make_binding(OTHER, make_operator("host"))),
        RecordInvalidError,
        "the binding is of another peer",
        "binding.peer_id",
    ),
    "binding of another operator": (
        lambda: bound(make_binding(KEY, make_operator("other"))),
        RecordInvalidError,
        "the binding is of another operator",
        "binding.operator",
    ),
    "no model": (with_models, RecordInvalidError, "the record offers no model", "models"),
    "one model twice": (
        lambda: with_models("m", "m"),
        RecordInvalidError,
        "the record offers one model twice",
        "models",
    ),
    "a location that is none": (
        lambda: changed(lambda body: body.location.CopyFrom(pb.Location(country_code="us"))),
        RecordInvalidError,
        "the record's location is wrong",
        "location",
    ),
}


@pytest.mark.parametrize(("make", "kind", "says", "field"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_is_wrong_with_the_record(
    make: Callable[[], pb.SignedHostRecord], kind: type[RecordInvalidError], says: str, field: str
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        verify(make())
    assert type(caught.value) is kind
    assert (caught.value.message, getattr(caught.value, "field", None)) == (says, field)
    assert caught.value.remedy == (CLOCKS if field == "issued_at_unix_s" else "")


def test_a_binding_that_another_wallet_signed_is_refused_in_so_many_words() -> None:
    def another(binding: pb.PeerBinding, **_said: Any) -> bytes:
        return make_operator("another")

    with pytest.raises(BadSignatureError, match=r"^the operator's wallet did not sign the binding$"):
        verify_record(RECORD, expected_peer_id=None, network=NETWORK, now=EPOCH, verify_binding=another)
    with pytest.raises(BadSignatureError):
        verify(bound(_forged()))


@pytest.mark.parametrize(
    ("signed", "field", "says"),
    [
        (pb.SignedHostRecord(envelope=b"\xff", binding=RECORD.binding), "envelope", "not a signed envelope"),
        (pb.SignedHostRecord(envelope=sealed(b"\xff"), binding=RECORD.binding), "payload", "not a HostRecord"),
        (pb.SignedHostRecord(envelope=bytes(10_753)), "envelope", "envelope"),
        (pb.SignedHostRecord(envelope=sealed(bytes(10_241))), "payload", "over the limit of 10240"),
        (pb.SignedHostRecord(envelope=RECORD.envelope, binding=pb.PeerBinding()), "binding.operator", "operator"),
    ],
)
def test_a_malformed_record_is_refused_with_where_and_why(signed: pb.SignedHostRecord, field: str, says: str) -> None:
    with pytest.raises(RecordInvalidError, match=f"^the record is malformed: .*{says}") as caught:
        verify(signed)
    assert caught.value.field == field


def test_an_envelope_is_bounded_wherever_it_comes_from() -> None:
    """Proofs hold envelopes, too."""
    with pytest.raises(RecordInvalidError, match=r"^the record is malformed: envelope too large$") as caught:
        open_body(bytes(10_753), network=NETWORK)
    assert caught.value.field == "envelope"


def test_the_longest_record_is_read_and_not_a_byte_more() -> None:
    read = open_body(sealed(_padded(10_240)), network=NETWORK)
    assert read.record.models == body_of(RECORD).models
    with pytest.raises(RecordInvalidError):
        open_body(sealed(_padded(10_241)), network=NETWORK)


def test_the_last_second_of_each_skew_is_taken() -> None:
    info = verify(resigned(started_at_unix_s=EPOCH + SKEW_S))
    assert info.started_at_unix_s == EPOCH + SKEW_S
    ahead = resigned(issued_at_unix_s=EPOCH + SKEW_S, expires_at_unix_s=EPOCH + SKEW_S + 1)
    assert verify(ahead).issued_at_unix_s == EPOCH + SKEW_S
    assert verify(RECORD, now=EPOCH + 150).sequence == 1


def test_a_wrong_offer_is_refused_with_which_and_why() -> None:
    signed = changed(lambda body: body.models.add(model_id="n", weights_sha256=b"short"))
    with pytest.raises(RecordInvalidError, match=r"^the record's offer is wrong: weights_sha256") as caught:
        verify(signed)
    assert caught.value.field == "models[1].weights_sha256"


def test_addresses_that_cannot_be_read_are_counted_one_by_one() -> None:
    info = verify(changed(lambda body: body.addresses.extend([b"junk", b"more junk", b"\x04"])))
    assert (info.addresses, info.dropped_addresses) == (("/ip4/192.0.2.1/tcp/4001",), 3)


def test_an_address_that_is_none_is_not_signed() -> None:
    with pytest.raises(ConfigError, match="nowhere") as caught:
        make_record("host", addresses=("/ip4/nowhere/tcp/1",))
    assert (caught.value.name, caught.value.source) == ("announce_addresses", "argument")
    assert caught.value.__cause__ is not None
    assert caught.value.remedy == getattr(caught.value.__cause__, "remedy", None) != ""


def _sized(software_bytes: int) -> pb.SignedHostRecord:
    models = [ModelOffer(model_id=f"{index:02}" + "x" * 126, engine="y" * 22) for index in range(64)]
    description = HostDescription(models=models, software="s" * software_bytes)
    operator = make_operator("host")
    return build_record(
        description,
        key=KEY,
        operator=operator,
        binding=make_binding(KEY, operator),
        network=NETWORK,
        sequence=1,
        issued_at_unix_s=EPOCH,
        started_at_unix_s=EPOCH,
        addresses=(),
    )


def test_everything_that_a_host_states_is_read_back() -> None:
    """Whatever is optional, stated and left out."""
    full = ModelOffer(
        model_id="full",
        kind=ModelKind.EMBEDDING,
        price=Price(micros_per_mtok=2**63, currency="EUR"),
        context_tokens=4096,
        max_output_tokens=512,
        quantisation="Q8_0",
        weights_sha256=bytes(range(32)),
        tokenizer_sha256=bytes(range(1, 33)),
        chat_template_sha256=bytes(range(2, 34)),
        engine="llama.cpp",
        engine_version="b4000",
        parameters=["seed"],
        output_millitokens_per_s=12_345,
    )
    gpus = [Gpu(model="a", memory_mib=8000, count=2), Gpu(model="b")]
    hardware = Hardware(cpu_model="c", cpu_cores=8, memory_mib=32_000, gpus=gpus)
    for description in (
        HostDescription(
            models=[full], location="DE/Berlin", software="s 1", hardware=hardware, reachability=Reachability.MAPPED
        ),
        HostDescription(models=[ModelOffer(model_id="bare")], location="FR", hardware=Hardware()),
        HostDescription(models=[ModelOffer(model_id="bare")]),
    ):
        info = verify(make_record("host", description))
        assert info.network == NETWORK
        assert info.models == description.models
        assert info.place == description.place
        assert info.software == (description.software or "")
        assert info.hardware == description.hardware
        assert info.reachability is description.reachability


@pytest.mark.parametrize("over", [0, 1])
def test_a_record_may_be_as_long_as_readers_take_and_no_longer(over: int) -> None:
    """The rest of the room is filled to the byte, then to one more."""
    body = pb.HostRecord.FromString(_payload(_sized(1)))
    fill = 1 + 10_240 + over - body.ByteSize()
    if not over:
        assert len(_payload(_sized(fill))) == 10_240
        return
    with pytest.raises(ConfigError, match=r"^the host record has 10241 bytes, more than 10240$") as caught:
        _sized(fill)
    assert (caught.value.name, caught.value.source) == ("models", "argument")
    assert caught.value.remedy == "offer fewer models, or shorten names and lists"


def _payload(signed: pb.SignedHostRecord) -> bytes:
    return open_envelope(signed.envelope, domain=DOMAIN, payload_type=TYPE, max_bytes=10_752).payload
