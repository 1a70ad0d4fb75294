"""Signed envelopes: what a peer key signs, as libp2p writes it. Pure.

The signature covers ``len(domain) domain len(type) type len(payload) payload``, each length an unsigned varint, so that
bytes signed for one purpose or network verify for no other. The exact payload bytes are verified before anybody decodes
them, and are never re-serialised.

Source: libp2p specs, RFC 0002 "Signed Envelopes".
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hostmesh.errors import BadSignatureError, FrameTooLargeError, MalformedMessageError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1.envelope_pb2 import PeerPublicKey, SignedEnvelope
from hostmesh.wire.ed25519 import is_signed

_ED25519 = 1
"""KeyType of libp2p's crypto.proto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEnvelope:
    """What a verified envelope held."""

    peer_id: PeerId
    """Whose key signed."""
    payload: bytes
    """The exact bytes that were signed; not decoded yet."""


def seal_envelope(key: PeerKey, *, domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """Sign a payload and return the serialised envelope.

    Args:
        key: the signing peer key.
        domain: one string a message type and network, such as ``hostmesh:<network>:host-record``.
        payload_type: names the payload's type inside the envelope.
        payload: the bytes to sign, any.

    Returns:
        A serialised ``SignedEnvelope``.
    """
    envelope = SignedEnvelope(
        public_key=PeerPublicKey(key_type=_ED25519, data=key.public_bytes),
        payload_type=payload_type,
        payload=payload,
        signature=key.sign(_signed_bytes(domain, payload_type, payload)),
    )
    return envelope.SerializeToString()


def open_envelope(data: bytes, *, domain: str, payload_type: bytes, max_bytes: int) -> OpenedEnvelope:
    """Verify a serialised envelope and return what it holds.

    Args:
        data: the bytes as they came.
        domain: what the envelope must have been signed for.
        payload_type: the type that is expected.
        max_bytes: the largest envelope that is looked at.

    Raises:
        FrameTooLargeError: ``data`` is longer than ``max_bytes``; it was not parsed.
        MalformedMessageError: no envelope, another key type, or another payload type.
        BadSignatureError: the signature is not that of the key inside, or was made under another domain.
    """
    if len(data) > max_bytes:
        raise FrameTooLargeError("envelope too large", size_bytes=len(data), limit_bytes=max_bytes)
    try:
        envelope = SignedEnvelope.FromString(data)
    except DecodeError as error:
        raise MalformedMessageError("not a signed envelope") from error
    if envelope.public_key.key_type != _ED25519 or len(envelope.public_key.data) != 32:
        raise MalformedMessageError("not an Ed25519 key", field="public_key")
    if len(envelope.signature) != 64:
        raise MalformedMessageError("an Ed25519 signature has 64 bytes", field="signature")
    if envelope.payload_type != payload_type:
        raise MalformedMessageError("an envelope of another type", field="payload_type")
    signed = _signed_bytes(domain, payload_type, envelope.payload)
    if not is_signed(envelope.public_key.data, envelope.signature, signed):
        raise BadSignatureError("the envelope's signature does not verify")
    return OpenedEnvelope(peer_id=peer_id_from_public_key(envelope.public_key.data), payload=envelope.payload)


def payload_of(data: bytes) -> bytes:
    """Return what a serialised envelope carries, whoever signed it: for telling why one does not verify.

    Raises:
        MalformedMessageError: no envelope.
    """
    try:
        return SignedEnvelope.FromString(data).payload
    except DecodeError as error:
        raise MalformedMessageError("not a signed envelope") from error


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    out = bytearray()
    for part in (domain.encode(), payload_type, payload):
        length = len(part)
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += part
    return bytes(out)
