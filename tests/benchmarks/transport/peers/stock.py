"""Unmodified py-libp2p: ``new_host`` with TCP, Noise and Yamux, tuned by its own arguments only; nothing is patched.

It is given a buffered framer instead of the one that it ships, which reads length prefixes byte by byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import Any, Literal

import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.abc import IHost
from libp2p.crypto import x25519
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.peer.peerstore import PeerStoreError
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr
from tests.benchmarks.transport.peers.endpoint import Call, Served, respond_to_frame
from tests.benchmarks.transport.peers.framing import FrameReader, encode_frame
from tests.benchmarks.transport.peers.payload import encode_count
from tests.benchmarks.transport.peers.tcp import read_frames

PROTOCOLS = {
    Call.UNARY: "/bench/unary/1",
    Call.BURST: "/bench/burst/1",
    Call.PACED: "/bench/paced/1",
    Call.BULK: "/bench/bulk/1",
    Call.HOLD: "/bench/hold/1",
}
_LISTEN = Multiaddr("/ip4/127.0.0.1/tcp/0")


def _make_host() -> IHost:
    key = generate_new_ed25519_identity()
    noise = NoiseTransport(key, noise_privkey=x25519.create_new_key_pair().private_key)
    # One connection a peer: with more it waits 250 ms after every dial.
    config = ConnectionConfig(max_connections_per_peer=1)
    return new_host(key_pair=key, sec_opt={NOISE_ID: noise}, connection_config=config, muxer_preference="YAMUX")


class StockStack:
    """py-libp2p as it is installed."""

    backend: Literal["trio"] = "trio"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Served]:
        host = _make_host()
        for call, protocol in PROTOCOLS.items():
            host.set_stream_handler(protocol, _handler(call))
        async with host.run(listen_addrs=[_LISTEN]):
            settings = {
                "libp2p": version("libp2p"),
                "trio": trio.__version__,
                "new_host": "Noise only; muxer_preference YAMUX; ConnectionConfig(max_connections_per_peer=1)",
                "framer": "the benchmark's own, buffered",
                "patches": "none",
            }
            yield Served(str(host.get_addrs()[0]), settings)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[StockEndpoint]:
        host = _make_host()
        async with host.run(listen_addrs=[]):
            yield StockEndpoint(host)


class StockEndpoint:
    """One host."""

    def __init__(self, host: IHost) -> None:
        self._host = host
        self._peer: PeerInfo | None = None

    async def dial(self, address: str) -> None:
        self._peer = info_from_p2p_addr(Multiaddr(address))
        await self._host.connect(self._peer)

    async def settle(self) -> None:
        store, peer_id = self._host.get_peerstore(), self._server.peer_id
        while True:  # identify has no event
            try:
                if PROTOCOLS[Call.UNARY] in store.get_protocols(peer_id):
                    return
            except PeerStoreError:
                pass
            await trio.sleep(0.005)

    async def unary(self, request: bytes) -> bytes:
        async with self._call(Call.UNARY, request) as reader:
            return await reader.next_frame()

    @asynccontextmanager
    async def stream(self, call: Call, count: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._call(call, encode_count(count)) as reader, aclosing(read_frames(reader, count)) as frames:
            yield frames

    @property
    def _server(self) -> PeerInfo:
        assert self._peer is not None
        return self._peer

    @asynccontextmanager
    async def _call(self, call: Call, request: bytes) -> AsyncIterator[FrameReader]:
        stream: Any = await self._host.new_stream(self._server.peer_id, [PROTOCOLS[call]])
        try:
            await stream.write(encode_frame(request))
            await stream.close_write()
            yield FrameReader(_receive_of(stream))
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()
            raise
        if call is Call.HOLD:
            await stream.reset()
        else:
            await stream.close()


def _receive_of(stream: NetStream) -> Callable[[int], Awaitable[bytes]]:
    async def receive(max_bytes: int) -> bytes:
        try:
            return await stream.read(max_bytes)
        except StreamEOF:
            return b""

    return receive


def _handler(call: Call) -> Callable[[Any], Awaitable[None]]:
    async def handle(stream: Any) -> None:
        # An error of a handler would end the whole connection.
        try:
            request = await FrameReader(_receive_of(stream)).next_frame()

            async def send(data: bytes) -> None:
                await stream.write(encode_frame(data))

            await respond_to_frame(call, request, send)
            await stream.close()
        except Exception:  # noqa: BLE001
            with trio.move_on_after(1):
                await stream.reset()

    return handle
