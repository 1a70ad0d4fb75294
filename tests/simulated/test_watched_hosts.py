"""A watch keeps the connections to its hosts, whole nodes, through the public SDK."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
from tests.simulated.test_find_hosts import address_of, node, offer
from tests.support.simulated import simulated

from hostmesh import HostCriteria, HostJoined, HostLeft
from hostmesh.discovery.roster import LeaveReason
from hostmesh.net.connection import FAREWELL_S
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.pool import IDLE_S, KEPT_IDLE
from hostmesh.testing import SimNetwork

UNUSED_S = IDLE_S + 3 * TICK_S + FAREWELL_S
"""Idle connections that are too many are gone after that."""


@simulated()
async def test_each_watched_host_tells_at_once_that_it_drains_and_is_let_go_with_the_watch(net: SimNetwork) -> None:
    """More hosts than a node keeps idle connections, and no search for ten minutes."""
    async with AsyncExitStack() as stack:
        bootstrap = await stack.enter_async_context(node(net.machine("bootstrap"), serve_dht=True))
        hosts = {}
        for number in range(KEPT_IDLE + 3):
            host = await stack.enter_async_context(node(net.machine(f"host{number}"), address_of(bootstrap)))
            await host.get_discovery_manager().wait_ready(timeout_s=10)
            info = await host.get_discovery_manager().announce(offer())
            hosts[info.peer_id] = host.get_discovery_manager()
        client = await stack.enter_async_context(node(net.machine("client"), address_of(bootstrap)))
        discovery = client.get_discovery_manager()
        await discovery.wait_ready(timeout_s=10)
        async with discovery.watch_hosts(HostCriteria(required_models=["m"]), interval_s=600) as watch:
            joined = set()
            with trio.fail_after(30):
                while len(joined) < len(hosts):
                    event = await anext(watch)
                    if isinstance(event, HostJoined):
                        joined.add(event.choice.peer_id)
            await trio.sleep(UNUSED_S)
            for peer_id, host in hosts.items():
                with trio.fail_after(1):
                    await host.drain()
                    while not isinstance(event := await anext(watch), HostLeft):
                        pass
                assert (event.choice.peer_id, event.reason) == (peer_id, LeaveReason.DRAINING)
                if len(watch.choices) == KEPT_IDLE + 1:
                    break
            await trio.sleep(UNUSED_S)
            assert hosts.keys() <= set(discovery.get_connected_peers()), "two that left are no more than 16"
        await trio.sleep(UNUSED_S)
        assert len(hosts.keys() & set(discovery.get_connected_peers())) == KEPT_IDLE
