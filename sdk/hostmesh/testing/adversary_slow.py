"""Peers that are slow for ever: as they accept, in the handshake, on streams, in an answer; and as they dial."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.rpc.method import protocol_ids
from hostmesh.testing.adversary_node import PROTOCOL_PREFIX, AdversaryNode, open_adversary_node
from hostmesh.testing.adversary_records import RecordPeer
from hostmesh.testing.machine import DEFAULT_PORT, SimMachine
from hostmesh.v1.discovery_hostmesh import DISCOVERY_SERVICE
from hostmesh.wire.handshake import Handshake
from hostmesh.wire.noise import SIGNED_PREFIX, NoiseIdentity
from hostmesh.wire.yamux import YAMUX_ID


class SlowKind(Enum):
    """Where a peer is slow for ever."""

    ACCEPTS = "accepts"
    """It takes the TCP connection and never says a byte."""
    HANDSHAKE = "handshake"
    """Its half of the handshake comes byte by byte."""
    STREAMS = "streams"
    """The connection stands; streams are opened, and nothing is ever said on them."""
    ANSWER = "answer"
    """The answer to each call of the discovery protocol comes byte by byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowness:
    """How a peer is slow.

    Raises:
        ValueError: no time between two bytes.
    """

    kind: SlowKind = SlowKind.ACCEPTS
    byte_every_s: float = 1.0
    """Between two bytes."""

    def __post_init__(self) -> None:
        if not self.byte_every_s > 0:
            raise ValueError("some time passes between two bytes")


class SlowPeer:
    """A peer that is slow for ever. :func:`run_slow_peer` makes it.

    Args:
        adversary: the node that it is named by; it listens for itself unless ``slowness`` is of the connection.
        slowness: how slow.
    """

    def __init__(self, adversary: AdversaryNode, slowness: Slowness) -> None:
        self.adversary = adversary
        self.slowness = slowness
        self.held = 0
        """Connections and streams that it holds up now."""
        self.most_held = 0

    async def accept(self, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        """Take connections and be slow on each, until cancelled."""
        async with listener, trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._hold_connection, await listener.accept())

    async def _hold_connection(self, stream: trio.abc.Stream) -> None:
        with self._holding():
            try:
                if self.slowness.kind is SlowKind.HANDSHAKE:
                    await self._shake_hands(stream, is_initiator=False)
                while await stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

    async def dial(self, host: str, port: int, count: int) -> None:
        """Open so many connections to an address, and shake hands on each byte by byte; return when all are gone."""
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self._dial, host, port)

    async def _dial(self, host: str, port: int) -> None:
        try:
            stream = await self.adversary.machine.network.dial(host, port)
        except OSError:
            return
        with self._holding():
            try:
                await self._shake_hands(stream, is_initiator=True)
            except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

    async def _shake_hands(self, stream: trio.abc.Stream, *, is_initiator: bool) -> None:
        """Say its half of the handshake byte by byte, to the end of the other side's patience or of its bytes."""
        random_bytes = self.adversary.machine.system.random_bytes
        key, static = self.adversary.key, random_bytes(32)
        public = X25519PrivateKey.from_private_bytes(static).public_key().public_bytes_raw()
        identity = NoiseIdentity(static, key.public_bytes, key.sign(SIGNED_PREFIX + public), muxers=(YAMUX_ID,))
        handshake = Handshake(is_initiator=is_initiator, identity=identity, ephemeral_private=random_bytes(32))
        while True:
            for byte in handshake.data_to_send():
                await trio.sleep(self.slowness.byte_every_s)
                await stream.send_all(bytes([byte]))
            data = await stream.receive_some()
            if not data:
                return
            handshake.receive(data)

    async def hold_stream(self, stream: Stream) -> None:
        """Serve a stream by saying nothing on it."""
        with self._holding():
            await stream.wait_reset()

    async def trickle(self, serve: StreamHandler, stream: Stream) -> None:
        """Serve a stream with what is sent on it coming byte by byte."""
        with self._holding():
            await serve(_TricklingStream(stream, self.slowness.byte_every_s))

    def _holding(self) -> _Holding:
        return _Holding(self)


class _Holding:
    """Counts what is held up during a block."""

    def __init__(self, peer: SlowPeer) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        self._peer.held += 1
        self._peer.most_held = max(self._peer.most_held, self._peer.held)

    def __exit__(self, *_: object) -> None:
        self._peer.held -= 1


class _TricklingStream:
    """A stream on which bytes are sent one by one. A :class:`hostmesh.net.stream.Stream`."""

    def __init__(self, stream: Stream, byte_every_s: float) -> None:
        self._stream = stream
        self._byte_every_s = byte_every_s
        self.peer_id = stream.peer_id
        self.protocol_id = stream.protocol_id
        self.receive = stream.receive
        self.receive_chunk = stream.receive_chunk
        self.receive_nowait = stream.receive_nowait
        self.set_read_deadline = stream.set_read_deadline
        self.on_lost = stream.on_lost
        self.wait_reset = stream.wait_reset
        self.close_write = stream.close_write
        self.close = stream.close
        self.reset = stream.reset

    @property
    def heard_bytes(self) -> int:
        """Bytes that came on its connection so far, of all streams."""
        return self._stream.heard_bytes

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        """Send all bytes, with a pause before each; see :meth:`hostmesh.net.stream.Stream.send`."""
        for byte in head + data:
            await trio.sleep(self._byte_every_s)
            await self._stream.send(bytes([byte]))
        if end:
            await self._stream.close_write()

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        """Send nothing: all of it takes time."""
        return False


@asynccontextmanager
async def run_slow_peer(
    machine: SimMachine,
    slowness: Slowness,
    *,
    model_ids: Iterable[str] = ("fake-chat",),
    bootstrap: Sequence[str] = (),
) -> AsyncIterator[SlowPeer]:
    """Run a peer that says it is a host, and is slow for ever to all who come to it, for the life of the block.

    What it says to those whom it dials itself is in time: so the DHT names it.

    Args:
        machine: where it runs; its name gives its key.
        slowness: how slow.
        model_ids: under which the DHT names it.
        bootstrap: where it joins the network: addresses with ``/p2p``.

    Raises:
        UsageError: the machine is off, or has a process already.
    """
    is_of_connections = slowness.kind in (SlowKind.ACCEPTS, SlowKind.HANDSHAKE)
    async with open_adversary_node(machine, bootstrap=bootstrap, listens=not is_of_connections) as adversary:
        peer = SlowPeer(adversary, slowness)
        if is_of_connections:
            bound = await machine.network.listen("0.0.0.0", DEFAULT_PORT)  # noqa: S104 - of the simulation
            adversary.nursery.start_soon(peer.accept, bound.listener)
        else:
            records = RecordPeer(adversary, lambda asker, turn: records.record(sequence=turn + 1))
            discovery_id = protocol_ids(PROTOCOL_PREFIX, DISCOVERY_SERVICE)[0]
            serve = adversary.server.stream_handlers()[discovery_id]
            slow = peer.hold_stream if slowness.kind is SlowKind.STREAMS else partial(peer.trickle, serve)
            adversary.node.set_stream_handler(discovery_id, slow)
        await adversary.advertise(model_ids)
        yield peer
