"""Watches and pauses on whole nodes: what the hosts do is the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from tests.simulated.test_find_hosts import address_of, host_and_client, node, offer
from tests.support.simulated import simulated

from hostmesh import SDK, HostCriteria, HostJoined, HostLeft, LeaveReason
from hostmesh.testing import SimNetwork

M = HostCriteria(required_models=["m"])


@simulated(host_and_client)
async def test_a_host_that_drains_leaves_at_once(nodes: tuple[SDK, SDK]) -> None:
    host, client = nodes
    publisher, discovery = host.get_discovery_manager(), client.get_discovery_manager()
    await publisher.announce(offer())
    await discovery.connect_to_peer(address_of(host))
    async with discovery.watch_hosts(M) as hosts:
        joined = await anext(hosts)
        assert isinstance(joined, HostJoined)
        await trio.sleep(5)
        await publisher.drain()
        began = trio.current_time()
        left = await anext(hosts)
        assert isinstance(left, HostLeft)
        assert (left.choice.peer_id, left.reason) == (joined.choice.peer_id, LeaveReason.DRAINING)
        assert trio.current_time() - began < 0.1
        await publisher.announce(offer())
        assert isinstance(await anext(hosts), HostJoined)


@asynccontextmanager
async def three_machines(net: SimNetwork) -> AsyncIterator[tuple[SimNetwork, SDK]]:
    async with node(net.machine("client"), dht=False) as client:
        yield net, client


@simulated(three_machines)
async def test_a_host_that_is_cut_off_is_gone_within_three_minutes(world: tuple[SimNetwork, SDK]) -> None:
    net, client = world
    discovery = client.get_discovery_manager()
    async with node(net.machine("host"), dht=False) as host:
        await host.get_discovery_manager().announce(offer())
        await discovery.connect_to_peer(address_of(host))
        async with discovery.watch_hosts(M) as hosts:
            assert isinstance(await anext(hosts), HostJoined)
            net.partition([["host"], ["client"]])
            began = trio.current_time()
            with trio.fail_after(180):
                left = await anext(hosts)
            assert isinstance(left, HostLeft)
            assert left.reason in (LeaveReason.UNREACHABLE, LeaveReason.EXPIRED)
            assert trio.current_time() - began < 60  # the next search
