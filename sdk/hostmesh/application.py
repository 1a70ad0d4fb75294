"""What an application does with the node that runs: protocols of its own, and what the node uses."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.descriptor import ServiceDescriptor

from hostmesh.errors import NodeNotRunningError
from hostmesh.net.ledger import NodeUsage
from hostmesh.net.peer_id import PeerId
from hostmesh.node_stack import NodeStack
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.interceptors import ServerInterceptor
from hostmesh.rpc.shapes import ServiceBase


class ApplicationDoor:
    """Calls to and from an application's own protocols; the rest is :class:`hostmesh.sdk.SDK`."""

    def __init__(self) -> None:
        self._stack: NodeStack | None = None
        """As long as the node runs."""

    def get_rpc_client(self) -> RpcClient:
        """Return what calls the protocols of an application on other nodes; see :meth:`serve`.

        Raises:
            NodeNotRunningError: ``create_node`` comes first.
        """
        return self._running().rpc

    def serve(
        self,
        service: ServiceDescriptor | ServiceBase,
        handler: object | None = None,
        *,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        """Serve a protocol of an application from now on: ``sdk.serve(handler)`` for a generated base.

        Args:
            service: the handler, where that is a generated base; else the service as its .proto describes it,
                ``chat_pb2.DESCRIPTOR.services_by_name["ChatService"]``, whose options name the protocol, its version
                and the size of each message.
            handler: has a method for each of the service's, in snake case: ``async def get_room(request, context)``
                returns the response; that of a server stream also takes ``send``, an async function for one response.
            interceptors: around the handler's methods, the first outermost, inside those of :func:`open_sdk`.

        Raises:
            UsageError: the handler lacks a method, or the protocol is served already.
            NodeNotRunningError: ``create_node`` comes first.

        Limits: of one peer 256 calls at once and 50,000 a second, over all services of the application; of all peers
        4,096 and 100,000 to each. What the .proto states (``calls_per_peer``, ``calls_of_all``) takes their place; a
        service that states any is counted by itself. Further calls are refused with RESOURCE_EXHAUSTED.
        """
        self._running().serve(service, handler, limits=None, interceptors=interceptors)

    def withdraw(self, service: ServiceDescriptor | ServiceBase) -> None:
        """Serve a protocol of an application no longer; calls in progress go on.

        Args:
            service: as :meth:`serve` took it.

        Raises:
            NodeNotRunningError: ``create_node`` comes first.
        """
        self._running().withdraw(service)

    def get_usage(self) -> NodeUsage:
        """Return what the node uses now: connections, streams by protocol, bytes that wait, and what it refused.

        Raises:
            NodeNotRunningError: ``create_node`` comes first.

        Cost: linear in the open streams.
        """
        return self._running().node.usage()

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the protocol ids that a connected peer said it speaks, by its latest word: a claim of that peer's.

        Each version of a protocol has an id of its own: ``/hostmesh/chat/1.1.0``. A call chooses by itself; this is for
        what a program shows or offers to a person.

        Args:
            peer_id: of the peer; one that is not connected is not dialled.

        Returns:
            256 ids at most. Empty: not connected, or not told; a peer tells about one round trip after it is connected.

        Raises:
            NodeNotRunningError: ``create_node`` comes first.
        """
        return self._running().node.protocols_of(peer_id)

    # --- inside ---

    def _running(self) -> NodeStack:
        if self._stack is None:
            raise NodeNotRunningError("the node does not run", remedy="await discovery.create_node()")
        return self._stack
