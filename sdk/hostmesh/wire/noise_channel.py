"""The sealed messages after a Noise handshake. Pure.

Each has its length before it, two bytes, big-endian: at most 65,535 bytes, 16 of them the tag. After an error the
channel is dead, and its connection must be closed.

Bounds: one message is held, 64 KiB. A channel ends before a nonce would be used twice.

Source: Noise Protocol Framework, revision 34, sections 5.1, 11.4 and 12; libp2p specs, "noise".
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from hostmesh.errors import MalformedMessageError, RemoteProtocolError

MAX_MESSAGE_BYTES = 65535
TAG_BYTES = 16
MAX_PLAINTEXT_BYTES = MAX_MESSAGE_BYTES - TAG_BYTES
_LAST_NONCE = 2**64 - 2
"""2^64 - 1 is reserved."""
_NONCE = struct.Struct("<4xQ")


class Cipher:
    """One direction: a key and a counter."""

    __slots__ = ("_aead", "nonce")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self.nonce = 0

    def seal(self, plaintext: bytes | memoryview, associated: bytes | None = None) -> bytes:
        """Return the plaintext and its tag, sealed.

        Raises:
            RemoteProtocolError: the nonces are used up.
        """
        nonce = self.nonce
        if nonce > _LAST_NONCE:
            raise RemoteProtocolError("the connection's nonces are used up", remedy="open another connection")
        self.nonce = nonce + 1
        return self._aead.encrypt(_NONCE.pack(nonce), plaintext, associated)

    def open(self, sealed: bytes | memoryview, associated: bytes | None = None) -> bytes:
        """Return the plaintext.

        Raises:
            MalformedMessageError: it was not sealed with this key and nonce.
            RemoteProtocolError: the nonces are used up.
        """
        nonce = self.nonce
        if nonce > _LAST_NONCE:
            raise RemoteProtocolError("the connection's nonces are used up", remedy="open another connection")
        try:
            plaintext = self._aead.decrypt(_NONCE.pack(nonce), sealed, associated)
        except (InvalidTag, ValueError) as error:
            raise MalformedMessageError("a message that was not sealed for this connection") from error
        self.nonce = nonce + 1
        return plaintext


class NoiseChannel:
    """Seals and opens the messages after a handshake.

    Args:
        sending: seals.
        receiving: opens.
    """

    __slots__ = ("_error", "_partial", "_receiving", "_sending", "undelivered")

    def __init__(self, sending: Cipher, receiving: Cipher) -> None:
        self._sending = sending
        self._receiving = receiving
        self._partial = bytearray()
        self._error: RemoteProtocolError | None = None
        self.undelivered: list[bytes] = []
        """Plaintexts of the messages before the bad one, in the piece that :meth:`open` raised at."""

    def seal(self, plaintext: bytes) -> bytes:
        """Return messages that hold the plaintext, each full but the last; see :meth:`seal_parts`."""
        return b"".join(self.seal_parts(plaintext))

    def seal_parts(self, plaintext: bytes) -> list[bytes]:
        """Return messages that hold the plaintext, each full but the last, as parts to be sent one after another.

        Raises:
            RemoteProtocolError: the nonces are used up.

        Cost: one pass of the cipher; nothing large is copied.
        """
        size = len(plaintext)
        if size <= MAX_PLAINTEXT_BYTES:
            sealed = self._sending.seal(plaintext)
            return [len(sealed).to_bytes(2, "big") + sealed]
        parts: list[bytes] = []
        view = memoryview(plaintext)
        for start in range(0, size, MAX_PLAINTEXT_BYTES):
            sealed = self._sending.seal(view[start : start + MAX_PLAINTEXT_BYTES])
            parts += (len(sealed).to_bytes(2, "big"), sealed)
        return parts

    def open(self, data: bytes) -> list[bytes]:
        """Take received bytes and return the plaintexts of the messages that are complete now.

        Raises:
            MalformedMessageError: a message that was not sealed for this connection, or is too short. What came
                before it in ``data`` is in ``undelivered``.
        """
        if self._error is not None:
            raise self._error
        opened: list[bytes] = []
        try:
            self._open(data, opened)
        except RemoteProtocolError as error:
            self._error = error
            self.undelivered = opened
            self._partial = bytearray()
            raise
        return opened

    def _open(self, data: bytes, opened: list[bytes]) -> None:
        cipher_open = self._receiving.open
        offset = 0
        end = len(data)
        partial = self._partial
        if partial:
            # Complete the message that the last piece began; nothing else of this piece is copied.
            missing = 2 - len(partial)
            if missing > 0:
                partial += data[:missing]
                offset = missing
                if len(partial) < 2:
                    return
            missing = 2 + (partial[0] << 8 | partial[1]) - len(partial)
            if missing > end - offset:
                partial += memoryview(data)[offset:]
                return
            partial += memoryview(data)[offset : offset + missing]
            offset += missing
            with memoryview(partial) as whole, whole[2:] as sealed:
                # Views: copies of this size that come and go tear holes into the heap.
                opened.append(cipher_open(sealed))
            partial.clear()
        view = memoryview(data)
        while end - offset >= 2:
            start = offset + 2
            stop = start + (data[offset] << 8 | data[offset + 1])
            if stop > end:
                break
            opened.append(cipher_open(view[start:stop]))
            offset = stop
        if offset < end:
            partial += view[offset:]
