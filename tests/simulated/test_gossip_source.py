"""Hosts that are heard of in gossip, on nodes that speak nothing else."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
from tests.simulated.gossiping import Member, connect, start_member
from tests.simulated.nodes import nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh import HostCriteria, RpcClient
from hostmesh.discovery.description import HostState
from hostmesh.discovery.source import Source
from hostmesh.net.node import Node
from hostmesh.node_stack import default_sources
from hostmesh.testing import FakeEngine, SimNetwork, make_description, make_wallet
from hostmesh.testing.machine import NETWORK_NAME

AT_ONCE_S = 2.0
"""A few round trips of the simulated network, and two heartbeats."""


@simulated()
async def test_hosts_are_heard_of_across_relays_and_found(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middle = await start_member(nodes)
        host, other_host, client = [await start_member(nodes, middle) for _ in range(3)]
        host.publish()
        other_host.publish()
        expected = {host.peer_id, other_host.peer_id}
        await eventually(lambda: client.hosts() == expected, within_s=AT_ONCE_S)
        assert client.node.connected_peers() == (middle.peer_id,)
        found = await client.find("llama")
        assert {candidate.peer_id for candidate in found} == expected
        assert {candidate.named_by for candidate in found} == {middle.peer_id}
        assert await client.find("another model") == []


@simulated()
async def test_a_newcomer_is_told_what_was_published_before_it_came(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middle = await start_member(nodes)
        host = await start_member(nodes, middle)
        host.publish()
        await eventually(lambda: middle.hosts() == {host.peer_id}, within_s=AT_ONCE_S)
        await trio.sleep(50)  # most of the time until the host would say so again
        client = await start_member(nodes, middle)
        await eventually(lambda: client.hosts() == {host.peer_id}, within_s=AT_ONCE_S)


@simulated()
async def test_a_tombstone_takes_a_host_out_at_once(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middle = await start_member(nodes)
        host, client = await start_member(nodes, middle), await start_member(nodes, middle)
        host.publish()
        await eventually(lambda: client.hosts() == {host.peer_id}, within_s=AT_ONCE_S)
        host.publish(state=HostState.WITHDRAWN)
        await host.source.advertise(None)
        await eventually(lambda: client.hosts() == set(), within_s=AT_ONCE_S)
        assert await client.find("llama") == []
        assert client.source.statistics.tombstones == 1


@simulated()
async def test_two_halves_that_merge_hear_of_each_other_s_hosts_at_once(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        halves = []
        for _ in range(2):
            middle = await start_member(nodes)
            halves.append([middle, *[await start_member(nodes, middle) for _ in range(3)]])
        (first, *_), (second, *_) = halves
        for half in halves:
            for host in half[1:]:
                host.publish()
            mine = {host.peer_id for host in half[1:]}
            await eventually(lambda half=half, mine=mine: all(mine - {m.peer_id} <= m.hosts() for m in half))
        everybody = {host.peer_id for half in halves for host in half[1:]}
        await connect(first, second)
        members = [*halves[0], *halves[1]]
        await eventually(lambda: all(everybody - {m.peer_id} <= m.hosts() for m in members), within_s=AT_ONCE_S)


@simulated()
async def test_after_a_partition_everybody_knows_all_hosts_that_are_left(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middles = [await start_member(nodes)]
        middles.append(await start_member(nodes, middles[0]))
        hosts = [await start_member(nodes, middle) for middle in middles]
        members = [*middles, *hosts]

        async def renew() -> None:
            while True:
                for host in hosts:
                    host.publish()
                await trio.sleep(60)

        def knows(member: Member, some: list[Member]) -> bool:
            return member.hosts() >= {host.peer_id for host in some if host is not member}

        nodes.nursery.start_soon(renew)
        await eventually(lambda: all(knows(member, hosts) for member in members), within_s=AT_ONCE_S)
        net.partition([[middles[0].machine, hosts[0].machine], [middles[1].machine, hosts[1].machine]])
        await trio.sleep(300)
        assert not any(knows(member, hosts[1:]) for member in (middles[0], hosts[0]))
        net.heal()
        await connect(middles[0], middles[1])
        await eventually(lambda: all(knows(member, hosts) for member in members), within_s=AT_ONCE_S)


@simulated()
async def test_gossip_ends_with_its_node_and_begins_again(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middle = await start_member(nodes)
        host, client = await start_member(nodes, middle), await start_member(nodes, middle)
        host.publish()
        await eventually(lambda: client.hosts() == {host.peer_id}, within_s=AT_ONCE_S)
        middle.scope.cancel()
        await eventually(lambda: not host.source.statistics.members, within_s=AT_ONCE_S)
        usage = middle.node.usage()
        assert not [name for name in (*usage.outbound_streams, *usage.inbound_streams) if "meshsub" in name]
        assert len(middle.node.connected_peers()) == 2
        host.publish()
        assert middle.source.statistics.members == 0
        middle.scope = trio.CancelScope()
        await nodes.nursery.start(middle.run)
        await eventually(lambda: client.records.known(host.peer_id).info.sequence == 2, within_s=30.0)


@simulated()
async def test_a_network_s_gossip_is_not_another_s(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        middle = await start_member(nodes)
        host, stranger = await start_member(nodes, middle), await start_member(nodes, middle, topic="/other/records")
        host.publish()
        await eventually(lambda: middle.hosts() == {host.peer_id}, within_s=AT_ONCE_S)
        await trio.sleep(60)
        assert stranger.hosts() == set()
        assert middle.source.statistics.members == 1


@simulated()
async def test_a_client_finds_hosts_by_gossip_alone_and_forgets_one_that_leaves(net: SimNetwork) -> None:
    """Whole nodes with the shipped wiring: two hosts, a client, and between them a node that serves nobody's jobs."""

    def gossip_alone(node: Node, rpc: RpcClient) -> tuple[Source, ...]:
        made = default_sources(
            node,
            rpc,
            network=NETWORK_NAME,
            records=client._records,
            system=machines[-1].system,
            enable_mdns=False,
            mdns_interfaces=(),
            gossip_prefix="/hostmesh",
        )
        return tuple(source for source in made if source.name == "gossip")

    machines = [net.machine(name) for name in ("middle", "one", "two", "client")]
    settings = {"ephemeral_key": True, "enable_dht": False}
    async with AsyncExitStack() as stack:
        *others, client = [
            await stack.enter_async_context(
                machine.open_sdk(
                    **settings,
                    enable_gossip=machine is not machines[-1],
                    sources=gossip_alone if machine is machines[-1] else None,
                )
            )
            for machine in machines
        ]
        bootstrap: list[str] = []
        peer_ids = []
        for machine, sdk in zip(machines, (*others, client), strict=True):
            await sdk.authenticate(wallet=make_wallet(machine.name))
            peer_ids.append(await sdk.get_discovery_manager().create_node(bootstrap=bootstrap))
            bootstrap = [f"/ip4/{machines[0].address}/tcp/4001/p2p/{peer_ids[0]}"]
        serving = [
            await stack.enter_async_context(
                sdk.get_host_manager().serve(make_description("fake-chat"), FakeEngine(["fake-chat"]))
            )
            for sdk in others[1:]
        ]
        assert len(serving) == 2
        manager = client.get_discovery_manager()
        criteria = HostCriteria(required_models=["fake-chat"])
        found = await manager.find_all_hosts(criteria)
        assert {choice.peer_id for choice in found} == set(peer_ids[1:3])
        assert {choice.sources for choice in found} == {("gossip",)}
        # Nobody else tells the client: it has no connection to the host that goes.
        await client._running().node.disconnect(peer_ids[1])
        await others[1].get_discovery_manager().stop()
        await eventually(lambda: client._records.known(peer_ids[1]) is None, within_s=AT_ONCE_S)
        assert [choice.peer_id for choice in await manager.find_all_hosts(criteria)] == [peer_ids[2]]


@simulated()
async def test_in_a_larger_mesh_everybody_hears_of_every_host_and_of_every_change(net: SimNetwork) -> None:
    """Each is connected to the first and to the one before it: the first has more neighbours than a mesh takes."""
    async with nodes_on(net) as nodes:
        members: list[Member] = []
        for _ in range(16):
            near = dict.fromkeys((*members[:1], *members[-1:]))
            members.append(await start_member(nodes, *near))
        hosts = members[::3]
        for round_number in (1, 2):
            for host in hosts:
                host.publish()

            def is_told(member: Member, round_number: int = round_number) -> bool:
                known = [member.records.known(host.peer_id) for host in hosts if host is not member]
                return all(each is not None and each.info.sequence == round_number for each in known)

            await eventually(lambda is_told=is_told: all(map(is_told, members)), within_s=5.0)
            await trio.sleep(5)
        assert sum(member.source.statistics.gossip.rejected for member in members) == 0
        assert sum(member.source.statistics.gossip.dropped for member in members) == 0
