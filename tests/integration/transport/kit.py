"""What the tests of this folder share: protocols that a node serves, and peers that do not keep to the rules.

A hostile peer proves a key like any other, then says whatever a test wants, frame by frame. It uses hostmesh's own
handshake; the frames are written by hand.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from tests.integration.net.conftest import ECHO, echo

from hostmesh.errors import ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin, parse_address, split_peer_address
from hostmesh.net.connection import Connection
from hostmesh.net.identify import IDENTIFY_ID, Identity, encode_identity
from hostmesh.net.links import Link, LinkBrokenError, WebSocketLink, link_over
from hostmesh.net.network import Network, SocketNetwork
from hostmesh.net.node import Node
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.net.upgrade import SecuredLink, Upgrader
from hostmesh.v1 import job_pb2, message_pb2
from hostmesh.v1.job_hostmesh import JOB_SERVICE, JobServiceMethods
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE as MESSAGE_SERVICE
from hostmesh.v1.message_hostmesh import MessageServiceMethods
from hostmesh.wire.multistream import GREETING, parse_proposal, proposal
from hostmesh.wire.yamux import DataReceived, Yamux, YamuxStream

HANG = "/test/hang/1"
GLUTTON = "/test/glutton/1"
SOURCE = "/test/source/1"
UNTOLD = "/test/untold/1"
"""A protocol that identify did not tell, so that opening a stream waits for the peer's word."""
UNSERVED = "/test/nobody-serves-this/1"

JOBS = JOB_SERVICE
QUOTE, RUN = JobServiceMethods.QUOTE, JobServiceMethods.RUN
SEND = MessageServiceMethods.SEND
JOB_PROTOCOL = "/hostmesh/job/1.0.0"
MESSAGE_PROTOCOL = "/hostmesh/message/1.0.0"
LARGE_REQUEST = message_pb2.SendRequest(message_id=bytes(16), data=bytes(256 * 1024))
QUOTE_REQUEST = job_pb2.QuoteRequest(model_id="m")
RUN_REQUEST = job_pb2.RunRequest(
    quote_id=bytes(16), chat=job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="x")])
)

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
INITIAL_WINDOW_BYTES = 256 * 1024
MIB = 1024 * 1024
GLUT_BYTES = 12 * MIB

_HEADER = struct.Struct(">BBHII")
_CLAIMED = (ECHO, HANG, JOB_PROTOCOL, MESSAGE_PROTOCOL)
_ZEROS = bytes(256 * 1024)


# --- what a node serves ---


async def hang(stream: Stream) -> None:
    """Read nothing, say nothing, until the stream is lost."""
    await stream.wait_reset()


async def glutton(stream: Stream) -> None:
    """Read eagerly, so that the window grows, and then no more."""
    await receive_exactly(stream, GLUT_BYTES)
    await stream.wait_reset()


async def source(stream: Stream) -> None:
    """Send as many bytes as asked for with 8 bytes, from one piece that all streams share."""
    left = int.from_bytes(await receive_exactly(stream, 8), "big")
    while left:
        await stream.send(_ZEROS if left >= len(_ZEROS) else _ZEROS[:left])
        left -= min(left, len(_ZEROS))


HANDLERS: dict[str, Callable[[Stream], Awaitable[None]]] = {ECHO: echo, HANG: hang, GLUTTON: glutton, SOURCE: source}


# --- what a test does with nodes ---


async def receive_exactly(stream: Stream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive(size - len(data))
        assert piece, f"the end after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


async def connect(client: Node, server: Node) -> Connection:
    """Connect two nodes and return the client's connection once it knows what the server speaks."""
    return await connect_to(client, server.peer_addresses()[0])


async def connect_to(client: Node, address: str) -> Connection:
    peer_id = split_peer_address(address)[1]
    assert peer_id is not None
    await client.connect(peer_id, [address], origin=AddressOrigin.CONFIGURED)
    with suppress(ProtocolNotSupportedError):
        # This refusal comes after identify, whose end nothing else tells.
        await client.open_stream(peer_id, UNSERVED)
    return connection_of(client, peer_id)


def connection_of(node: Node, peer_id: str) -> Connection:
    (connection,) = node._pool.of(peer_id)  # type: ignore[arg-type] # a NewType
    return connection


async def echo_works(client: Node, peer_id: str, data: bytes = b"hello") -> None:
    """Send data and read it back; in virtual time a hang is found at once."""
    with trio.fail_after(10):
        stream = await client.open_stream(peer_id, ECHO)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(stream.send, data, end=True))
            assert await receive_exactly(stream, len(data)) == data
        assert await stream.receive() == b""
        await stream.close()


# --- peers that do not keep to the rules ---


def frame(kind: int, flags: int, stream_id: int, length: int, payload: bytes = b"") -> bytes:
    return _HEADER.pack(0, kind, flags, stream_id, length) + payload


def data_frame(flags: int, stream_id: int, payload: bytes) -> bytes:
    return frame(DATA, flags, stream_id, len(payload), payload)


def open_frame(stream_id: int, protocol_id: str, payload: bytes = b"") -> bytes:
    """The frame that opens a stream, names its protocol and says the first bytes."""
    return data_frame(SYN, stream_id, proposal(protocol_id) + payload)


class RawPeer:
    """A connection to a node, after an honest handshake. Whoever made the link closes it."""

    def __init__(self, opened: SecuredLink) -> None:
        self.link: Link = opened.link
        self._channel = opened.secured.channel
        self._early = b"".join(opened.secured.plaintexts)
        """Came with the end of the handshake."""

    async def send(self, *frames: bytes) -> None:
        """Seal and send, in as few messages as it takes."""
        await self.link.send(self._channel.seal(b"".join(frames)))

    async def receive(self) -> bytes:
        """Return what came next, opened; ``b""`` at the end."""
        if self._early:
            early, self._early = self._early, b""
            return early
        while data := await self.link.receive():
            if opened := b"".join(self._channel.open(data)):
                return opened
        return b""

    async def receive_frames(self) -> list[tuple[int, int, int, int]]:
        """Return kind, flags, stream id and length of the frames that came next; no payload may be among them."""
        received = await self.receive()
        assert len(received) % 12 == 0
        return [
            (kind, flags, stream_id, length)
            for _, kind, flags, stream_id, length in struct.iter_unpack(">BBHII", received)
        ]

    async def wait_answered(self, value: int = 0xA5A5A5A5) -> None:
        """Ping, and return once the node has taken what was sent before. What comes meanwhile is dropped."""
        await self.send(frame(PING, SYN, 0, value))
        received = b""
        while frame(PING, ACK, 0, value) not in received:
            piece = await self.receive()
            assert piece, "the connection ended"
            received = received[-11:] + piece

    async def wait_ended(self) -> None:
        """Return once the node has closed the connection."""
        with suppress(LinkBrokenError):
            while await self.receive():
                pass


@asynccontextmanager
async def raw_peer(address: str, network: Network | None = None, key: PeerKey | None = None) -> AsyncIterator[RawPeer]:
    """Dial a node as a stranger, by default with a key of its own; the link is closed at the end of the block."""
    network = network or SocketNetwork()
    transport, peer_id = split_peer_address(address)
    assert peer_id is not None
    endpoint = parse_address(transport)
    stream = await network.dial(endpoint.dial_host, endpoint.port)
    link: Link = link_over(stream, None)
    try:
        if endpoint.is_websocket:
            link = WebSocketLink(link, is_client=True)
            await link.open(endpoint.host)
        yield RawPeer(await Upgrader(key or PeerKey.generate()).outbound(link, peer_id))
    finally:
        await link.close()


class MutePeer:
    """Listens, proves its key, claims to speak this and that, and says nothing on any stream. It takes one connection.

    Args:
        network: where to listen.
        host: at which of its addresses.
    """

    def __init__(
        self,
        network: Network,
        host: str = "127.0.0.1",
        protocols: tuple[str, ...] = (ECHO, HANG, JOB_PROTOCOL, MESSAGE_PROTOCOL),
    ) -> None:
        self._network = network
        self._host = host
        self._protocols = protocols
        self._key = PeerKey.generate()
        self._scope = trio.CancelScope()
        self._link: Link | None = None
        self._opened: SecuredLink | None = None
        self.peer_id = self._key.peer_id
        self.received_bytes = 0
        """What came on streams."""

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ``started()`` gives the address."""
        bound = await self._network.listen(self._host, 0)
        async with bound.listener:
            task_status.started(f"/ip4/{self._host}/tcp/{bound.port}/p2p/{self.peer_id}")
            stream = await bound.listener.accept()
        self._link = link_over(stream, None)
        try:
            self._opened = await Upgrader(self._key).inbound(self._link)
            with self._scope:
                await self._serve(self._opened)
            await trio.sleep_forever()
        finally:
            await self._link.close()

    async def _serve(self, opened: SecuredLink) -> None:
        yamux, channel = Yamux(is_initiator=False), opened.secured.channel
        plaintexts = list(opened.secured.plaintexts)
        while True:
            for plaintext in plaintexts:
                for event in yamux.receive(plaintext):
                    if isinstance(event, DataReceived):
                        self.received_bytes += len(event.data)
                        self._answer(yamux, event.stream, bytes(event.data))
            if output := yamux.data_to_send():
                await opened.link.send(channel.seal(output))
            plaintexts = channel.open(await opened.link.receive())

    def _answer(self, yamux: Yamux, stream: YamuxStream, data: bytes) -> None:
        protocol_id, _ = parse_proposal(data) or ("", 0)
        if protocol_id == UNSERVED:
            yamux.send(stream, GREETING + b"\x03na\n")
        if protocol_id == IDENTIFY_ID:
            identity = Identity(protocols=_CLAIMED, addresses=(), agent="mute")
            message = encode_identity(identity, public_key=self._key.public_bytes, observed=None)
            yamux.send(stream, proposal(IDENTIFY_ID) + message)
            yamux.close_write(stream)

    def freeze(self) -> None:
        """Read and send nothing any more; the socket stays."""
        self._scope.cancel()

    async def send_sealed(self, plaintext: bytes) -> None:
        """Say this to the node as if it were frames; what comes from now on is not read, for it may be an answer."""
        assert self._opened is not None
        self.freeze()
        await self._opened.link.send(self._opened.secured.channel.seal(plaintext))

    async def send_unsealed(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        assert self._link is not None
        await self._link.send(data)

    async def leave(self) -> None:
        """Close the socket without a word."""
        assert self._link is not None
        self.freeze()
        await self._link.close()


async def mute_peer(network: Network, client: Node, nursery: trio.Nursery, *, host: str = "127.0.0.1") -> MutePeer:
    """Start a mute peer, and connect a node to it."""
    peer = MutePeer(network, host)
    address = await nursery.start(peer.run)
    await connect_to(client, address)
    return peer
