"""How a DHT server answers.

Every request of a stream gets one answer, in order; the first that is refused resets the stream. Nothing a peer says
about another is kept: a provider record is taken from the provider alone, and the routing table is filled by asking.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from hostmesh.errors import MalformedMessageError, RemoteProtocolError, TransportError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht_message import (
    MAX_ADDRESSES,
    MAX_REQUEST_BYTES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    decode_message,
    encode_message,
)
from hostmesh.net.dht_table import ProviderTable, RoutingTable
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.system import System
from hostmesh.wire.framing import FrameDecoder, encode_frame

_log = logging.getLogger("hostmesh.net")

IDLE_STREAM_S = 60.0
"""An inbound stream without a request is reset after it; go-libp2p keeps and re-uses its streams."""
MAX_INBOUND_STREAMS = 512
MAX_INBOUND_PER_PEER = 32
MAX_PROVIDERS_PER_ANSWER = 64


class DhtNode(Protocol):
    """What the DHT needs of the node."""

    @property
    def peer_id(self) -> PeerId:
        """Our peer id."""
        ...

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> Stream:
        """Open a stream, dialling where needed."""
        ...

    def set_stream_handler(self, protocol_id: str, handler: StreamHandler) -> None:
        """Serve a protocol."""
        ...

    def remove_stream_handler(self, protocol_id: str) -> object:
        """Serve it no longer."""
        ...

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Note where a peer may be."""
        ...

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Where a peer may be."""
        ...

    def announced_addresses(self) -> tuple[str, ...]:
        """Where others may reach us."""
        ...

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Peers with a connection."""
        ...


class DhtServer:
    """Answers the DHT requests of other nodes.

    Args:
        node: knows where peers are.
        table: DHT servers known.
        providers: the records kept.
        system: clock and random bytes.
        on_asked: told of every peer that asked.
    """

    def __init__(
        self,
        node: DhtNode,
        *,
        table: RoutingTable,
        providers: ProviderTable,
        system: System,
        on_asked: Callable[[PeerId], None],
    ) -> None:
        self._node = node
        self._table = table
        self._providers = providers
        self._system = system
        self._on_asked = on_asked
        self._inbound: Counter[PeerId] = Counter()
        self.requests: Counter[str] = Counter()
        """Requests answered, by kind."""
        self.refused: Counter[str] = Counter()
        """Requests and streams refused, by reason."""

    async def serve(self, stream: Stream) -> None:
        """Answer the requests of one inbound stream; the stream is reset on the first that is refused."""
        peer_id = stream.peer_id
        if self._inbound.total() >= MAX_INBOUND_STREAMS or self._inbound[peer_id] >= MAX_INBOUND_PER_PEER:
            self.refused["streams"] += 1
            await stream.reset()
            return
        self._inbound[peer_id] += 1
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        try:
            with trio.move_on_after(IDLE_STREAM_S) as idle:
                while (frame := await read_frame(stream, decoder)) is not None:
                    answer = self._answer(peer_id, decode_message(frame, max_bytes=MAX_REQUEST_BYTES))
                    await stream.send(encode_frame(encode_message(answer)))
                    idle.deadline = trio.current_time() + IDLE_STREAM_S
                await stream.close()
                return
            await stream.reset()
        except RemoteProtocolError as error:
            self.refused[error.code.lower()] += 1
            _log.debug("DHT request refused: %s", error, extra={"peer_id": peer_id})
            await stream.reset()
        except TransportError as error:
            _log.debug("DHT stream ended: %s", error, extra={"peer_id": peer_id})
            await stream.reset()
        finally:
            self._inbound[peer_id] -= 1
            if not self._inbound[peer_id]:
                del self._inbound[peer_id]
        # Whoever asks may serve too; it is asked, not believed.
        self._on_asked(peer_id)

    def _answer(self, peer_id: PeerId, request: DhtMessage) -> DhtMessage:
        """Return the answer to a request.

        Raises:
            RemoteProtocolError: the request is refused.
        """
        now = self._system.monotonic_s()
        closer: tuple[PeerAddresses, ...] = ()
        providers: tuple[PeerAddresses, ...] = ()
        if request.kind is not MessageKind.PING and not request.key:
            raise MalformedMessageError("a DHT request needs a key", field="key")
        if request.kind is MessageKind.ADD_PROVIDER:
            given = [provider for provider in request.providers if provider.peer_id == peer_id]
            if not given:
                raise RemoteProtocolError("a peer may only be named as a provider by itself")
            if not self._providers.add(request.key, peer_id, given[0].addresses, now):
                self.refused["provider_records"] += 1
                raise RemoteProtocolError("the peer provides too many keys")
        elif request.kind is not MessageKind.PING:
            closer = self._closer(request, peer_id)
            if request.kind is MessageKind.GET_PROVIDERS:
                providers = tuple(
                    PeerAddresses(peer_id=provider, addresses=addresses)
                    for provider, addresses in self.local_providers(request.key, MAX_PROVIDERS_PER_ANSWER)
                )
        self.requests[request.kind.name.lower()] += 1
        return DhtMessage(kind=request.kind, key=request.key, closer=closer, providers=providers)

    def _closer(self, request: DhtMessage, asking: PeerId) -> tuple[PeerAddresses, ...]:
        nearest = [peer_id for peer_id in self._table.closest(request.key) if peer_id != asking]
        return tuple(
            PeerAddresses(peer_id=peer_id, addresses=self._node.addresses_of(peer_id)[:MAX_ADDRESSES])
            for peer_id in nearest
        )

    def local_providers(self, key: bytes, limit: int) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Return providers of a key that are kept here, beginning with a random one."""
        start = int.from_bytes(self._system.random_bytes(4), "big")
        records = self._providers.get(key, self._system.monotonic_s(), limit=limit, start=start)
        return [(peer_id, addresses or self._where(peer_id)) for peer_id, addresses in records]

    def _where(self, peer_id: PeerId) -> tuple[str, ...]:
        if peer_id == self._node.peer_id:
            return self._node.announced_addresses()[:MAX_ADDRESSES]
        return self._node.addresses_of(peer_id)[:MAX_ADDRESSES]


async def read_frame(stream: Stream, decoder: FrameDecoder) -> bytes | None:
    """Return the next frame, or None when the peer closed its side between two frames."""
    while (frame := decoder.next_frame()) is None:
        data = await stream.receive()
        if not data:
            decoder.finish()
            return None
        decoder.feed(data)
    return frame
