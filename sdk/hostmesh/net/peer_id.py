"""Peer ids and the Ed25519 public keys inside them. Pure; needs no libp2p.

Source: libp2p specs, "Peer Ids and Keys". An Ed25519 peer id is the identity multihash of the protobuf public key:
``00 24 08 01 12 20`` and 32 bytes of key, written in base58btc (``12D3KooW...``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NewType

import base58

from hostmesh.errors import InvalidAddressError

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58btc."""

_ED25519_PREFIX = bytes.fromhex("002408011220")
_REMEMBERED = 8192
"""Peer ids whose other form is remembered: base58 costs 6 µs, and a DHT asks for the same peers again and again."""


def peer_id_from_public_key(public_key: bytes) -> PeerId:
    """Return the peer id of a raw Ed25519 public key of 32 bytes."""
    if len(public_key) != 32:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return PeerId(base58.b58encode(_ED25519_PREFIX + public_key).decode("ascii"))


@lru_cache(maxsize=_REMEMBERED)
def peer_id_to_bytes(peer_id: PeerId) -> bytes:
    """Return the raw multihash, as it stands in signed structures."""
    return base58.b58decode(peer_id)


@lru_cache(maxsize=_REMEMBERED)
def peer_id_from_bytes(raw: bytes) -> PeerId:
    """Return the peer id of a raw Ed25519 identity multihash.

    Raises:
        InvalidAddressError: not an Ed25519 peer id, the only kind that hostmesh accepts.
    """
    if len(raw) != 38 or not raw.startswith(_ED25519_PREFIX):
        raise InvalidAddressError("not an Ed25519 peer id")
    return PeerId(base58.b58encode(raw).decode("ascii"))


def parse_peer_id(text: str) -> PeerId:
    """Check a base58 peer id and return it.

    Raises:
        InvalidAddressError: not base58, or not an Ed25519 peer id.
    """
    if len(text) > 64:
        raise InvalidAddressError("not a peer id: too long")
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise InvalidAddressError(f"not a peer id: {text!r}") from error
    return peer_id_from_bytes(raw)


def public_key_of(peer_id: PeerId) -> bytes:
    """Return the raw Ed25519 public key (32 bytes) that the peer id holds."""
    return peer_id_to_bytes(peer_id)[len(_ED25519_PREFIX) :]
