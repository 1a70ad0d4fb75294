"""A protocol of an application's own, through the doors of the SDK, on two machines of a simulated network."""

from __future__ import annotations

import pytest
from tests.benchmarks.rpc_cost import BURST, SERVICE, UNARY, Handler, payload

from hostmesh import SDK, NodeNotRunningError, PeerId, ProtocolNotSupportedError, UsageError
from hostmesh.testing import SimMachine, SimNetwork, make_wallet, run_sim


async def join(machine: SimMachine, sdk: SDK) -> str:
    """Start a node and return its address."""
    await sdk.authenticate(wallet=make_wallet(machine.name))
    peer_id = await sdk.get_discovery_manager().create_node()
    return f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}"


def test_an_application_serves_and_calls_its_own_protocol() -> None:
    async def main(network: SimNetwork) -> None:
        server, client = network.machine("server"), network.machine("client")
        async with server.open_sdk() as served, client.open_sdk() as calling:
            with pytest.raises(NodeNotRunningError):
                served.serve(SERVICE, Handler(payload(300)))
            with pytest.raises(NodeNotRunningError):
                calling.get_rpc_client()
            address = await join(server, served)
            await join(client, calling)
            with pytest.raises(UsageError):
                served.serve(SERVICE, object())
            served.serve(SERVICE, Handler(payload(300), count=5))
            peer: PeerId = await calling.get_discovery_manager().connect_to_peer(address)
            rpc = calling.get_rpc_client()
            assert await rpc.unary(peer, UNARY, payload(100), timeout_s=5.0) == payload(300)
            async with rpc.server_stream(peer, BURST, payload(100), timeout_s=5.0) as responses:
                assert [response async for response in responses] == [payload(300)] * 5
            # More in a row than hostmesh's own services take of one peer.
            for _ in range(1200):
                await rpc.unary(peer, UNARY, payload(100), timeout_s=5.0)
            served.withdraw(SERVICE)
            with pytest.raises(ProtocolNotSupportedError):
                await rpc.unary(peer, UNARY, payload(100), timeout_s=5.0)

    run_sim(main, seed=1)
