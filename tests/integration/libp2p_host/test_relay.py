"""py-libp2p's circuit relay v2 on nodes and on stock hosts: reserving, dialling through a relay, and being one."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import IOException
from libp2p.io.utils import read_exactly
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP_ID
from libp2p.relay.circuit_v2.protocol import STOP_PROTOCOL_ID as STOP_ID
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
from tests.integration.libp2p_host.conftest import disconnect_all, info_of, protocols_known, stock_host, until

from hostmesh.errors import DialError
from hostmesh.net.libp2p_host import open_libp2p_host

ECHO = "/test/echo/1"
LIMITS = RelayLimits(duration=60, data=1 << 24, max_circuit_conns=4, max_reservations=4)


async def echo(stream):
    try:
        while True:
            await stream.write(await stream.read(1000))
    except StreamEOF:
        await stream.close()


@asynccontextmanager
async def circuits_on(host, *, is_relay=False):
    """Run the relay protocol on a host, and yield the transport that dials through relays."""
    protocol = CircuitV2Protocol(host, LIMITS, allow_hop=is_relay)
    transport = CircuitV2Transport(host, protocol, RelayConfig(roles=RelayRole.STOP | RelayRole.CLIENT, limits=LIMITS))
    async with background_trio_service(protocol):
        await protocol.event_started.wait()
        yield transport


def circuit_to(host, relay):
    return Multiaddr(f"{relay.get_addrs()[0]}/p2p-circuit/p2p/{host.get_id()}")


@asynccontextmanager
async def three(start_node, *kinds):
    """Yield the transports of a source, a relay and a destination; the destination has a reservation at the relay."""
    async with AsyncExitStack() as stack:
        transports = []
        for place, kind in enumerate(kinds):
            host = await stack.enter_async_context(
                open_libp2p_host(await start_node()) if kind == "node" else stock_host()
            )
            transports.append(await stack.enter_async_context(circuits_on(host, is_relay=place == 1)))
        source, relay, destination = transports
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        await destination.host.connect(info_of(relay.host))
        stream = await destination.host.new_stream(relay.host.get_id(), [HOP_ID])
        assert await destination.reserve(stream, relay.host.get_id(), nursery)
        with trio.fail_after(20):
            yield source, relay, destination


@pytest.mark.parametrize(
    "kinds",
    [
        ("node", "stock", "node"),
        ("node", "stock", "stock"),
        ("stock", "stock", "node"),
        ("stock", "node", "stock"),
        ("node", "node", "node"),
    ],
    ids="-".join,
)
async def test_a_peer_is_dialled_through_a_relay(start_node, kinds):
    async with three(start_node, *kinds) as (source, relay, destination):
        destination.host.set_stream_handler(ECHO, echo)
        target = destination.host.get_id()
        connection = await source.dial(circuit_to(destination.host, relay.host))
        assert connection.muxed_conn.peer_id == target
        assert target in source.host.get_connected_peers()
        stream = await source.host.new_stream(target, [ECHO])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(100_000))
            assert await read_exactly(stream, 100_000, retry_count=100_000) == bytes(100_000)
        await stream.close()


async def test_both_ends_know_that_a_relay_is_between_them_and_tell_who_they_are(start_node):
    async with three(start_node, "node", "stock", "node") as (source, relay, destination):
        await source.dial(circuit_to(destination.host, relay.host))
        for one, other in ((source.host, destination.host), (destination.host, source.host)):
            connection = one.get_network().get_connection(other.get_id())
            assert connection.get_connection_type() is ConnectionType.RELAYED
            (address,) = connection.get_transport_addresses()
            assert "/p2p-circuit/" in str(address)
            await until(lambda one=one, other=other: STOP_ID in protocols_known(one, other.get_id()))
            direct = one.get_network().get_connection(relay.host.get_id())
            assert direct.get_connection_type() is ConnectionType.DIRECT


async def test_who_has_no_reservation_is_not_reached(start_node, stock):
    async with three(start_node, "node", "stock", "node") as (source, relay, _):
        with pytest.raises(ConnectionError):
            await source.dial(circuit_to(stock, relay.host))
        assert source.host.get_connected_peers() == [relay.host.get_id()]


async def test_who_is_somebody_else_at_the_other_end_of_a_circuit_is_refused(start_node, stock):
    async with three(start_node, "node", "stock", "node") as (source, relay, destination):
        raw = await source.dial_peer_info(info_of(destination.host), relay_info=info_of(relay.host))
        with pytest.raises(SwarmException) as caught:
            await source.host.upgrade_outbound_connection(raw, stock.get_id())
        assert isinstance(caught.value.__cause__, DialError)
        assert source.host.get_connected_peers() == [relay.host.get_id()]
        with pytest.raises(IOException):
            await raw.write(b"x")


async def test_a_relay_that_goes_takes_its_circuits_along(start_node):
    async with three(start_node, "node", "stock", "node") as (source, relay, destination):
        destination.host.set_stream_handler(ECHO, echo)
        await source.dial(circuit_to(destination.host, relay.host))
        stream = await source.host.new_stream(destination.host.get_id(), [ECHO])
        await disconnect_all(relay.host)
        with pytest.raises(StreamReset):
            await stream.read(1)
        for end in (source, destination):
            await until(lambda end=end: not end.host.get_connected_peers())


async def test_leaving_ends_circuits_and_no_other_connection(start_node):
    async with three(start_node, "node", "stock", "node") as (source, relay, destination):
        await source.dial(circuit_to(destination.host, relay.host))
        await source.host.close()
        await until(lambda: source.host.get_connected_peers() == [relay.host.get_id()])
