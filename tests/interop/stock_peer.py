"""An unmodified py-libp2p 0.8.1 host as an interop peer; see :mod:`tests.interop.scenarios`.

It knows nothing of hostmesh.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto import x25519
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from multiaddr import Multiaddr
from tests.interop import scenarios

_log = logging.getLogger("stock_peer")

LISTEN = [Multiaddr("/ip4/127.0.0.1/tcp/0")]


class StockStream:
    """In py-libp2p the end is an exception; and a read that waits when a reset comes takes it for the end."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self.send = stream.write
        self.close_write = stream.close_write
        self.close = stream.close
        self.reset = stream.reset

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.read(max_bytes)
        except StreamEOF as error:
            if cast("YamuxStream", self._stream.muxed_stream).reset_received:
                raise StreamReset from error
            return b""


def guarded(handler: Callable[[scenarios.PeerStream], Awaitable[None]]) -> StreamHandlerFn:
    """An exception that leaves a handler would end the whole connection."""

    async def run(stream: INetStream) -> None:
        try:
            await handler(StockStream(stream))
            if handler is not scenarios.serve_reset:
                await stream.close()
        except Exception:  # noqa: BLE001 # see above
            _log.exception("a handler of %s failed", stream.get_protocol())
            with trio.move_on_after(2):
                await stream.reset()

    return run


def make_host() -> IHost:
    keys = generate_new_ed25519_identity()
    # Without sec_opt the host would offer plaintext too.
    security = {NOISE_ID: NoiseTransport(keys, noise_privkey=x25519.create_new_key_pair().private_key)}
    host = new_host(key_pair=keys, sec_opt=security, listen_addrs=LISTEN)
    for protocol, handler in scenarios.HANDLERS.items():
        host.set_stream_handler(TProtocol(protocol), guarded(handler))
    return host


async def serve() -> None:
    host = make_host()
    async with host.run(listen_addrs=LISTEN):
        await scenarios.serve_until_stdin_ends(host.get_id().to_base58(), [str(each) for each in host.get_addrs()])


async def dial(address: str, scenario: str) -> dict[str, Any]:
    host = make_host()
    peer = info_from_p2p_addr(Multiaddr(address))
    async with host.run(listen_addrs=LISTEN):
        await host.connect(peer)

        async def open_stream(protocol: str) -> scenarios.PeerStream:
            return StockStream(await host.new_stream(peer.peer_id, [TProtocol(protocol)]))

        return await scenarios.SCENARIOS[scenario](scenarios.Dialer(open_stream, StreamReset))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    scenarios.main(serve, dial)
