"""py-libp2p's smaller services between hosts on nodes and stock hosts."""

from __future__ import annotations

import pytest
import trio
from libp2p.bitswap.client import BitswapClient
from libp2p.bitswap.dag import MerkleDag
from libp2p.discovery.bootstrap.bootstrap import BootstrapDiscovery
from libp2p.discovery.rendezvous import RendezvousClient, RendezvousService
from libp2p.perf import PerfService
from libp2p.relay.circuit_v2.discovery import RelayDiscovery
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP_ID
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.request_response.api import RequestResponse
from libp2p.request_response.codec import JSONCodec
from libp2p.tools.anyio_service import background_trio_service
from tests.integration.libp2p_host.conftest import info_of, protocols_known, stock_host, until

from hostmesh.net.libp2p_host import open_libp2p_host


@pytest.fixture(params=["node to node", "node to stock", "stock to node"])
async def pair(start_node, request):
    """Yield a client and a server, not connected."""
    client, _, server = request.param.split()
    async with (
        stock_host() if client == "stock" else open_libp2p_host(await start_node()) as one,
        stock_host() if server == "stock" else open_libp2p_host(await start_node()) as other,
    ):
        with trio.fail_after(10):
            yield one, other


async def test_a_request_is_answered(pair):
    client, server = pair

    async def answer(request, context):
        return {"asked": request, "by": str(context.peer_id)}

    RequestResponse(server).set_handler("/test/ask/1", answer, JSONCodec())
    await client.connect(info_of(server))
    reply = await RequestResponse(client).send_request(server.get_id(), ["/test/ask/1"], {"a": 1}, JSONCodec())
    assert reply == {"asked": {"a": 1}, "by": str(client.get_id())}


async def test_bitswap_fetches_a_file(pair):
    client, server = pair
    data = bytes(range(256)) * 2048
    async with trio.open_nursery() as nursery:
        bitswaps = [BitswapClient(host) for host in (client, server)]
        for bitswap in bitswaps:
            bitswap.set_nursery(nursery)
            await bitswap.start()
        getter, holder = map(MerkleDag, bitswaps)
        await client.connect(info_of(server))
        content = await holder.add_bytes(data)
        fetched, _ = await getter.fetch_file(content, peer_id=server.get_id())
        assert fetched == data
        for bitswap in bitswaps:
            await bitswap.stop()
        nursery.cancel_scope.cancel()


async def test_perf_moves_its_bytes(pair):
    services = [PerfService(host) for host in pair]
    for service in services:
        await service.start()
    client, server = pair
    await client.connect(info_of(server))
    *_, final = [each async for each in services[0].measure_performance(server.get_addrs()[0], 1 << 18, 1 << 19)]
    assert (final["type"], final["upload_bytes"], final["download_bytes"]) == ("final", 1 << 18, 1 << 19)
    for service in services:
        await service.stop()


async def test_rendezvous_tells_who_registered(pair):
    client, server = pair
    RendezvousService(server)
    await client.connect(info_of(server))
    rendezvous = RendezvousClient(client, server.get_id())
    await rendezvous.register("models", 7200)
    (found,), _ = await rendezvous.discover("models")
    assert found.peer_id == client.get_id()


async def test_bootstrap_connects(pair):
    client, server = pair
    bootstrap = BootstrapDiscovery(client.get_network(), [str(server.get_addrs()[0])])
    await bootstrap.start()
    assert client.get_connected_peers() == [server.get_id()]
    bootstrap.stop()


async def test_a_relay_is_discovered_and_gives_a_reservation(pair):
    client, server = pair
    relay = CircuitV2Protocol(server, allow_hop=True)
    async with background_trio_service(relay):
        await relay.event_started.wait()
        await client.connect(info_of(server))
        # It asks the peer store once, and takes a peer that has not said what it speaks yet for no relay.
        await until(lambda: HOP_ID in protocols_known(client, server.get_id()))
        discovery = RelayDiscovery(client, auto_reserve=True)
        async with background_trio_service(discovery):
            await until(discovery.get_relays)
            assert discovery.get_relays() == [server.get_id()]
            await until(lambda: discovery.get_relay_info(server.get_id()).has_reservation)
