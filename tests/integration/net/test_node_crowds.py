"""One network of strangers cannot fill a node: connections and handshakes by the address that they come from."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hostmesh.errors import ConnectionLostError, DialError
from hostmesh.net import listening
from hostmesh.net.address import AddressOrigin

ECHO = "/test/echo/1"
CONFIGURED = AddressOrigin.CONFIGURED


async def _try_to_use(client, server) -> bool:
    """Whether a stream works, which tells more than a handshake: a refused dialler learns it afterwards."""
    client.add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)
    try:
        stream = await client.open_stream(server.peer_id, ECHO, timeout_s=2.0)
        await stream.send(b"x")
        return await stream.receive() == b"x"
    except (DialError, ConnectionLostError):
        return False


async def test_one_network_holds_only_its_share_of_the_connections(start_node, memory_network):
    server = await start_node(network=memory_network, max_connections=32)
    worked = []
    for index in range(12):
        memory_network.inbound_ip = f"203.0.113.{index}"
        worked.append(await _try_to_use(await start_node(network=memory_network), server))
    assert worked == [True] * 8 + [False] * 4
    memory_network.inbound_ip = "198.51.100.1"
    assert await _try_to_use(await start_node(network=memory_network), server)
    leaver = server.connected_peers()[0]
    await server.disconnect(leaver)
    memory_network.inbound_ip = "203.0.113.77"
    assert await _try_to_use(await start_node(network=memory_network), server)
    assert not await _try_to_use(await start_node(network=memory_network), server)


@pytest.mark.parametrize(
    ("ips", "share", "expected"),
    [
        (["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"], 0.1, 4),
        (["::ffff:203.0.113.1", "203.0.113.2"], 0.1, 4),
        (["127.0.0.1", "::1"], 0.1, 6),
        (["203.0.113.1"], 1.0, 6),
    ],
)
async def test_which_diallers_share_a_network(start_node, memory_network, ips, share, expected):
    server = await start_node(network=memory_network, max_connections=30, max_inbound_share=share)
    worked = 0
    for index in range(6):
        memory_network.inbound_ip = ips[index % len(ips)]
        worked += await _try_to_use(await start_node(network=memory_network), server)
    assert worked == expected


async def test_what_this_node_dialled_is_in_no_share(start_node, memory_network):
    client = await start_node(network=memory_network, max_connections=10, max_inbound_share=0.1)
    for _ in range(6):
        assert await _try_to_use(client, await start_node(network=memory_network))
    assert len(client.connected_peers()) == 6


async def test_idle_connections_of_one_network_do_not_end_the_handshakes_of_others(start_node, memory_network):
    server = await start_node(network=memory_network)
    port = int(server.listen_addresses()[0].split("/")[4])
    memory_network.inbound_ip = "198.51.100.1"
    slow = await memory_network.dial("127.0.0.1", port)
    await trio.testing.wait_all_tasks_blocked()
    memory_network.inbound_ip = "203.0.113.1"
    idle = []
    for _ in range(2 * listening.MAX_HANDSHAKES):
        idle.append(await memory_network.dial("127.0.0.1", port))
        await trio.testing.wait_all_tasks_blocked()
    hello = b"\x13/multistream/1.0.0\n"
    await slow.send_all(hello)
    with trio.fail_after(2):
        assert bytes(await slow.receive_some()) == hello
        while await idle[0].receive_some():
            pass
