"""Noise XX as libp2p uses it: a handshake that proves both peers' keys. Pure.

Participants: an initiator, who dialled, and a responder. Every message has its length before it, two bytes, big-endian.

::

    initiator -> e
    responder -> e, ee, s, es   {identity key, its signature of s, extensions}
    initiator -> s, se          {identity key, its signature of s, extensions}
    both      -> sealed messages: :mod:`hostmesh.wire.noise_channel`

A peer is the Ed25519 key that signed its static Noise key; nothing that it says is looked at before that signature is
verified. After an error the handshake is dead, and its connection must be closed.

Bounds: one message is held, of at most 4 KiB and its keys.

Source: Noise Protocol Framework, revision 34, sections 5, 7.5 and 11.2; libp2p specs, "noise". Small-order points
are refused as in RFC 7748, section 6.1 (an all-zero shared secret).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from hostmesh.errors import BadSignatureError, MalformedMessageError, RemoteProtocolError
from hostmesh.v1.noise_pb2 import NoiseHandshakePayload
from hostmesh.wire.bounds import parse
from hostmesh.wire.ed25519 import is_signed
from hostmesh.wire.noise_channel import TAG_BYTES, Cipher, NoiseChannel

NOISE_ID = "/noise"
MAX_PAYLOAD_BYTES = 4096
"""Of a handshake message. Ours have about 130 bytes; an RSA identity, which is refused by name, has about 600."""
SIGNED_PREFIX = b"noise-libp2p-static-key:"

_PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
_ED25519_KEY_PREFIX = bytes.fromhex("08011220")
_KEY_BYTES = 32


class NoiseIdentity:
    """What one node brings to all its handshakes: the static Noise key, and the proof that the peer key vouches for it.

    Args:
        static_private: X25519 private key, 32 bytes; of this process only, never stored.
        identity_public: the raw Ed25519 public key, 32 bytes.
        signature: of :data:`SIGNED_PREFIX` and the static public key, by the identity key.
        muxers: multiplexers to offer, best first.

    Cost: one signature a node; a handshake signs nothing.
    """

    __slots__ = ("muxers", "payload", "static_private", "static_public")

    def __init__(
        self, static_private: bytes, identity_public: bytes, signature: bytes, *, muxers: tuple[str, ...] = ()
    ) -> None:
        self.static_private = X25519PrivateKey.from_private_bytes(static_private)
        self.static_public = self.static_private.public_key().public_bytes_raw()
        self.muxers = muxers
        message = NoiseHandshakePayload(identity_key=_ED25519_KEY_PREFIX + identity_public, identity_sig=signature)
        if muxers:
            message.extensions.stream_muxers.extend(muxers)
        self.payload = message.SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseResult:
    """A finished handshake."""

    remote_public_key: bytes
    """The peer's raw Ed25519 public key, 32 bytes, proven."""
    remote_muxers: tuple[str, ...]
    """The multiplexers that it offered."""
    channel: NoiseChannel
    handshake_hash: bytes
    """32 bytes that only these two know to be of this connection (section 11.2)."""


class _Symmetric:
    """SymmetricState of the framework, section 5.2."""

    __slots__ = ("_chaining_key", "_cipher", "hash")

    def __init__(self) -> None:
        self.hash = self._chaining_key = _PROTOCOL_NAME
        self._cipher: Cipher | None = None
        self.mix_hash(b"")  # the prologue

    def mix_hash(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data).digest()

    def mix_key(self, private: X25519PrivateKey, public: X25519PublicKey) -> None:
        try:
            secret = private.exchange(public)
        except ValueError as error:
            raise MalformedMessageError("a small-order key in the handshake") from error
        self._chaining_key, key = _derive(self._chaining_key, secret)
        self._cipher = Cipher(key)

    def seal(self, plaintext: bytes) -> bytes:
        sealed = plaintext if self._cipher is None else self._cipher.seal(plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plaintext = sealed if self._cipher is None else self._cipher.open(sealed, self.hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[Cipher, Cipher]:
        first, second = _derive(self._chaining_key, b"")
        return Cipher(first), Cipher(second)


def _derive(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs; section 4.3."""
    temporary = hmac.digest(chaining_key, secret, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")


class NoiseHandshake:
    """One side of a handshake: feed what arrives, send what there is, until :meth:`receive` returns the result.

    Args:
        is_initiator: whether this side dialled.
        identity: this node's.
        ephemeral_private: 32 fresh random bytes; never used for another handshake.
        expected_public_key: the peer must prove this raw Ed25519 key; None takes any. An initiator says nothing about
            itself to another peer.
    """

    __slots__ = (
        "_buffer",
        "_ephemeral",
        "_error",
        "_expected",
        "_identity",
        "_is_initiator",
        "_output",
        "_remote_ephemeral",
        "_step",
        "_symmetric",
    )

    def __init__(
        self,
        *,
        is_initiator: bool,
        identity: NoiseIdentity,
        ephemeral_private: bytes,
        expected_public_key: bytes | None = None,
    ) -> None:
        self._identity = identity
        self._expected = expected_public_key
        self._is_initiator = is_initiator
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_private)
        self._remote_ephemeral: X25519PublicKey | None = None
        self._symmetric = _Symmetric()
        self._buffer = bytearray()
        self._output = bytearray()
        self._error: RemoteProtocolError | None = None
        self._step = 0
        if is_initiator:
            self._send(self._write_ephemeral() + self._symmetric.seal(b""))

    def data_to_send(self) -> bytes:
        """Return what must be sent and was not taken yet."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> tuple[NoiseResult, bytes] | None:
        """Take received bytes.

        Returns:
            None while the handshake goes on; then its result, and the bytes that came after it.

        Raises:
            MalformedMessageError: not a Noise handshake, a forged message, or a small-order key.
            BadSignatureError: the peer's key does not vouch for its Noise key.
            RemoteProtocolError: the peer's key is not Ed25519.
        """
        if self._error is not None:
            raise self._error
        self._buffer += data
        try:
            while (message := self._next_message()) is not None:
                self._step += 1
                result = self._take(message)
                if result is not None:
                    rest = bytes(self._buffer)
                    self._buffer.clear()
                    return result, rest
        except RemoteProtocolError as error:
            self._error = error
            self._buffer.clear()
            raise
        return None

    def _next_message(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size = int.from_bytes(buffer[:2], "big")
        # Two keys and two tags around the payload.
        if size > MAX_PAYLOAD_BYTES + 2 * (_KEY_BYTES + TAG_BYTES):
            raise MalformedMessageError("a handshake message that is too long")
        if len(buffer) < 2 + size:
            return None
        message = bytes(buffer[2 : 2 + size])
        del buffer[: 2 + size]
        return message

    def _take(self, message: bytes) -> NoiseResult | None:
        symmetric = self._symmetric
        if self._is_initiator:
            remote_ephemeral, rest = self._read_ephemeral(message)
            symmetric.mix_key(self._ephemeral, remote_ephemeral)
            remote_static, rest = self._read_static(rest)
            symmetric.mix_key(self._ephemeral, remote_static)
            payload = symmetric.open(rest)
            public_key, muxers = self._verify(payload, remote_static)
            sealed_static = symmetric.seal(self._identity.static_public)
            symmetric.mix_key(self._identity.static_private, remote_ephemeral)
            self._send(sealed_static + symmetric.seal(self._identity.payload))
            sending, receiving = symmetric.split()
        elif self._step == 1:
            self._remote_ephemeral, rest = self._read_ephemeral(message)
            symmetric.open(rest)  # an early payload is nobody's yet, and of no use
            head = self._write_ephemeral()
            symmetric.mix_key(self._ephemeral, self._remote_ephemeral)
            head += symmetric.seal(self._identity.static_public)
            symmetric.mix_key(self._identity.static_private, self._remote_ephemeral)
            self._send(head + symmetric.seal(self._identity.payload))
            return None
        else:
            remote_static, rest = self._read_static(message)
            symmetric.mix_key(self._ephemeral, remote_static)
            payload = symmetric.open(rest)
            public_key, muxers = self._verify(payload, remote_static)
            receiving, sending = symmetric.split()
        channel = NoiseChannel(sending, receiving)
        return NoiseResult(
            remote_public_key=public_key, remote_muxers=muxers, channel=channel, handshake_hash=symmetric.hash
        )

    def _write_ephemeral(self) -> bytes:
        public = self._ephemeral.public_key().public_bytes_raw()
        self._symmetric.mix_hash(public)
        return public

    def _read_ephemeral(self, message: bytes) -> tuple[X25519PublicKey, bytes]:
        if len(message) < _KEY_BYTES:
            raise MalformedMessageError("a handshake message that is too short")
        key = message[:_KEY_BYTES]
        self._symmetric.mix_hash(key)
        return X25519PublicKey.from_public_bytes(key), message[_KEY_BYTES:]

    def _read_static(self, message: bytes) -> tuple[X25519PublicKey, bytes]:
        size = _KEY_BYTES + TAG_BYTES
        if len(message) < size:
            raise MalformedMessageError("a handshake message that is too short")
        return X25519PublicKey.from_public_bytes(self._symmetric.open(message[:size])), message[size:]

    def _verify(self, payload: bytes, remote_static: X25519PublicKey) -> tuple[bytes, tuple[str, ...]]:
        """Return the identity key that vouches for a static key, and the offered multiplexers."""
        message = parse(NoiseHandshakePayload, payload, MAX_PAYLOAD_BYTES)
        key = message.identity_key
        if len(key) != len(_ED25519_KEY_PREFIX) + _KEY_BYTES or not key.startswith(_ED25519_KEY_PREFIX):
            raise RemoteProtocolError("the peer's key is not Ed25519")
        public_key = key[len(_ED25519_KEY_PREFIX) :]
        if not is_signed(public_key, message.identity_sig, SIGNED_PREFIX + remote_static.public_bytes_raw()):
            raise BadSignatureError("the peer's key does not vouch for its connection")
        if self._expected not in (None, public_key):
            raise RemoteProtocolError("the peer there is another one")
        return public_key, tuple(message.extensions.stream_muxers)

    def _send(self, message: bytes) -> None:
        self._output += len(message).to_bytes(2, "big") + message
