"""Dialling on real loopback sockets."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin, AddressScope
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

ECHO = "/test/echo/1"
CONFIGURED, REMOTE = AddressOrigin.CONFIGURED, AddressOrigin.REMOTE


@pytest.fixture
async def tarpit(nursery):
    """Accepts and says nothing."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def swallow(stream: trio.SocketStream) -> None:
        while await stream.receive_some(65536):
            pass

    nursery.start_soon(trio.serve_listeners, swallow, listeners)
    return f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}"


@pytest.fixture
async def black_hole():
    """A port whose SYNs go unanswered: its queue of one is full."""
    server = trio.socket.socket()
    await server.bind(("127.0.0.1", 0))
    server.listen(0)
    port = server.getsockname()[1]
    fillers = []
    for _ in range(8):
        filler = trio.socket.socket()
        fillers.append(filler)
        with trio.move_on_after(0.05) as scope:
            await filler.connect(("127.0.0.1", port))
        if scope.cancelled_caught:
            break
    assert scope.cancelled_caught, "the queue never filled up"
    yield f"/ip4/127.0.0.1/tcp/{port}"
    for each in (server, *fillers):
        each.close()


async def _closed_port() -> str:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return f"/ip4/127.0.0.1/tcp/{port}"


async def test_closed_port_then_good_address(start_node):
    server, client = await start_node(), await start_node()
    began = time.monotonic()
    await client.connect(server.peer_id, [await _closed_port(), *server.listen_addresses()], origin=CONFIGURED)
    assert time.monotonic() - began < 0.6
    assert client.is_connected(server.peer_id)


async def test_black_hole_and_tarpit_before_the_good_address(start_node, black_hole, tarpit):
    server, client = await start_node(), await start_node()
    began = time.monotonic()
    await client.connect(server.peer_id, [black_hole, tarpit, *server.listen_addresses()], origin=CONFIGURED)
    assert time.monotonic() - began < 2.0
    assert client.is_connected(server.peer_id)


async def test_a_dial_costs_no_quarter_second(start_node):
    server = await start_node()
    took = []
    for _ in range(5):
        client = await start_node()
        began = time.monotonic()
        await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
        took.append(time.monotonic() - began)
    assert min(took) < 0.1


@pytest.mark.parametrize("what", ["black_hole", "tarpit"])
async def test_silence_ends_with_the_callers_time(start_node, request, black_hole, tarpit, what):
    client = await start_node()
    address = {"black_hole": black_hole, "tarpit": tarpit}[what]
    began = time.monotonic()
    with pytest.raises(DialError) as caught:
        await client.connect(PeerKey.generate().peer_id, [address], origin=CONFIGURED, timeout_s=0.3)
    assert 0.29 < time.monotonic() - began < 2.0
    assert caught.value.stage == "timeout"
    assert list(caught.value.attempts) == [address]


async def test_closed_port_fails_at_once_and_may_be_retried(start_node):
    client, server_key = await start_node(), PeerKey.generate()
    address = await _closed_port()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(DialError) as caught:
            await client.connect(server_key.peer_id, [address], origin=CONFIGURED)
        assert caught.value.stage == "dial"
        assert "refused" in caught.value.attempts[address].lower()
    assert time.monotonic() - began < 0.7
    server = await start_node(key=server_key, listen_addresses=(address,))
    await client.connect(server.peer_id, [address], origin=CONFIGURED)


async def test_a_stranger_does_not_lead_to_loopback(start_node):
    server = await start_node()
    outside = Node(NodeConfig(listen_addresses=(), enable_dht=False), PeerKey.generate())
    async with trio.open_nursery() as nursery:
        await nursery.start(outside.run)
        assert outside.own_scopes() == frozenset()
        with pytest.raises(DialError) as caught:
            await outside.connect(server.peer_id, server.listen_addresses(), origin=REMOTE)
        assert caught.value.stage == "address"
        # A configured peer on loopback puts the node there, and what it then hears of loopback is believed.
        await outside.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
        assert outside.own_scopes() == {AddressScope.LOOPBACK}
        other = await start_node()
        await outside.connect(other.peer_id, other.listen_addresses(), origin=REMOTE)
        await outside.stop()


async def test_the_round_trip_over_a_real_socket(start_node):
    server, client = await start_node(), await start_node()
    began_s = trio.current_time()
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
    with trio.fail_after(5):
        while client.rtt_s(server.peer_id) is None:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert 0 < client.rtt_s(server.peer_id) < trio.current_time() - began_s
