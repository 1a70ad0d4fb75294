"""The messages of the DHT: bytes to values and back. Pure.

Only what a provider-only Kad-DHT needs: FIND_NODE, GET_PROVIDERS, ADD_PROVIDER, PING. The bytes are libp2p's, so a
stock node of the same protocol id understands them. Of what a peer sends, the parts that hostmesh cannot use (peer ids
that are not Ed25519, addresses that it does not speak) are left out; what breaks a bound fails the whole message.

Source: libp2p specs, kad-dht, "RPC messages".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.errors import InvalidAddressError, MalformedMessageError
from hostmesh.net.address import split_peer_address
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.v1 import kad_pb2
from hostmesh.wire.bounds import parse

MAX_ADDRESSES = 16
"""Addresses kept of one peer, as in a host record."""
MAX_KEY_BYTES = 128
MAX_REQUEST_BYTES = 16 * 1024
MAX_ANSWER_BYTES = 128 * 1024
"""A stock node's answer with 20 peers, each with a signed record, stays under half of it."""

_SHA2_256 = b"\x12\x20"


class MessageKind(Enum):
    """What a message asks or answers."""

    ADD_PROVIDER = kad_pb2.KAD_TYPE_ADD_PROVIDER
    GET_PROVIDERS = kad_pb2.KAD_TYPE_GET_PROVIDERS
    FIND_NODE = kad_pb2.KAD_TYPE_FIND_NODE
    PING = kad_pb2.KAD_TYPE_PING


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddresses:
    """A peer and where it says it is; nothing of it was checked."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    """Multiaddrs without ``/p2p``, at most 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtMessage:
    """A request or an answer."""

    kind: MessageKind
    key: bytes = b""
    """A request's key; servers need not repeat it in the answer."""
    closer: tuple[PeerAddresses, ...] = ()
    """Peers nearer to the key, as the answering peer knows them."""
    providers: tuple[PeerAddresses, ...] = ()


def content_key(text: str) -> bytes:
    """Return the DHT key of a text: its SHA2-256 multihash, 34 bytes, which is what a CID carries.

    >>> content_key("hello").hex()[:12]
    '12202cf24dba'
    """
    return _SHA2_256 + hashlib.sha256(text.encode("utf-8")).digest()


def encode_message(message: DhtMessage, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """Return the bytes of a message, leaving out the last peers where they would not fit.

    Args:
        message: what to say. Addresses that cannot be written as a binary multiaddr are left out.
        max_bytes: most bytes of the result.
    """
    wire = kad_pb2.KadMessage(type=kad_pb2.KadType.Name(message.kind.value), key=message.key)
    size = wire.ByteSize()
    for target, peers in ((wire.provider_peers, message.providers), (wire.closer_peers, message.closer)):
        for peer in peers:
            entry = kad_pb2.KadPeer(id=peer_id_to_bytes(peer.peer_id), addrs=_binary(peer.addresses))
            # A tag and a length of at most three bytes stand before the entry.
            size += entry.ByteSize() + 4
            if size > max_bytes:
                return wire.SerializeToString()
            target.append(entry)
    return wire.SerializeToString()


def decode_message(data: bytes, *, max_bytes: int = MAX_ANSWER_BYTES) -> DhtMessage:
    """Return the message in the bytes.

    Raises:
        MalformedMessageError: not such a message, out of bounds, or of a kind that hostmesh refuses (values).
        FrameTooLargeError: more than ``max_bytes``.
    """
    wire = parse(kad_pb2.KadMessage, data, max_bytes)
    try:
        kind = MessageKind(wire.type)
    except ValueError as error:
        raise MalformedMessageError(f"DHT message of type {wire.type}, which is not served", field="type") from error
    return DhtMessage(kind=kind, key=wire.key, closer=_peers(wire.closer_peers), providers=_peers(wire.provider_peers))


def _binary(addresses: Sequence[str]) -> list[bytes]:
    out = []
    for address in addresses[:MAX_ADDRESSES]:
        try:
            out.append(address_to_bytes(address))
        except InvalidAddressError:
            continue
    return out


def _peers(entries: Iterable[kad_pb2.KadPeer]) -> tuple[PeerAddresses, ...]:
    out: dict[PeerId, PeerAddresses] = {}
    for entry in entries:
        try:
            peer_id = peer_id_from_bytes(entry.id)
        except InvalidAddressError:
            continue
        if peer_id not in out:
            out[peer_id] = PeerAddresses(peer_id=peer_id, addresses=_addresses(peer_id, entry.addrs))
    return tuple(out.values())


def _addresses(peer_id: PeerId, raw: Iterable[bytes]) -> tuple[str, ...]:
    out: dict[str, None] = {}
    for item in raw:
        try:
            address, named = split_peer_address(address_from_bytes(item))
        except InvalidAddressError:
            continue
        if named in (None, peer_id):
            out[address] = None
        if len(out) == MAX_ADDRESSES:
            break
    return tuple(out)
