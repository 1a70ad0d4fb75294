"""The bootstrap loop on real sockets; its timing is tested in virtual time (unit)."""

from __future__ import annotations

import time

import pytest
import trio

from hostmesh.errors import ReadyTimeoutError
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey


async def _closed_port() -> str:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return f"/ip4/127.0.0.1/tcp/{port}"


async def test_start_does_not_wait_for_a_dead_bootstrap_node(start_node):
    peer_id = PeerKey.generate().peer_id
    address = f"{await _closed_port()}/p2p/{peer_id}"
    began = time.monotonic()
    client = await start_node(bootstrap_addresses=(address,))
    assert time.monotonic() - began < 0.6
    assert client.is_running
    with pytest.raises(ReadyTimeoutError) as caught:
        await client.wait_connected(1, 0.1)
    assert caught.value.outcomes == {address: "dial"}
    assert caught.value.remedy


async def test_a_bootstrap_node_that_comes_up_late_is_joined(start_node):
    key = PeerKey.generate()
    address = await _closed_port()
    client = await start_node(
        bootstrap_addresses=(f"{address}/p2p/{key.peer_id}",), bootstrap_first_retry_s=0.05, bootstrap_max_retry_s=0.05
    )
    with pytest.raises(ReadyTimeoutError):
        await client.wait_connected(1, 0.2)
    await start_node(key=key, listen_addresses=(address,))
    await client.wait_connected(1, 2.0)
    with trio.fail_after(1):
        while client.bootstrap_outcomes() != {f"{address}/p2p/{key.peer_id}": "connected"}:
            await trio.lowlevel.checkpoint()


async def test_a_bootstrap_node_that_restarts_is_joined_again(start_node):
    key = PeerKey.generate()
    first = await start_node(key=key)
    address = first.listen_addresses()[0]
    client = await start_node(
        bootstrap_addresses=first.peer_addresses(), bootstrap_first_retry_s=0.05, bootstrap_max_retry_s=0.05
    )
    await client.wait_connected(1, 2.0)
    await first.stop()
    await client.wait_disconnected(key.peer_id)
    await start_node(key=key, listen_addresses=(address,))
    await client.wait_connected(1, 2.0)


async def test_each_address_has_its_outcome(start_node, nursery):
    good, other = await start_node(), await start_node()
    stranger = PeerKey.generate().peer_id
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def swallow(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    nursery.start_soon(trio.serve_listeners, swallow, listeners)
    expected = {
        good.peer_addresses()[0]: "connected",
        f"{other.listen_addresses()[0]}/p2p/{stranger}": "handshake",
        f"{await _closed_port()}/p2p/{stranger}": "dial",
        f"/dns4/name.invalid/tcp/4001/p2p/{PeerKey.generate().peer_id}": "dns",
        f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}/p2p/{PeerKey.generate().peer_id}": "timeout",
    }

    class NoNames(type(good._network)):  # type: ignore[misc]
        async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
            raise OSError(-2, "Name or service not known")

    config = NodeConfig(bootstrap_addresses=tuple(expected), connection_timeout_s=0.3, enable_dht=False)
    client = Node(config, PeerKey.generate(), network=NoNames())
    await nursery.start(client.run)
    await client.wait_connected(1, 2.0)
    with trio.fail_after(2):
        while client.bootstrap_outcomes() != expected:
            await trio.lowlevel.checkpoint()


async def test_own_address_in_the_list_is_ignored(start_node):
    key = PeerKey.generate()
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{key.peer_id}"
    node = await start_node(key=key, bootstrap_addresses=(address,))
    assert node.bootstrap_outcomes() == {}


async def test_ready_timeout_without_bootstrap_nodes(start_node):
    node = await start_node()
    with pytest.raises(ReadyTimeoutError) as caught:
        await node.wait_connected(1, 0.05)
    assert caught.value.outcomes == {}
    await node.wait_connected(0, 0.05)
