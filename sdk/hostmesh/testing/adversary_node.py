"""A node beneath the SDK, every word of which can be replaced: what the kit's adversaries are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio
from google.protobuf.descriptor import ServiceDescriptor

from hostmesh.discovery.source import Advert
from hostmesh.discovery.sources.dht import DhtSource
from hostmesh.net.config import NodeConfig
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.testing.machine import DEFAULT_PORT, NETWORK_NAME, SimMachine
from hostmesh.testing.wallets import make_peer_key
from hostmesh.v1.discovery_hostmesh import DISCOVERY_SERVICE

PROTOCOL_PREFIX = "/hostmesh"
MAX_CONNECTIONS = 1000


class AdversaryNode:
    """A real :class:`hostmesh.net.node.Node` with real calls and no feature; :func:`open_adversary_node` makes it.

    Args:
        machine: where it runs.
        nursery: of its tasks.
        key: who it is.
        bootstrap: addresses with ``/p2p`` to stay connected to.
        listens: whether it takes connections, on port 4001; it announces that address in any case.
    """

    def __init__(
        self, machine: SimMachine, nursery: trio.Nursery, key: PeerKey, *, bootstrap: Sequence[str], listens: bool
    ) -> None:
        self.machine = machine
        self.nursery = nursery
        """Owns its tasks: what is started here ends with it."""
        self.key = key
        self.address = f"/ip4/{machine.address}/tcp/{DEFAULT_PORT}"
        """What it announces, without ``/p2p``."""
        config = NodeConfig(
            listen_addresses=(machine.listen_address,) if listens else (),
            announce_addresses=(self.address,),
            bootstrap_addresses=tuple(bootstrap),
            protocol_prefix=PROTOCOL_PREFIX,
            max_connections=MAX_CONNECTIONS,
        )
        self.node = Node(config, key, system=machine.system, network=machine.network)
        self.rpc = RpcClient(self.node, prefix=PROTOCOL_PREFIX, system=machine.system)
        self.server = RpcServer(prefix=PROTOCOL_PREFIX, system=machine.system)
        assert self.node.dht is not None, "on by default"
        self.dht_protocol_id = self.node.dht.protocol_id
        self.adverts = DhtSource(self.node.dht, network=NETWORK_NAME, system=machine.system)
        """Names it in the DHT, as a host's own does."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""
        return self.key.peer_id

    def serve(self, service: ServiceDescriptor, handler: object) -> None:
        """Serve a service from now on; see :meth:`hostmesh.rpc.server.RpcServer.add_service`."""
        self.server.add_service(service, handler)
        for protocol_id, stream_handler in self.server.stream_handlers().items():
            self.node.set_stream_handler(protocol_id, stream_handler)

    def serve_records(self, handler: object) -> None:
        """Serve the discovery protocol; the handler has ``get_record`` and ``announce``."""
        self.serve(DISCOVERY_SERVICE, handler)

    async def advertise(self, model_ids: Iterable[str], country_code: str | None = None) -> None:
        """Have the DHT name this peer as a host of these models, and of any model, from now on."""
        await self.adverts.advertise(
            Advert(model_ids=tuple(model_ids), country_code=country_code, addresses=(self.address,))
        )


@asynccontextmanager
async def open_adversary_node(
    machine: SimMachine, *, key: PeerKey | None = None, bootstrap: Sequence[str] = (), listens: bool = True
) -> AsyncIterator[AdversaryNode]:
    """Run a node without features as the machine's process, for the life of the block.

    Args:
        machine: where it runs.
        key: who it is; None = the test key of the machine's name.
        bootstrap: addresses with ``/p2p`` to stay connected to.
        listens: whether it takes connections.

    Raises:
        UsageError: the machine is off, or has a process already.
    """
    failure: BaseException | None = None
    async with machine.process():
        async with trio.open_nursery() as nursery:
            adversary = AdversaryNode(
                machine, nursery, key or make_peer_key(machine.name), bootstrap=bootstrap, listens=listens
            )
            await nursery.start(adversary.node.run)
            await nursery.start(adversary.adverts.run)
            try:
                yield adversary
            except trio.Cancelled:
                raise  # a scope waits for it
            except BaseException as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
                failure = error
            with trio.CancelScope(shield=True):
                await adversary.node.stop()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
