"""Signed envelopes against libp2p's own."""

from __future__ import annotations

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.envelope import Envelope, make_unsigned, unmarshal_envelope

from hostmesh.errors import BadSignatureError, FrameTooLargeError, MalformedMessageError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1.envelope_pb2 import PeerPublicKey, SignedEnvelope

SEED = bytes(range(32))
KEY = PeerKey(SEED)
DOMAIN = "hostmesh:test:host-record"
KIND = b"/hostmesh/host-record"
PAYLOADS = [b"", b"x", bytes(range(256)) * 8]


def _open(data: bytes, *, domain: str = DOMAIN, kind: bytes = KIND, max_bytes: int = 16384):
    return open_envelope(data, domain=domain, payload_type=kind, max_bytes=max_bytes)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_ours_is_byte_for_byte_libp2ps(payload):
    pair = create_new_key_pair(SEED)
    signature = pair.private_key.sign(make_unsigned(DOMAIN, KIND, payload))
    theirs = Envelope(pair.public_key, KIND, payload, signature).marshal_envelope()
    assert seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=payload) == theirs


@pytest.mark.parametrize("payload", PAYLOADS)
def test_libp2p_verifies_ours(payload):
    envelope = unmarshal_envelope(seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=payload))
    envelope.validate(DOMAIN)
    assert (envelope.payload_type, envelope.raw_payload) == (KIND, payload)
    with pytest.raises(ValueError, match="signature"):
        envelope.validate("hostmesh:other:host-record")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_round_trip(payload):
    opened = _open(seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=payload))
    assert (opened.peer_id, opened.payload) == (KEY.peer_id, payload)


def test_other_domain_type_or_network_is_refused():
    data = seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=b"x")
    with pytest.raises(BadSignatureError):
        _open(data, domain="hostmesh:main:host-record")
    with pytest.raises(MalformedMessageError) as caught:
        _open(data, kind=b"/hostmesh/quote")
    assert caught.value.field == "payload_type"


def test_borders_between_the_signed_parts_cannot_move():
    data = seal_envelope(KEY, domain="ab", payload_type=b"c", payload=b"d")
    with pytest.raises((BadSignatureError, MalformedMessageError)):
        _open(data, domain="a", kind=b"bc")
    forged = SignedEnvelope.FromString(data)
    forged.payload_type, forged.payload = b"cd", b""
    with pytest.raises(BadSignatureError):
        _open(forged.SerializeToString(), domain="ab", kind=b"cd")


def test_every_flipped_bit_is_noticed():
    data = seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=b"payload")
    opened = _open(data)
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1
        try:
            result = _open(bytes(changed))
        except (BadSignatureError, MalformedMessageError):
            continue
        assert result == opened


def test_size_is_checked_first():
    data = seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=bytes(1000))
    with pytest.raises(FrameTooLargeError) as caught:
        _open(data, max_bytes=1000)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (len(data), 1000)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda e: e.public_key.CopyFrom(PeerPublicKey(key_type=2, data=bytes(32))), "public_key"),
        (lambda e: e.public_key.CopyFrom(PeerPublicKey(key_type=1, data=bytes(31))), "public_key"),
        (lambda e: e.ClearField("public_key"), "public_key"),
        (lambda e: setattr(e, "signature", bytes(63)), "signature"),
        (lambda e: e.ClearField("signature"), "signature"),
        (lambda e: e.ClearField("payload_type"), "payload_type"),
    ],
)
def test_malformed_envelopes_name_the_field(change, field):
    envelope = SignedEnvelope.FromString(seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=b"x"))
    change(envelope)
    with pytest.raises(MalformedMessageError) as caught:
        _open(envelope.SerializeToString())
    assert caught.value.field == field


def test_another_key_cannot_sign_for_a_peer():
    envelope = SignedEnvelope.FromString(seal_envelope(KEY, domain=DOMAIN, payload_type=KIND, payload=b"x"))
    envelope.public_key.data = PeerKey(bytes(32)).public_bytes
    with pytest.raises(BadSignatureError):
        _open(envelope.SerializeToString())
