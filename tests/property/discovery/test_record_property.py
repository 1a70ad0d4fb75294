"""Records: any flipped byte is refused, whatever is stated comes back, strangers' fields mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_world import EPOCH, NETWORK, make_binding, make_key, make_operator, make_record, trusting_verifier
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.description import Gpu, Hardware, HostDescription, ModelOffer, Reachability
from hostmesh.discovery.record import HostInfo, build_record, record_domain, verify_record
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.errors import RemoteProtocolError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.v1 import discovery_pb2 as pb

KEY = make_key("host")
RECORD = make_record("host")
DOMAIN = record_domain(NETWORK)
TYPE = b"/hostmesh/host-record"

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16)
prices = st.builds(
    Price, micros_per_mtok=st.integers(0, 2**64 - 1), currency=st.from_regex(r"[A-Za-z0-9._-]{1,16}", fullmatch=True)
)
offers = st.builds(
    ModelOffer,
    model_id=text,
    kind=st.sampled_from([None, *ModelKind]),
    price=st.none() | prices,
    context_tokens=st.none() | st.integers(1, 2**32 - 1),
    max_output_tokens=st.none() | st.integers(1, 2**32 - 1),
    quantisation=st.none() | st.text("abcQ8_0", min_size=1, max_size=8),
    weights_sha256=st.none() | st.binary(min_size=32, max_size=32),
    engine=st.none() | text,
    parameters=st.lists(st.text("abc", min_size=1, max_size=8), max_size=4, unique=True),
    tokenizer_sha256=st.none() | st.binary(min_size=32, max_size=32),
    chat_template_sha256=st.none() | st.binary(min_size=32, max_size=32),
    engine_version=st.none() | text.filter(lambda version: len(version.encode()) <= 32),
    output_millitokens_per_s=st.none() | st.integers(1, 2**32 - 1),
)
some = st.none() | st.integers(1, 2**32 - 1)
hardware = st.builds(
    Hardware,
    cpu_model=st.none() | text,
    cpu_cores=some,
    memory_mib=some,
    gpus=st.lists(st.builds(Gpu, model=text, memory_mib=some, count=some), max_size=3),
)
descriptions = st.builds(
    HostDescription,
    models=st.lists(offers, min_size=1, max_size=6, unique_by=lambda offer: offer.model_id),
    location=st.none() | st.sampled_from(["US", "de/Berlin", "FR/Île-de-France"]),
    capabilities=st.lists(text, max_size=4, unique=True),
    max_concurrent_jobs=st.integers(1, 2**32 - 1),
    max_queued_jobs=st.integers(0, 2**32 - 1),
    software=st.none() | text,
    protocols=st.lists(st.text("/abc.1", min_size=1, max_size=20), max_size=4, unique=True),
    hardware=st.none() | hardware,
    reachability=st.sampled_from([None, *Reachability]),
)


def verify(signed: pb.SignedHostRecord) -> HostInfo:
    return verify_record(
        signed, expected_peer_id=KEY.peer_id, network=NETWORK, now=EPOCH, verify_binding=trusting_verifier
    )


@given(description=descriptions, sequence=st.integers(1, 2**64 - 1))
def test_what_is_stated_comes_back(description: HostDescription, sequence: int) -> None:
    operator = make_operator("host")
    signed = build_record(
        description,
        key=KEY,
        operator=operator,
        binding=make_binding(KEY, operator),
        network=NETWORK,
        sequence=sequence,
        issued_at_unix_s=EPOCH,
        started_at_unix_s=EPOCH,
        addresses=(),
    )
    info = verify(pb.SignedHostRecord.FromString(signed.SerializeToString()))
    assert info.models == description.models
    assert info.place == description.place
    assert info.capabilities == description.capabilities
    assert info.protocols == description.protocols
    assert info.hardware == description.hardware
    assert info.reachability == description.reachability
    assert info.software == (description.software or "")
    assert info.max_concurrent_jobs == description.max_concurrent_jobs
    assert info.sequence == sequence


def _envelope_cases() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, len(RECORD.envelope) - 1), st.integers(1, 255))


@given(_envelope_cases())
def test_any_changed_byte_of_the_envelope_is_refused(case: tuple[int, int]) -> None:
    position, mask = case
    broken = bytearray(RECORD.envelope)
    broken[position] ^= mask
    with pytest.raises(RemoteProtocolError):
        verify(pb.SignedHostRecord(envelope=bytes(broken), binding=RECORD.binding))


def test_every_flipped_bit_of_the_envelope_is_refused() -> None:
    for bit in range(len(RECORD.envelope) * 8):
        broken = bytearray(RECORD.envelope)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            verify(pb.SignedHostRecord(envelope=bytes(broken), binding=RECORD.binding))


@given(length=st.integers(0, len(RECORD.envelope) - 1))
def test_a_truncated_envelope_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        verify(pb.SignedHostRecord(envelope=RECORD.envelope[:length], binding=RECORD.binding))


@given(st.binary(max_size=400))
def test_garbage_raises_the_one_family_of_errors(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        verify(pb.SignedHostRecord(envelope=data, binding=RECORD.binding))


@given(st.binary(max_size=200))
def test_a_signed_body_of_garbage_raises_the_one_family_of_errors(body: bytes) -> None:
    envelope = seal_envelope(KEY, domain=DOMAIN, payload_type=TYPE, payload=body)
    with pytest.raises(RemoteProtocolError):
        verify(pb.SignedHostRecord(envelope=envelope, binding=RECORD.binding))


@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(
                ["sequence", "issued_at_unix_s", "expires_at_unix_s", "started_at_unix_s", "max_concurrent_jobs"]
            ),
            st.integers(0, 2**32 - 1),
        ),
        max_size=3,
    ),
    place=st.none() | st.tuples(st.text(max_size=3), st.text(max_size=70)),
    extra=st.lists(st.tuples(st.text(max_size=140), st.binary(max_size=40), st.text(max_size=20)), max_size=3),
)
def test_a_malicious_host_gets_a_value_or_a_refusal(changes: Any, place: Any, extra: Any) -> None:
    """Whatever a host signs, the reader gets a checked value or an error of ours."""
    body = pb.HostRecord.FromString(open_body(RECORD.envelope))
    for name, value in changes:
        setattr(body, name, value)
    try:
        if place is not None:
            body.location.CopyFrom(pb.Location(country_code=place[0], region=place[1]))
        for model_id, digest, currency in extra:
            body.models.add(model_id=model_id, weights_sha256=digest, price=pb.Price(currency=currency))
        payload = body.SerializeToString()
    except (DecodeError, UnicodeEncodeError, ValueError):
        return  # protobuf itself does not write such a text
    if len(payload) > 10_000:
        return
    envelope = seal_envelope(KEY, domain=DOMAIN, payload_type=TYPE, payload=payload)
    try:
        info = verify(pb.SignedHostRecord(envelope=envelope, binding=RECORD.binding))
    except RemoteProtocolError:
        return  # any other exception fails the test
    assert info.sequence > 0
    assert 0 < info.expires_at_unix_s - info.issued_at_unix_s <= 120
    assert len({offer.model_id for offer in info.models}) == len(info.models)


def open_body(envelope: bytes) -> bytes:
    return open_envelope(envelope, domain=DOMAIN, payload_type=TYPE, max_bytes=10_752).payload


# Field numbers that no message here uses; each with a length-delimited value.
unknown_fields = st.lists(st.tuples(st.integers(1000, 5000), st.binary(max_size=20)), min_size=1, max_size=4).map(
    lambda fields: b"".join(varint(number << 3 | 2) + varint(len(value)) + value for number, value in fields)
)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@given(outer=unknown_fields, inner=unknown_fields)
def test_unknown_fields_are_signed_and_mean_nothing(outer: bytes, inner: bytes) -> None:
    body = pb.HostRecord.FromString(open_body(RECORD.envelope))
    body.models[0].MergeFromString(inner)
    payload = body.SerializeToString() + outer
    envelope = seal_envelope(KEY, domain=DOMAIN, payload_type=TYPE, payload=payload)
    plain, padded = verify(RECORD), verify(pb.SignedHostRecord(envelope=envelope, binding=RECORD.binding))
    differing = {"digest", "signed"}
    for name in HostInfo.__dataclass_fields__:
        if name not in differing:
            assert getattr(plain, name) == getattr(padded, name), name
