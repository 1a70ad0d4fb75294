"""Identify messages against libp2p's own code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.identity.identify.pb.identify_pb2 import Identify as IdentifyMessage
from multiaddr import Multiaddr

from hostmesh.errors import MalformedMessageError
from hostmesh.net.identify import Identity, decode_identity, encode_identity, read_identity
from hostmesh.net.peer_key import PeerKey
from hostmesh.wire.framing import encode_frame

SEED = bytes(range(32))
IDENTITY = Identity(
    protocols=("/ipfs/id/1.0.0", "/hostmesh/job/1.0.0"),
    addresses=("/ip4/9.9.9.9/tcp/4001", "/ip6/2606:4700::1/tcp/443/ws"),
    agent="hostmesh",
)


class Pieces:
    """A stream that gives its bytes in pieces."""

    def __init__(self, data: bytes, size: int = 7) -> None:
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_libp2p_reads_ours():
    data = encode_identity(IDENTITY, public_key=PeerKey(SEED).public_bytes, observed=("10.0.0.1", 5000))
    message = parse_identify_response(data)
    assert tuple(message.protocols) == IDENTITY.protocols
    assert tuple(str(Multiaddr(raw)) for raw in message.listen_addrs) == IDENTITY.addresses
    assert str(Multiaddr(message.observed_addr)) == "/ip4/10.0.0.1/tcp/5000"
    assert deserialize_public_key(message.public_key) == create_new_key_pair(SEED).public_key


async def test_we_read_ours_in_any_pieces():
    data = encode_identity(IDENTITY, public_key=PeerKey(SEED).public_bytes, observed=("::1", 5000))
    for size in (1, 2, 100, len(data)):
        assert await read_identity(Pieces(data, size)) == IDENTITY


def test_addresses_of_other_transports_are_skipped_and_lists_are_bounded():
    message = IdentifyMessage(
        listen_addrs=[
            b"junk",
            Multiaddr("/ip4/9.9.9.9/udp/4001/quic-v1").to_bytes(),
            *[Multiaddr(f"/ip4/9.9.9.9/tcp/{port}").to_bytes() for port in range(1, 40)],
        ],
        protocols=["x" * 1000, *[f"/p/{index}" for index in range(1000)]],
        agent_version="a" * 10_000,
    )
    identity = decode_identity(message.SerializeToString())
    assert identity.addresses == tuple(f"/ip4/9.9.9.9/tcp/{port}" for port in range(1, 17))
    assert identity.protocols == tuple(f"/p/{index}" for index in range(255))
    assert len(identity.agent) == 256


@pytest.mark.parametrize("data", [b"\x05\xff\xff\xff\xff\xff", b"\x05abc", b"\x01", b"\xff" * 10, b"", b"\x80" * 100])
async def test_malformed_messages_are_refused(data):
    if data == b"":
        assert decode_identity(b"").protocols == ()
        return
    with pytest.raises(MalformedMessageError):
        await read_identity(Pieces(data))


async def test_a_message_without_end_is_cut_off():
    class Endless:
        async def receive(self, max_bytes: int = 65536) -> bytes:
            return b"\x80\x80\x04" + bytes(10_000)

    with pytest.raises(MalformedMessageError, match="too long"):
        await read_identity(Endless())


async def test_a_message_in_parts_is_put_together():
    """go-libp2p sends its protocols and its signed record as two messages."""
    whole = encode_identity(IDENTITY, public_key=PeerKey(SEED).public_bytes, observed=None)
    first = encode_identity(
        replace(IDENTITY, protocols=IDENTITY.protocols[:1]), public_key=PeerKey(SEED).public_bytes, observed=None
    )
    second = IdentifyMessage(protocols=IDENTITY.protocols[1:]).SerializeToString()
    assert await read_identity(Pieces(whole, 7)) == IDENTITY
    assert await read_identity(Pieces(first + encode_frame(second), 7)) == IDENTITY


async def test_a_message_in_too_many_parts_is_refused():
    with pytest.raises(MalformedMessageError, match="parts"):
        await read_identity(Pieces(b"\x00" * 11))
