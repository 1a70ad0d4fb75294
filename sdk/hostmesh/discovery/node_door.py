"""The manager's own node: its life, the peers that it is connected with, and messages to and from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hostmesh.discovery.collaborators import MessageHandler, NodeOptions, RunningNode
from hostmesh.discovery.inbox import Inbox
from hostmesh.discovery.life import NodeLife, checked_addresses
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.peer_id import PeerId, parse_peer_id


class NodeDoor:
    """What an application does with the node itself; the rest is :class:`hostmesh.discovery.manager.DiscoveryManager`.

    Args:
        life: holds the node.
    """

    def __init__(self, life: NodeLife) -> None:
        self._life = life
        self._inbox = Inbox()

    # --- the node's life ---

    async def create_node(
        self,
        *,
        listen: Sequence[str] | None = None,
        bootstrap: Sequence[str] | None = None,
        announce: Sequence[str] | None = None,
    ) -> PeerId:
        """Start the node.

        Args:
            listen: multiaddrs to listen on; None = as the settings say, ``/ip4/127.0.0.1/tcp/0`` by default.
            bootstrap: multiaddrs with ``/p2p/<id>`` to join the network through; None = as the settings say.
            announce: multiaddrs that others are told instead of those listened on; None = as the settings say.

        Returns:
            The node's peer id, once it listens. Bootstrap peers are dialled in the background, for as long as it takes;
            :meth:`wait_ready` waits for them.

        Raises:
            AlreadyRunningError: it runs already, or is starting; nothing was changed.
            InvalidAddressError: an address is malformed.
            StartFailedError: a port is in use, or an address is not this machine's.
            KeyInUseError: another process runs with the key.
            KeyFileError: the key file cannot be used. In each case nothing was left running.

        Cancellation: safe; nothing is left running.
        """
        options = NodeOptions(
            listen=checked_addresses(listen, "listen"),
            bootstrap=checked_addresses(bootstrap, "bootstrap"),
            announce=checked_addresses(announce, "announce"),
        )
        return await self._life.start(options)

    def is_running(self) -> bool:
        """Tell whether the node listens."""
        return self._life.current is not None

    async def stop(self) -> None:
        """Withdraw the record, end every stream and connection, and wait until nothing of the node is left.

        Idempotent; without a node it does nothing. The node can be created again afterwards.

        Cancellation: the stopping goes on.
        """
        await self._life.stop()

    async def wait_ready(self, min_peers: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until so many peers are connected.

        Raises:
            ReadyTimeoutError: they are not; ``outcomes`` says for each bootstrap address why.
            NodeNotRunningError: there is no node.
        """
        await self._life.require().node.wait_connected(min_peers, timeout_s)

    # --- peers ---

    async def connect_to_peer(self, multiaddr: str, timeout_s: float | None = None) -> PeerId:
        """Connect to a peer at an address that the caller vouches for.

        Args:
            multiaddr: ``/ip4/.../tcp/.../p2p/<peer id>``. The peer must prove that id.
            timeout_s: seconds; None = as the settings say.

        Raises:
            InvalidAddressError: malformed, or without a peer id.
            DialError: not reached, or it is another peer; ``stage`` says where it failed.
            NodeNotRunningError: there is no node.
        """
        node = self._life.require().node
        address, peer_id = split_peer_address(multiaddr)
        if peer_id is None:
            raise InvalidAddressError(
                f"the address {multiaddr} names no peer", remedy="append /p2p/<peer id> of the peer"
            )
        await node.connect(peer_id, [address], origin=AddressOrigin.CONFIGURED, timeout_s=timeout_s)
        return peer_id

    async def disconnect_peer(self, peer_id: str) -> None:
        """End the connections to a peer. Nothing happens when there is none.

        Raises:
            InvalidAddressError: not a peer id.
            NodeNotRunningError: there is no node.
        """
        await self._life.require().node.disconnect(parse_peer_id(peer_id))

    def get_connected_peers(self) -> tuple[PeerId, ...]:
        """Return the connected peers, each once; empty when there is no node."""
        running = self._life.current
        return () if running is None else tuple(dict.fromkeys(running.node.connected_peers()))

    def listen_addresses(self) -> tuple[str, ...]:
        """Return the addresses that the node listens on, each with ``/p2p/<peer id>``; empty when there is no node."""
        running = self._life.current
        if running is None:
            return ()
        node = running.node
        return tuple(f"{address}/p2p/{node.peer_id}" for address in node.listen_addresses())

    async def send_message(
        self, peer_id: str, message: bytes | Mapping[str, Any], *, timeout_s: float = 30.0, retries: int = 3
    ) -> Any:
        """Send a message and wait for its acknowledgement; see ``DirectMessenger.send`` for what it can raise.

        Returns:
            The :class:`hostmesh.messaging.direct.Ack`.

        Raises:
            NodeNotRunningError: there is no node.
            DialError, ProtocolNotSupportedError, FrameTooLargeError, DeadlineExceededError: see there.
        """
        messenger = self._life.require().messenger
        return await messenger.send(parse_peer_id(peer_id), message, timeout_s=timeout_s, retries=retries)

    def on_message(self, handler: MessageHandler) -> Callable[[], None]:
        """Have every message given to ``handler``, before as well as after :meth:`create_node`.

        Returns:
            A function that removes the handler; calling it again does nothing.
        """
        return self._inbox.on_message(handler)

    # --- inside ---

    def _attach(self, running: RunningNode) -> None:
        """Take messages of a node that has started."""
        self._inbox.attach(running.messenger)

    def _detach(self) -> None:
        self._inbox.detach()
