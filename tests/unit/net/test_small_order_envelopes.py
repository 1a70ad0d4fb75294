"""A signed envelope of a key that everybody can sign with is signed by nobody."""

from __future__ import annotations

import pytest
from tests.unit.wire.test_ed25519 import encodings

from hostmesh.errors import BadSignatureError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1.envelope_pb2 import SignedEnvelope

DOMAIN = "hostmesh:test:host-record"
KIND = b"/hostmesh/host-record"
SIGNATURE = (1).to_bytes(32, "little") + bytes(32)
"""R is the identity, S is 0."""


@pytest.mark.parametrize("key", encodings(), ids=bytes.hex)
@pytest.mark.parametrize("payload", [b"", b"x", bytes(1000)], ids=len)
def test_an_envelope_of_such_a_key_is_refused(key: bytes, payload: bytes) -> None:
    envelope = SignedEnvelope.FromString(
        seal_envelope(PeerKey.generate(), domain=DOMAIN, payload_type=KIND, payload=payload)
    )
    envelope.public_key.data = key
    envelope.signature = SIGNATURE
    with pytest.raises(BadSignatureError):
        open_envelope(envelope.SerializeToString(), domain=DOMAIN, payload_type=KIND, max_bytes=16384)
