"""Our side of Noise with set keys, and what an honest or lying peer says to it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.support.noise_peer import NoisePeer, SealingKey, framed, payload

from hostmesh.wire.noise import SIGNED_PREFIX, NoiseHandshake, NoiseIdentity, NoiseResult
from hostmesh.wire.noise_channel import NoiseChannel

OUR_SEED, OUR_STATIC, OUR_EPHEMERAL = (bytes((number,)) * 32 for number in (1, 2, 3))
THEIR_SEED, THEIR_STATIC, THEIR_EPHEMERAL = (bytes((number,)) * 32 for number in (4, 5, 6))
YAMUX = "/yamux/1.0.0"


def public_of(static: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(static).public_key().public_bytes_raw()


def identity_of(seed: bytes, static: bytes, muxers: tuple[str, ...] = ()) -> NoiseIdentity:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    signature = key.sign(SIGNED_PREFIX + public_of(static))
    return NoiseIdentity(static, key.public_key().public_bytes_raw(), signature, muxers=muxers)


THEIR_KEY = Ed25519PrivateKey.from_private_bytes(THEIR_SEED).public_key().public_bytes_raw()
PROOF = payload(THEIR_SEED, public_of(THEIR_STATIC))


def ours(*, we_dial: bool, muxers: tuple[str, ...] = (), expected: bytes | None = None) -> NoiseHandshake:
    return NoiseHandshake(
        is_initiator=we_dial,
        identity=identity_of(OUR_SEED, OUR_STATIC, muxers),
        ephemeral_private=OUR_EPHEMERAL,
        expected_public_key=expected,
    )


def unframed(data: bytes) -> bytes:
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    return data[2:]


def their_words(
    handshake: NoiseHandshake,
    *,
    we_dial: bool,
    proof: bytes = PROOF,
    ephemeral: bytes | None = None,
    static: bytes | None = None,
    early: bytes = b"",
) -> tuple[list[bytes], NoisePeer]:
    """Play the peer until its last message, which is not fed yet; return its messages and the peer."""
    peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    if we_dial:
        peer.read_first(unframed(handshake.data_to_send()))
        return [framed(peer.write_second(proof, ephemeral=ephemeral, static=static))], peer
    first = framed(peer.write_first(early, ephemeral=ephemeral))
    assert handshake.receive(first) is None
    peer.read_second(unframed(handshake.data_to_send()))
    return [first, framed(peer.write_third(proof, static=static))], peer


def finish(handshake: NoiseHandshake, last: bytes) -> NoiseResult:
    finished = handshake.receive(last)
    assert finished is not None
    result, rest = finished
    assert rest == b""
    return result


def channel_pair(*, we_dial: bool = True) -> tuple[NoiseChannel, SealingKey, SealingKey]:
    """Return our channel, and what seals and opens at the peer."""
    handshake = ours(we_dial=we_dial)
    words, peer = their_words(handshake, we_dial=we_dial)
    result = finish(handshake, words[-1])
    if we_dial:
        peer.read_third(unframed(handshake.data_to_send()))
    return result.channel, *peer.split()
