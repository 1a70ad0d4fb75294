"""What the transport's tests need on a simulated network: their protocols, and a peer that says nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.transport import kit
from tests.simulated.nodes import Nodes, nodes_on

from hostmesh.net.node import Node
from hostmesh.testing import SimNetwork


@asynccontextmanager
async def peers_on(net: SimNetwork) -> AsyncIterator[Nodes]:
    """Nodes that serve the kit's protocols."""
    async with nodes_on(net, kit.HANDLERS) as nodes:
        yield nodes


async def start_mute_peer(nodes: Nodes) -> tuple[Node, kit.MutePeer]:
    """Start a node that is connected to a mute peer."""
    client, machine = await nodes.start(listen_addresses=()), nodes.net.machine("mute")
    return client, await kit.mute_peer(machine.network, client, nodes.nursery, host=machine.address)
