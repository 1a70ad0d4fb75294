"""Nodes with py-libp2p's host on top, and stock hosts of py-libp2p beside them, on real loopback sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.abc import IHost
from libp2p.crypto import x25519
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from hostmesh.net.libp2p_host import Libp2pHost
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def start_node(nursery: trio.Nursery) -> StartNode:
    """Start a node; keyword arguments go into its NodeConfig."""

    async def start(**config: object) -> Node:
        node = Node(NodeConfig(**{"enable_dht": False, **config}), PeerKey.generate())  # type: ignore[arg-type]
        await nursery.start(node.run)
        return node

    return start


@asynccontextmanager
async def stock_host() -> AsyncIterator[IHost]:
    """Run a stock host of py-libp2p, with Noise and Yamux, that dials nobody unasked."""
    keys = generate_new_ed25519_identity()
    security = {NOISE_ID: NoiseTransport(keys, noise_privkey=x25519.create_new_key_pair().private_key)}
    listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    host = new_host(
        key_pair=keys,
        sec_opt=security,
        listen_addrs=listen,
        connection_config=ConnectionConfig(max_connections_per_peer=1),
    )
    async with host.run(listen_addrs=listen):
        # However low the watermarks, it would dial whoever it has heard of, and do so again while it ends.
        await host.get_network().auto_connector.stop()
        try:
            yield host
        finally:
            # It would leave the sockets of its connections to the collector.
            await disconnect_all(host)


async def disconnect_all(host: IHost) -> None:
    """Disconnect a stock host from its peers, and wait until the handlers of their streams have ended."""
    with trio.CancelScope(shield=True):
        for peer_id in host.get_connected_peers():
            await host.disconnect(peer_id)


@pytest.fixture
async def stock() -> AsyncIterator[IHost]:
    async with stock_host() as host:
        yield host


def info_of(host: IHost) -> PeerInfo:
    return PeerInfo(host.get_id(), host.get_addrs())


async def until(is_so: Callable[[], object]) -> None:
    """Return once something is so that py-libp2p tells nobody of."""
    with trio.fail_after(5):
        while not is_so():
            await trio.lowlevel.checkpoint()


def protocols_known(host: IHost, peer_id: ID) -> list[str]:
    """Return what a host knows a peer to speak; nothing until it knows the peer."""
    return host.get_peerstore().get_protocols(peer_id) if host.get_peerstore().has_peer(peer_id) else []


def reset_errors(host: IHost) -> tuple[type[Exception], ...]:
    """What a reset looks like to a reader on a host: py-libp2p's own stream often calls it the end."""
    return (StreamReset,) if isinstance(host, Libp2pHost) else (StreamReset, StreamEOF)
