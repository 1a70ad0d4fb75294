"""The other side of a Noise XX handshake, written apart from ours, that can be told to lie.

Straight from the Noise framework's sections 5.1 to 5.3, with nothing shared with ``hostmesh.wire.noise``: HKDF, hash
and nonces are spelled out. Every part of a message can be replaced by another.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"

SMALL_ORDER_POINTS = tuple(
    bytes.fromhex(text)
    for text in (
        # Points of order 1, 2, 4 and 8 on Curve25519, canonical and not: the list on D. J. Bernstein's page "ECDH".
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        # The same with the top bit set, which X25519 ignores.
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)


class SealingKey:
    """One direction after the handshake."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.count = 0

    def seal(self, plaintext: bytes) -> bytes:
        """Return a message with its length before it."""
        sealed = ChaCha20Poly1305(self.key).encrypt(self._nonce(), plaintext, None)
        return len(sealed).to_bytes(2, "big") + sealed

    def open(self, data: bytes) -> list[bytes]:
        """Return the plaintexts of whole messages."""
        out = []
        while data:
            size = int.from_bytes(data[:2], "big")
            out.append(ChaCha20Poly1305(self.key).decrypt(self._nonce(), data[2 : 2 + size], None))
            data = data[2 + size :]
        return out

    def _nonce(self) -> bytes:
        self.count += 1
        return bytes(4) + (self.count - 1).to_bytes(8, "little")


class NoisePeer:
    """One side.

    Args:
        is_initiator: whether it dialled.
        static: its Noise key, 32 bytes.
        ephemeral: its key of this handshake, 32 bytes.
    """

    def __init__(self, *, is_initiator: bool, static: bytes, ephemeral: bytes) -> None:
        self.is_initiator = is_initiator
        self.static = X25519PrivateKey.from_private_bytes(static)
        self.ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self.their_ephemeral = b""
        self.their_static = b""
        self.chaining_key = NAME
        self.hash = hashlib.sha256(NAME + b"").digest()
        self.key: bytes | None = None
        self.count = 0

    # --- messages, each without its length ---

    def write_first(self, payload: bytes = b"", *, ephemeral: bytes | None = None) -> bytes:
        """Return the initiator's first message."""
        return self._write_key(ephemeral) + self._seal(payload)

    def read_first(self, message: bytes) -> bytes:
        """Take the initiator's first message; return its payload."""
        self._read_ephemeral(message[:32])
        return self._open(message[32:])

    def write_second(self, payload: bytes, *, ephemeral: bytes | None = None, static: bytes | None = None) -> bytes:
        """Return the responder's message."""
        message = self._write_key(ephemeral)
        self._mix(self.ephemeral, self.their_ephemeral)
        message += self._seal(static or self.static.public_key().public_bytes_raw())
        self._mix(self.static, self.their_ephemeral)
        return message + self._seal(payload)

    def read_second(self, message: bytes) -> bytes:
        """Take the responder's message; return its payload."""
        self._read_ephemeral(message[:32])
        self._mix(self.ephemeral, self.their_ephemeral)
        self.their_static = self._open(message[32:80])
        self._mix(self.ephemeral, self.their_static)
        return self._open(message[80:])

    def write_third(self, payload: bytes, *, static: bytes | None = None) -> bytes:
        """Return the initiator's last message."""
        message = self._seal(static or self.static.public_key().public_bytes_raw())
        self._mix(self.static, self.their_ephemeral)
        return message + self._seal(payload)

    def read_third(self, message: bytes) -> bytes:
        """Take the initiator's last message; return its payload."""
        self.their_static = self._open(message[:48])
        self._mix(self.ephemeral, self.their_static)
        return self._open(message[48:])

    def split(self) -> tuple[SealingKey, SealingKey]:
        """Return what seals and what opens from now on."""
        first, second = _hkdf(self.chaining_key, b"")
        keys = SealingKey(first), SealingKey(second)
        return keys if self.is_initiator else keys[::-1]

    # --- the framework ---

    def _write_key(self, instead: bytes | None) -> bytes:
        key = instead or self.ephemeral.public_key().public_bytes_raw()
        self._mix_hash(key)
        return key

    def _read_ephemeral(self, key: bytes) -> None:
        self.their_ephemeral = key
        self._mix_hash(key)

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def _mix(self, private: X25519PrivateKey, public: bytes) -> None:
        try:
            secret = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            # A liar goes on with what a careless implementation would compute: the point at zero.
            secret = bytes(32)
        self.chaining_key, self.key = _hkdf(self.chaining_key, secret)
        self.count = 0

    def _seal(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self.key is not None:
            sealed = ChaCha20Poly1305(self.key).encrypt(self._nonce(), plaintext, self.hash)
        self._mix_hash(sealed)
        return sealed

    def _open(self, sealed: bytes) -> bytes:
        plaintext = sealed
        if self.key is not None:
            plaintext = ChaCha20Poly1305(self.key).decrypt(self._nonce(), sealed, self.hash)
        self._mix_hash(sealed)
        return plaintext

    def _nonce(self) -> bytes:
        self.count += 1
        return bytes(4) + (self.count - 1).to_bytes(8, "little")


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.new(chaining_key, material, hashlib.sha256).digest()
    first = hmac.new(temporary, b"\x01", hashlib.sha256).digest()
    return first, hmac.new(temporary, first + b"\x02", hashlib.sha256).digest()


def framed(message: bytes) -> bytes:
    """Return a message with its length before it."""
    return len(message).to_bytes(2, "big") + message


def field(number: int, data: bytes) -> bytes:
    """Return a protobuf field that has a length."""
    size = len(data)
    head = bytes((number << 3 | 2,))
    while size > 127:
        head += bytes((size & 127 | 128,))
        size >>= 7
    return head + bytes((size,)) + data


def payload(
    identity_seed: bytes,
    static_public: bytes,
    *,
    muxers: tuple[str, ...] = (),
    key: bytes | None = None,
    signature: bytes | None = None,
) -> bytes:
    """Return a handshake payload in bytes: identity key, signature, extensions."""
    identity = Ed25519PrivateKey.from_private_bytes(identity_seed)
    if key is None:
        key = bytes.fromhex("08011220") + identity.public_key().public_bytes_raw()
    if signature is None:
        signature = identity.sign(b"noise-libp2p-static-key:" + static_public)
    data = field(1, key) + field(2, signature)
    if muxers:
        data += field(4, b"".join(field(2, each.encode()) for each in muxers))
    return data
