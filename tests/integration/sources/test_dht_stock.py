"""Our DHT and py-libp2p's own understand each other, both ways, as servers and as clients."""

from __future__ import annotations

import pytest
import trio

from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.dht_message import content_key
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

KEY = content_key("a model")


@pytest.fixture
async def stock(start_node):
    """A stock DHT server in a process of its own."""
    return await start_node("stock_dht.py")


@pytest.fixture
async def run_node(nursery):
    async def run(*, dht_server):
        node = Node(NodeConfig(dht_server=dht_server), PeerKey.generate())
        await nursery.start(node.run)
        return node

    return run


async def join(node, stock):
    for text in stock.addresses:
        address, _ = split_peer_address(text)
        await node.connect(stock.peer_id, [address], origin=AddressOrigin.CONFIGURED)
    with trio.fail_after(20):
        await node.dht.wait_server()


async def test_a_stock_server_keeps_and_gives_our_records(stock, run_node):
    host, client = await run_node(dht_server=False), await run_node(dht_server=False)
    await join(host, stock)
    await join(client, stock)
    assert host.dht.servers() == (stock.peer_id,)
    assert await host.provide(KEY) == 1
    assert await client.find_providers(KEY, limit=5, timeout_s=20) == [(host.peer_id, host.announced_addresses())]


async def test_a_stock_client_finds_in_our_server_what_we_and_it_provide(stock, run_node):
    server, client = await run_node(dht_server=True), await run_node(dht_server=False)
    await client.connect(server.peer_id, server.announced_addresses(), origin=AddressOrigin.CONFIGURED)
    with trio.fail_after(20):
        await client.dht.wait_server()
    assert await client.provide(KEY) == 1

    await stock.command(f"connect {server.peer_addresses()[0]}")
    await stock.event("connected")
    await stock.command(f"find {KEY.hex()}")
    found = (await stock.event("found"))["providers"]
    assert set(found) == {client.peer_id}
    assert [split_peer_address(text)[0] for text in found[client.peer_id]] == list(client.announced_addresses())

    other = content_key("another model")
    await stock.command(f"provide {other.hex()}")
    assert (await stock.event("provided"))["done"]
    ((peer_id, addresses),) = await client.find_providers(other, limit=5, timeout_s=20)
    assert peer_id == stock.peer_id
    assert set(addresses) == {split_peer_address(text)[0] for text in stock.addresses}
