"""An identity that everybody can prove is proven by nobody: Ed25519 keys of small order in a handshake."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.support.noise_peer import payload
from tests.support.noise_sides import THEIR_SEED, THEIR_STATIC, ours, public_of, their_words
from tests.unit.wire.test_ed25519 import encodings

from hostmesh.errors import BadSignatureError

SIGNATURE = (1).to_bytes(32, "little") + bytes(32)
"""R is the identity, S is 0."""


def test_the_library_takes_the_identity_for_a_key_that_signed_everything() -> None:
    """Otherwise the tests below would show nothing."""
    key = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    for message in (b"a", b"b", b"c"):
        key.verify(SIGNATURE, message)


@pytest.mark.parametrize("we_dial", [True, False], ids=["dialer", "listener"])
@pytest.mark.parametrize("key", encodings(), ids=bytes.hex)
@pytest.mark.parametrize("is_expected", [True, False], ids=["expected", "anybody"])
def test_a_peer_with_such_a_key_is_refused(we_dial: bool, key: bytes, is_expected: bool) -> None:
    handshake = ours(we_dial=we_dial, expected=key if is_expected else None)
    proof = payload(THEIR_SEED, public_of(THEIR_STATIC), key=bytes.fromhex("08011220") + key, signature=SIGNATURE)
    words, _ = their_words(handshake, we_dial=we_dial, proof=proof)
    with pytest.raises(BadSignatureError, match="vouch"):
        handshake.receive(words[-1])
    assert handshake.data_to_send() == b""
