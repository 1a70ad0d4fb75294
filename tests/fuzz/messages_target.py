"""Single messages: every type of hostmesh.v1, Identify, the DHT's, signed envelopes. Within bounds, or refused."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tests.fuzz.target import Choices, Target, promise

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER
from hostmesh.net.dht_message import MAX_ADDRESSES, DhtMessage, MessageKind, decode_message, encode_message
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.identify import MAX_PROTOCOLS, Identity, decode_identity, encode_identity
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1 import (
    discovery_pb2,
    envelope_pb2,
    identify_pb2,
    job_pb2,
    kad_pb2,
    message_pb2,
    noise_pb2,
    options_pb2,
    receipt_pb2,
    rpc_pb2,
    session_pb2,
    status_pb2,
)
from hostmesh.wire.bounds import check_bounds, parse

MODULES = (
    discovery_pb2,
    envelope_pb2,
    identify_pb2,
    job_pb2,
    kad_pb2,
    message_pb2,
    noise_pb2,
    rpc_pb2,
    session_pb2,
    status_pb2,
    receipt_pb2,
)
TYPES = [
    GetMessageClass(kind)
    for module in MODULES
    for kind in module.DESCRIPTOR.message_types_by_name.values()
    # An envelope and its key are checked by the code that opens them.
    if module is not envelope_pb2
]
MAX_BYTES = 6000
DOMAIN, KIND = "hostmesh:test:host-record", b"/hostmesh/host-record"


def run(data: bytes) -> None:
    choices = Choices(data)
    which = choices.byte()
    body = choices.rest()
    try:
        if which < len(TYPES):
            message = parse(TYPES[which], body, MAX_BYTES)
            _check_bounds(message, 0)
            check_bounds(message)
        elif which & 3 == 0:
            identity = decode_identity(body)
            promise(len(identity.addresses) <= MAX_ADDRESSES_PER_PEER, "addresses are bounded")
            promise(len(identity.protocols) <= MAX_PROTOCOLS, "protocols are bounded")
        elif which & 3 == 1:
            _check_dht(decode_message(body))
        elif which & 3 == 2:
            _check_envelope(body)
        else:
            _check_resealed(body)
    except RemoteProtocolError:
        return


def _check_bounds(message: Message, depth: int) -> None:
    """Check each field against the option in its .proto, the plain way."""
    promise(depth <= 16, "messages are not nested deeper than 16")
    for field, value in message.ListFields():
        options = field.GetOptions().Extensions
        values = list(value) if field.is_repeated else [value]
        promise(not field.is_repeated or len(values) <= options[options_pb2.max_items], f"{field.name}: items")
        for each in values:
            if isinstance(each, Message):
                _check_bounds(each, depth + 1)
            elif isinstance(each, str | bytes):
                size = len(each.encode()) if isinstance(each, str) else len(each)
                promise(size <= options[options_pb2.max_bytes], f"{field.name}: too large")
                promise(size >= options[options_pb2.min_bytes], f"{field.name}: too small")


def _check_dht(message: DhtMessage) -> None:
    for peers in (message.closer, message.providers):
        promise(len({peer.peer_id for peer in peers}) == len(peers), "a peer stands once")
        promise(all(len(peer.addresses) <= MAX_ADDRESSES for peer in peers), "addresses are bounded")
    again = decode_message(encode_message(message))
    promise(again == message, "what was read can be written and read again")
    promise(len(encode_message(message, max_bytes=200)) <= max(200, len(message.key) + 8), "what is written is bounded")


def _check_envelope(data: bytes) -> None:
    opened = open_envelope(data, domain=DOMAIN, payload_type=KIND, max_bytes=4096)
    promise(opened.peer_id == key().peer_id, "nobody signs for another peer")
    promise(opened.payload == _PAYLOAD, "only what was signed is opened")


def _check_resealed(payload: bytes) -> None:
    sealed = seal_envelope(key(), domain=DOMAIN, payload_type=KIND, payload=payload)
    if len(sealed) <= 4096:
        opened = open_envelope(sealed, domain=DOMAIN, payload_type=KIND, max_bytes=4096)
        promise(opened.payload == payload and opened.peer_id == key().peer_id, "what is sealed is opened")


@lru_cache
def key() -> PeerKey:
    """Return the only key that signs."""
    return PeerKey(bytes(range(32)))


_PAYLOAD = b"the one payload that the key has signed"


def _filled(kind: type[Message], size: int, depth: int = 0) -> Message:
    """Return a message with all its fields set."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        target = getattr(message, field.name)
        options = field.GetOptions().Extensions
        if field.message_type is not None:
            if depth < 3:
                inner = _filled(GetMessageClass(field.message_type), size, depth + 1)
                if field.is_repeated:
                    target.append(inner)
                else:
                    target.CopyFrom(inner)
        elif field.type in (field.TYPE_BYTES, field.TYPE_STRING):
            count = max(options[options_pb2.min_bytes], size)
            value = b"\x01" * count if field.type == field.TYPE_BYTES else "é" * (count // 2) + "x" * (count % 2)
            if field.is_repeated:
                target.append(value)
            else:
                setattr(message, field.name, value)
        elif field.is_repeated:
            target.append(1)
        elif field.type != field.TYPE_ENUM:
            setattr(message, field.name, 1)
    return message


def seeds() -> Iterable[bytes]:
    for number, kind in enumerate(TYPES):
        for size in (1, 40, 300, 1100):
            data = _filled(kind, size).SerializeToString()
            if len(data) < 8000:
                yield bytes((number,)) + data
        yield bytes((number,))
        yield bytes((number,)) + bytes(7000)
    first = len(TYPES) + (-len(TYPES)) % 4
    addresses = ("/ip4/127.0.0.1/tcp/4001", "/dns4/example.org/tcp/443/ws")
    identity = Identity(protocols=("/a", "/b"), addresses=addresses, agent="test")
    told = encode_identity(identity, public_key=bytes(32), observed=("::1", 1))
    yield bytes((first,)) + told[(2 if told[0] & 128 else 1) :]
    yield (
        bytes((first,)) + identify_pb2.Identify(listen_addrs=[b"\xff", b""], protocols=["x" * 300]).SerializeToString()
    )
    peer = kad_pb2.KadPeer(id=b"\x00\x24\x08\x01\x12\x20" + bytes(range(32)), addrs=[b"\x04\x7f\0\0\1\x06\x0f\xa1"])
    stranger = kad_pb2.KadPeer(id=b"\x12\x20" + bytes(32), addrs=[b"\xff"])
    many = kad_pb2.KadPeer(id=peer.id, addrs=[b"\x04\x7f\0\0\1\x06" + bytes((1, n)) for n in range(20)])
    wrong = kad_pb2.KadPeer(
        id=peer.id, addrs=[b"\xff", peer.addrs[0] + b"\xa5\x03\x26\x00\x24\x08\x01\x12\x20" + bytes(32)]
    )
    for kind in MessageKind:
        message = kad_pb2.KadMessage(
            type=kad_pb2.KadType.Name(kind.value), key=b"k", closer_peers=[peer, stranger, peer], provider_peers=[many]
        )
        yield bytes((first + 1,)) + message.SerializeToString()
    yield bytes((first + 1,)) + kad_pb2.KadMessage(type="KAD_TYPE_FIND_NODE", closer_peers=[wrong]).SerializeToString()
    yield bytes((first + 1,)) + kad_pb2.KadMessage(type="KAD_TYPE_PUT_VALUE").SerializeToString()
    sealed = seal_envelope(key(), domain=DOMAIN, payload_type=KIND, payload=_PAYLOAD)
    yield bytes((first + 2,)) + sealed
    yield bytes((first + 2,)) + sealed + bytes(5000)
    # What is refused carries another payload than the one: whoever opens it breaks a promise.
    other = b"a payload that the key has signed for something else"
    yield bytes((first + 2,)) + seal_envelope(key(), domain="another", payload_type=KIND, payload=other)
    yield bytes((first + 2,)) + seal_envelope(key(), domain=DOMAIN, payload_type=b"other", payload=other)
    forged = envelope_pb2.SignedEnvelope.FromString(sealed)
    forged.payload = b"a payload that nobody has signed"
    yield bytes((first + 2,)) + forged.SerializeToString()
    damaged = envelope_pb2.SignedEnvelope.FromString(sealed)
    damaged.signature = damaged.signature[:-1]
    yield bytes((first + 2,)) + damaged.SerializeToString()
    damaged.public_key.key_type = 2
    yield bytes((first + 2,)) + damaged.SerializeToString()
    for size in (0, 100, 300, 5000):
        yield bytes((first + 3,)) + bytes(size)


TARGET = Target(
    run=run,
    seeds=seeds,
    code=(
        "hostmesh.wire.bounds:parse",
        "hostmesh.wire.bounds:check_bounds",
        "hostmesh.wire.bounds:_check",
        "hostmesh.wire.bounds:_check_child",
        "hostmesh.wire.bounds:_check_size",
        "hostmesh.net.dht_message",
        "hostmesh.net.envelope",
        "hostmesh.net.identify:decode_identity",
    ),
    max_bytes=8192,
)
