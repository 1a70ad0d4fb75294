"""Peers that are slow for ever, among unmodified nodes: they cost their own time, and a bounded memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
from tests.simulated.adversary_world import LATENCY_S, MODEL, OPTIONS, WANTED, World, world_on
from tests.support.simulated import simulated

from hostmesh import ConnectionLostError, HostCriteria, HostmeshError, NoHostFoundError
from hostmesh.discovery.calls import fetch_record
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.sweep import SweepConfig
from hostmesh.net.listening import HANDSHAKE_TIMEOUT_S, MAX_HANDSHAKES
from hostmesh.testing import EventKind, LinkProfile, NetworkEvent, SimNetwork, SimOptions, make_description, run_sim
from hostmesh.testing.adversary_host import HostLies, run_lying_host
from hostmesh.testing.adversary_node import open_adversary_node
from hostmesh.testing.adversary_slow import SlowKind, Slowness, SlowPeer, run_slow_peer

SLOW_PEERS = 20


async def slow_peers_of(world: World, held: AsyncExitStack, slowness: Slowness, count: int) -> list[SlowPeer]:
    """Start so many slow peers, all of which say they are hosts of the model."""
    peers = []
    for number in range(count):
        machine = world.net.machine(f"slow{number}")
        peers.append(await held.enter_async_context(run_slow_peer(machine, slowness, bootstrap=world.bootstrap)))
    return peers


def open_streams(net: SimNetwork, name: str) -> int:
    """Return the ends of connections on a machine."""
    return len(net.machines[name].streams)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", SlowKind)
def test_the_honest_host_is_found_among_many_that_are_slow_for_ever(kind: SlowKind, seed: int) -> None:
    """By a client that may hold ten connections: twice as many peers would hold one each for ever."""

    async def main(net: SimNetwork) -> None:
        async with world_on(net) as world:
            await find_among_slow(world, kind)

    run_sim(main, seed=seed, network=OPTIONS)


async def find_among_slow(world: World, kind: SlowKind) -> None:
    async with AsyncExitStack() as held:
        peers = await slow_peers_of(world, held, Slowness(kind=kind), SLOW_PEERS)
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 8.0
        assert sum(peer.most_held for peer in peers) > 0  # they were asked
        # Nothing is left of what the search began with them.
        await trio.sleep(SweepConfig().fetch_timeout_s + 1)
        usage = world.client.get_usage()
        assert usage.outbound_streams.get("/hostmesh/discovery/1.0.0", 0) == 0
        assert usage.connections <= 10
        assert open_streams(world.net, "client") <= 10


@pytest.mark.parametrize("kind", SlowKind)
@simulated(world_on, network=OPTIONS)
async def test_where_all_are_slow_the_search_ends_in_its_time_and_says_what_it_met(
    world: World, kind: SlowKind
) -> None:
    async with AsyncExitStack() as held:
        await slow_peers_of(world, held, Slowness(kind=kind), 8)
        await world.start_client()
        began_s = trio.current_time()
        with pytest.raises(NoHostFoundError) as refused:
            await world.discovery.find_host(
                HostCriteria(required_models=[MODEL], exclude=[world.honest]), timeout_s=10.0
            )
        assert trio.current_time() - began_s <= 10.1
        # Who has not said what it is was not seen as a host; the counts say how asking it ended.
        assert (refused.value.seen, refused.value.rejected) == (1, {"listed": 1})
        fetches = world.discovery.stats().fetches
        assert sum(fetches.get(code, 0) for code in ("DEADLINE_EXCEEDED", "DIAL_FAILED", "gave_way")) >= 8


async def liars_on(world: World, held: AsyncExitStack, lies: HostLies, count: int) -> None:
    """Start so many hosts that lie, and that ranking would take before the honest one."""
    cheap = make_description(MODEL, price_micros_per_mtok=1)
    for number in range(count):
        machine = world.net.machine(f"liar{number}")
        await held.enter_async_context(run_lying_host(machine, lies, description=cheap, bootstrap=world.bootstrap))


@simulated(world_on, network=OPTIONS, seed=1)
async def test_hosts_that_never_answer_a_probe_do_not_use_up_the_connections(world: World) -> None:
    async with AsyncExitStack() as held:
        await liars_on(world, held, HostLies(ping_delay_s=1e6), SLOW_PEERS)
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 8.0


@simulated(partial(world_on, max_connections=100), network=OPTIONS)
async def test_hosts_that_look_better_and_never_answer_do_not_use_up_the_probes(world: World) -> None:
    """There are more of them than hosts may answer in one search."""
    async with AsyncExitStack() as held:
        await liars_on(world, held, HostLies(ping_delay_s=1e6), ProbeConfig().max_probes + 8)
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert choice.latency is not None
        assert took_s < 10.0


@simulated(world_on, network=OPTIONS)
async def test_who_has_not_answered_is_never_chosen_however_short_the_time(world: World) -> None:
    async with AsyncExitStack() as held:
        await liars_on(world, held, HostLies(ping_delay_s=1e6), 12)
        await world.start_client()
        criteria = HostCriteria(required_models=[MODEL], exclude=[world.honest])
        for timeout_s in (0.7, 1.0, 3.0):
            with pytest.raises(NoHostFoundError) as refused:
                await world.discovery.find_host(criteria, timeout_s=timeout_s)
            rejected = refused.value.rejected
            assert sum(rejected.values()) == refused.value.seen
            assert rejected.get("asked", 0) + rejected["reachable"] == refused.value.seen - rejected.get("listed", 0)


@simulated(world_on, network=SimOptions(link=LinkProfile(latency_s=0.1)))
async def test_hosts_that_are_far_away_are_measured_all_the_same(world: World) -> None:
    """A probe takes them longer than the time after which one gives way to others."""
    async with AsyncExitStack() as held:
        await liars_on(world, held, HostLies(), 12)
        await world.start_client()
        choices = await world.discovery.find_all_hosts(HostCriteria(required_models=[MODEL]), timeout_s=30.0)
        assert len(choices) == 13
        for choice in choices:
            assert choice.latency is not None
            assert choice.latency.value == pytest.approx(200.0, rel=0.01)


@simulated(world_on, network=OPTIONS)
async def test_an_answer_that_is_slow_but_not_for_ever_is_taken(world: World) -> None:
    """So what stops the others is their time and nothing else."""
    async with AsyncExitStack() as held:
        slowness = Slowness(kind=SlowKind.ANSWER, byte_every_s=0.001)
        (peer,) = await slow_peers_of(world, held, slowness, 1)
        await world.start_client()
        criteria = HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id], accept_unmeasured=True)
        choice, took_s = await world.find_timed(criteria)
        assert choice.peer_id == peer.adversary.peer_id
        assert 0.3 < took_s < 5.0


@simulated(world_on, network=OPTIONS)
async def test_handshakes_that_never_end_are_cut_and_keep_nobody_out(world: World) -> None:
    slow, other = world.net.machine("slow"), world.net.machine("other")
    async with (
        run_slow_peer(slow, Slowness(kind=SlowKind.HANDSHAKE)) as peer,
        open_adversary_node(other) as newcomer,
    ):
        await world.start_client()
        host = world.net.machines["host"]
        before = open_streams(world.net, "host")
        most = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.dial, host.address, 4001, 2 * MAX_HANDSHAKES)
            for _ in range(4):
                await trio.sleep(2)
                most = max(most, open_streams(world.net, "host") - before)
            # A newcomer is let in at once meanwhile.
            began_s = trio.current_time()
            await newcomer.node.connect(world.honest, [world.address_of("host")])
            assert await fetch_record(newcomer.rpc, world.honest, timeout_s=5.0)
            assert trio.current_time() - began_s < 1.0
            assert (await world.find_timed(WANTED))[0].peer_id == world.honest
            await trio.sleep(HANDSHAKE_TIMEOUT_S)
            nursery.cancel_scope.cancel()
        assert 0 < most <= MAX_HANDSHAKES + 1
        assert peer.most_held >= MAX_HANDSHAKES
        assert peer.held == 0
        assert host.streams.keys() == {stream for stream in host.streams if stream.peer.machine is not slow}


@simulated(network=OPTIONS)
async def test_a_slow_peer_that_is_killed_is_an_error_and_no_hang(net: SimNetwork) -> None:
    slow = net.machine("slow")

    async def be_slow(*, task_status: trio.TaskStatus[SlowPeer]) -> None:
        async with run_slow_peer(slow, Slowness(kind=SlowKind.STREAMS)) as peer:
            task_status.started(peer)
            await trio.sleep_forever()
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery, open_adversary_node(net.machine("asker")) as asker:
        peer = await nursery.start(be_slow)
        await asker.node.connect(peer.adversary.peer_id, [peer.adversary.address])
        net.faults.schedule([NetworkEvent(kind=EventKind.KILL, machines=("slow",), at_s=5.0)])
        with pytest.raises(ConnectionLostError):
            await fetch_record(asker.rpc, peer.adversary.peer_id, timeout_s=1e6)
        assert trio.current_time() == pytest.approx(5.0, abs=2 * LATENCY_S)
        # Its block ended there, and the machine runs another.
        await ended.wait()
        assert peer.held == 0
        await slow.restart()
        async with run_slow_peer(slow, Slowness(kind=SlowKind.ACCEPTS)):
            with pytest.raises(HostmeshError):
                await fetch_record(asker.rpc, peer.adversary.peer_id, timeout_s=3.0)
