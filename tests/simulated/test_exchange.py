"""Peer exchange among shipped nodes."""

from __future__ import annotations

import trio
from tests.support.simulated import simulated

from hostmesh import HostCriteria
from hostmesh.testing import Mesh, MeshNode, SimNetwork

MODEL = "fake-chat"


@simulated()
async def test_a_bootstrap_node_tells_of_a_host_that_has_served_for_long(net: SimNetwork) -> None:
    """Records last two minutes: the host has kept its own with the bootstrap node all the time."""
    async with trio.open_nursery() as nursery:
        mesh = Mesh(net, nursery)
        is_over = trio.Event()

        async def look(client: MeshNode) -> None:
            assert client.manager is not None
            choice = await client.manager.find_host(HostCriteria(required_models=[MODEL]))
            assert choice.peer_id == host.peer_id
            assert "exchange" in choice.sources
            is_over.set()

        await mesh.start_bootstrap("boot")
        host = await mesh.start_host("host", [MODEL])
        await trio.sleep(1800)
        await mesh.start_client("client", look)
        await is_over.wait()
        nursery.cancel_scope.cancel()
