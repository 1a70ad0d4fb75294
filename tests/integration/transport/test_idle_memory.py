"""What an idle connection and an idle call cost their server, as Python's allocator counts it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
from tests.integration.transport import kit
from tests.integration.transport.conftest import PeerProcess

from hostmesh.net.node import Node
from hostmesh.rpc.client import ResponseStream, RpcClient
from hostmesh.system import System

CONNECTIONS = 200
CALLS = 1000
KIB = 1024
MAX_CONNECTION_BYTES = 40 * KIB
MAX_CALL_BYTES = 5 * KIB


async def _first_word(node: Node, peer_id: str, stack: AsyncExitStack) -> ResponseStream:
    """Make a call that stays open, and return once its first response is there."""
    rpc = RpcClient(node, prefix="/hostmesh", system=System())
    responses = await stack.enter_async_context(
        rpc.server_stream(peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=None)  # type: ignore[arg-type] # a NewType
    )
    assert (await anext(responses)).text.text == "x"
    return responses


async def _idle(server: PeerProcess, *, connections: int, calls: int) -> None:
    """Return once the server has so much, and nothing else to do; nothing tells when that is."""
    while True:
        usage = await server.ask("usage")
        streams = {kit.JOB_PROTOCOL: calls} if calls else {}
        if (usage["connections"], usage["inbound_streams"], usage["outbound_streams"]) == (connections, streams, {}):
            return
        await trio.sleep(0.01)


async def test_an_idle_connection_costs_its_server_little(start_node, start_peer):
    server = await start_peer(max_connections=2 * CONNECTIONS)

    async def connect() -> Node:
        node = await start_node(listen_addresses=())
        await kit.connect_to(node, server.address)
        async with AsyncExitStack() as stack:
            await _first_word(node, server.peer_id, stack)
        return node

    with trio.fail_after(60):
        for node in [await connect() for _ in range(20)]:
            await node.stop()
        await _idle(server, connections=0, calls=0)
        resident = server.begin_peak()
        await server.ask("trace")
        for _ in range(CONNECTIONS):
            await connect()
        await _idle(server, connections=CONNECTIONS, calls=0)
        used = (await server.ask("traced"))["bytes"] / CONNECTIONS
        resident = (server.begin_peak() - resident) / CONNECTIONS
    print(f"an idle connection: {used / KIB:.1f} KiB; resident, with the tracer's own: {resident / KIB:.1f} KiB")
    assert used <= MAX_CONNECTION_BYTES


async def test_an_idle_call_costs_its_server_little(start_node, start_peer):
    server = await start_peer(max_streams=2 * CALLS)
    client = await start_node(max_streams=2 * CALLS, listen_addresses=())
    await kit.connect_to(client, server.address)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            for _ in range(100):
                await _first_word(client, server.peer_id, stack)
        await _idle(server, connections=1, calls=0)
        resident = server.begin_peak()
        await server.ask("trace")
        async with AsyncExitStack() as stack:
            for _ in range(CALLS):
                await _first_word(client, server.peer_id, stack)
            await _idle(server, connections=1, calls=CALLS)
            used = (await server.ask("traced"))["bytes"] / CALLS
            resident = (server.begin_peak() - resident) / CALLS
        await _idle(server, connections=1, calls=0)
        left = (await server.ask("traced"))["bytes"] / CALLS
    print(f"an idle call: {used / KIB:.2f} KiB, {left:.0f} B after it; resident {resident / KIB:.1f}")
    assert used <= MAX_CALL_BYTES
    assert left <= 0.1 * used, "what ended is gone"
