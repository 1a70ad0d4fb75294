"""py-libp2p's own protocols on a node: GossipSub, Kad-DHT, ping, circuit relay.

:func:`open_libp2p_host` gives a running :class:`~hostmesh.net.node.Node` the shape of py-libp2p's host, so that its
protocols run on it as they are; nothing of theirs is changed or replaced. Connections, dialling, limits and Identify
stay the node's. Needs the extra ``hostmesh[libp2p]``, and nothing else of hostmesh imports this module.

Errors: what py-libp2p's protocols catch, they get. A :class:`hostmesh.errors.HostmeshError` reaches them as
``SwarmException``, ``StreamFailure``, ``StreamReset``, ``StreamClosed`` or ``StreamEOF``, and is the cause of those.
What a node does not do raises :class:`hostmesh.errors.UsageError`. What works and what does not:
docs/adr/0005-libp2p-host-adapter.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import trio
from libp2p.abc import IHost, IMuxedConn, INetConn, INetStream, IRawConnection
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.crypto.keys import KeyType, PrivateKey, PublicKey
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from libp2p.network.tag_store import TagStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.protocol_muxer.multiselect import Multiselect
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from hostmesh.errors import (
    ConnectionLostError,
    HostmeshError,
    NodeNotRunningError,
    ProtocolNotSupportedError,
    UsageError,
)
from hostmesh.net.address import AddressOrigin
from hostmesh.net.libp2p_network import Libp2pNetwork
from hostmesh.net.libp2p_peers import ADDRESS_TTL_S, NodePeerStore
from hostmesh.net.libp2p_stream import libp2p_id, not_here, to_multiaddr
from hostmesh.net.node import Node
from hostmesh.net.peer_id import public_key_of
from hostmesh.net.stream import Stream, StreamHandler

_NOISE_PREFIX = b"noise-libp2p-static-key:"
_OWN_DOMAINS = b"hostmesh:"


@asynccontextmanager
async def open_libp2p_host(node: Node) -> AsyncIterator[Libp2pHost]:
    """Give py-libp2p's protocols a host that runs on a node.

    Best before the node connects to the peers that the protocols are for. Start a protocol right where it is made: it
    takes streams from then on, and py-libp2p's Pubsub fails on those that come before it runs.

    Args:
        node: running; it goes on after the block.

    Yields:
        The host. When the block is left its streams are reset, its handlers are cancelled and awaited, and the node
        serves what it served before.

    Raises:
        NodeNotRunningError: the node does not run.

    Cancellation: safe.
    """
    if not node.is_running:
        raise NodeNotRunningError("the node does not run", remedy="start it first")
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        host = Libp2pHost(node, nursery)
        try:
            yield host
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 # raised again below, without a group around it
            failure = error
        finally:
            await host.close()
            with trio.CancelScope(shield=True):
                await host.wait_served()
            nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


class NodeKey(PrivateKey):
    """A node's peer key for py-libp2p's protocols: they sign with it, and cannot read it.

    It signs neither what Noise nor what hostmesh itself signs with the peer key, so that no protocol can be made to
    speak for the node.

    Args:
        node: whose.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def __repr__(self) -> str:
        return f"NodeKey({self._node.peer_id}, <redacted>)"

    def to_bytes(self) -> bytes:
        """Not offered: the key does not leave the node.

        Raises:
            UsageError: always.
        """
        raise not_here("does not give its private key away", "call sign()")

    def get_type(self) -> KeyType:
        """Return Ed25519."""
        return KeyType.Ed25519

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes.

        Raises:
            UsageError: they would mean something to Noise or to hostmesh.
        """
        # A signed envelope starts with the length of its domain, a varint, and the domain.
        if data.startswith(_NOISE_PREFIX) or data[1:].startswith(_OWN_DOMAINS) or data[2:].startswith(_OWN_DOMAINS):
            raise UsageError("that is signed by the node itself and by nobody else", remedy="sign something else")
        return self._node.sign(data)

    def get_public_key(self) -> PublicKey:
        """Return the public key, which the peer id names."""
        return Ed25519PublicKey.from_bytes(public_key_of(self._node.peer_id))


class Libp2pHost(IHost):
    """A node as py-libp2p's host; made by :func:`open_libp2p_host`.

    Args:
        node: runs.
        nursery: of the host's tasks; cancelled by who made it, after :meth:`close` and :meth:`wait_served`.
    """

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self._node = node
        self._peerstore = NodePeerStore(node)
        self._network = Libp2pNetwork(node, self._peerstore, nursery)
        self._mux = Multiselect()
        self._served_before: dict[TProtocol, StreamHandler | None] = {}
        self._serving: set[trio.CancelScope] = set()
        self._has_served = trio.Event()

    def __repr__(self) -> str:
        return f"<Libp2pHost on {self._node!r}>"

    # --- who and where ---

    def get_id(self) -> ID:
        """Return the node's peer id."""
        return libp2p_id(self._node.peer_id)

    def get_public_key(self) -> PublicKey:
        """Return the node's public key."""
        return self.get_private_key().get_public_key()

    def get_private_key(self) -> PrivateKey:
        """Return a key that signs as the node and cannot be read."""
        return NodeKey(self._node)

    def get_addrs(self) -> list[Multiaddr]:
        """Return the announced addresses, with the peer id."""
        return [to_multiaddr(address) for address in self._node.peer_addresses()]

    def get_transport_addrs(self) -> list[Multiaddr]:
        """Return the addresses that the node listens on."""
        return [to_multiaddr(address) for address in self._node.listen_addresses()]

    def get_network(self) -> Libp2pNetwork:
        """Return the network."""
        return self._network

    def get_peerstore(self) -> NodePeerStore:
        """Return the peer store."""
        return self._peerstore

    def get_mux(self) -> Multiselect:
        """Return who serves which protocol, of those set here. The node agrees on protocols itself."""
        return self._mux

    @property
    def conn_manager(self) -> TagStore:
        """The tags of peers; the node does not heed them."""
        return self._network.tags

    def get_connected_peers(self) -> list[ID]:
        """Return the connected peers."""
        return [libp2p_id(peer_id) for peer_id in self._node.connected_peers()]

    def get_live_peers(self) -> list[ID]:
        """Return the connected peers."""
        return self.get_connected_peers()

    # --- life ---

    def run(
        self, listen_addrs: Sequence[Multiaddr], *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> AbstractAsyncContextManager[None]:
        """Not offered: the node runs.

        Raises:
            UsageError: always.
        """
        raise not_here("runs already", "use the host inside open_libp2p_host()")

    async def close(self) -> None:
        """End what libp2p's protocols do on the node: handlers, streams, notifees. Idempotent, never waits."""
        for protocol_id in list(self._served_before):
            self.remove_stream_handler(protocol_id)
        for scope in self._serving:
            scope.cancel()
        await self._network.close()

    async def wait_served(self) -> None:
        """Return once no handler runs."""
        while self._serving:
            self._has_served = trio.Event()
            await self._has_served.wait()

    # --- connections ---

    async def connect(self, peer_info: PeerInfo, *, origin: AddressOrigin = AddressOrigin.REMOTE) -> None:
        """Make sure that there is a connection to a peer, under the node's dial policy and limits.

        Args:
            peer_info: whom, and where to try.
            origin: who named the addresses; py-libp2p's protocols say nothing, which means strangers.

        Raises:
            SwarmException: there is none, and none could be made; the node's own error is the cause.

        Cancellation: safe.
        """
        self._peerstore.add_addrs(peer_info.peer_id, peer_info.addrs, ADDRESS_TTL_S)
        await self._network.reach(peer_info.peer_id, peer_info.addrs, origin=origin)

    async def disconnect(self, peer_id: ID) -> None:
        """Disconnect a peer: its streams end, the other features' too."""
        await self._network.close_peer(peer_id)

    async def upgrade_outbound_connection(self, raw_conn: IRawConnection, peer_id: ID) -> INetConn:
        """Shake hands over a raw connection, as the dialer, and hand the connection to the node.

        Raises:
            SwarmException: the handshake failed, or the node has no room; the raw connection was closed.
        """
        return await self._network.upgrade_outbound_raw_conn(raw_conn, peer_id)

    async def upgrade_inbound_connection(self, raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        """Shake hands over a raw connection, as the listener; see :meth:`upgrade_outbound_connection`."""
        return await self._network.upgrade_inbound_raw_conn(raw_conn, maddr)

    # --- streams ---

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        """Open a stream with the first of the protocols that the peer speaks, dialling it if need be.

        Those that it told by Identify are tried first, then the others, in the order given.

        Raises:
            StreamFailure: the peer speaks none of them.
            SwarmException: the peer cannot be reached, or the connection has as many streams as it may.

        Cancellation: safe.
        """
        refusal: HostmeshError | None = None
        try:
            self._network.check_open()
            known_as = self._network.prepare_dial(peer_id)
            spoken = self._node.protocols_of(known_as)
            for protocol_id in sorted(protocol_ids, key=lambda each: each not in spoken):
                try:
                    stream = await self._node.open_stream(known_as, protocol_id)
                except ProtocolNotSupportedError as error:
                    refusal = error
                    self._network.connection_to(known_as).refused.add(protocol_id)
                    continue
                try:
                    return self._network.take(stream)
                except NodeNotRunningError:
                    await stream.reset()
                    raise
        except HostmeshError as error:
            raise SwarmException(str(error)) from error
        raise StreamFailure(f"{peer_id} speaks none of {', '.join(protocol_ids) or 'no protocols'}") from refusal

    def set_stream_handler(self, protocol_id: TProtocol, stream_handler: StreamHandlerFn) -> None:
        """Serve a protocol, in place of whoever did so on the node.

        What the handler raises resets its stream and no other. A stream that it leaves open when it returns stays open,
        unless it has read the peer's end: then nobody is left to close it.
        """
        self._network.check_open()
        before = self._node.remove_stream_handler(protocol_id)
        self._node.set_stream_handler(protocol_id, partial(self._serve, stream_handler))
        self._served_before.setdefault(protocol_id, before)
        self._mux.add_handler(protocol_id, stream_handler)

    def remove_stream_handler(self, protocol_id: TProtocol) -> None:
        """Serve a protocol no longer: who served it on the node before does again. Streams that run go on."""
        if protocol_id not in self._served_before:
            return
        self._mux.remove_handler(protocol_id)
        before = self._served_before.pop(protocol_id)
        if before is None:
            self._node.remove_stream_handler(protocol_id)
        else:
            self._node.set_stream_handler(protocol_id, before)

    async def _serve(self, handler: StreamHandlerFn, stream: Stream) -> None:
        try:
            taken = self._network.take(stream)
        except NodeNotRunningError:
            # The stream came just before the host was closed.
            await stream.reset()
            return
        refused = self._network.connection_to(stream.peer_id).refused
        if stream.protocol_id in refused:
            # The peer has started to speak it since. py-libp2p's Pubsub asks a connected peer but once.
            refused.discard(TProtocol(stream.protocol_id))
            self._network.tell_again(stream.peer_id)
        is_over = False
        with trio.CancelScope() as scope:
            self._serving.add(scope)
            try:
                await handler(taken)
                if taken.has_ended:
                    await taken.close()
                # A handler may keep its stream for others: a relay's circuit runs on one that its handler has left.
                await taken.wait_over()
                is_over = True
            except IOException as error:
                # The end of a stream, where the handler did not look for it: no fault of anybody's.
                raise ConnectionLostError(f"the handler met the end of its stream: {error!r}") from error
            finally:
                if not is_over:
                    await taken.reset()
                self._serving.discard(scope)
                self._has_served.set()

    # --- not here ---

    def get_metrics_recv_channel(self) -> trio.MemoryReceiveChannel[Any] | None:
        """Return None: protocols tell no metrics here."""
        return None

    async def initiate_autotls_procedure(self, public_ip: str | None = None) -> None:
        """Not offered: a node speaks Noise.

        Raises:
            UsageError: always.
        """
        raise not_here("speaks Noise and no TLS", "leave it out")

    def get_connection_health(self, peer_id: ID) -> dict[str, Any]:
        """Return nothing: not watched."""
        return self._network.get_peer_health_summary(peer_id)

    def get_network_health_summary(self) -> dict[str, Any]:
        """Return nothing: not watched."""
        return self._network.get_global_health_summary()

    def export_health_metrics(self, format: str = "json") -> str:  # noqa: A002 # its name in the interface
        """Return nothing: not watched."""
        return self._network.export_health_metrics(format)

    async def get_health_monitor_status(self) -> dict[str, Any]:
        """Return that health is not watched."""
        return await self._network.get_health_monitor_status()
