"""Whole nodes on simulated machines, and what happens to machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from hostmesh.errors import DialError, HostmeshError, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.sdk import SDK
from hostmesh.testing import Nat, SimMachine, SimNetwork, SimOptions, run_sim
from hostmesh.testing.clock import EPOCH_UNIX_S
from hostmesh.testing.wallets import make_wallet

SILENCE_S = 60.0
"""Longer than a node believes in a silent peer."""


class Node:
    """A node on a machine."""

    def __init__(self, machine: SimMachine, sdk: SDK, peer_id: PeerId) -> None:
        self.machine = machine
        self.sdk = sdk
        self.peer_id = peer_id
        self.address = f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}"

    async def ping(self, peer_id: PeerId) -> float:
        return await self.sdk.get_status_client().ping(peer_id)

    def connections(self) -> int:
        return self.sdk.get_usage().connections


@asynccontextmanager
async def node_on(machine: SimMachine, *bootstrap: str) -> AsyncIterator[Node]:
    async with machine.open_sdk(serve_dht=True) as sdk:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        discovery = sdk.get_discovery_manager()
        peer_id = await discovery.create_node(bootstrap=bootstrap)
        if bootstrap:
            await discovery.wait_ready()
        yield Node(machine, sdk, peer_id)


@asynccontextmanager
async def two_nodes(net: SimNetwork) -> AsyncIterator[tuple[Node, Node]]:
    async with node_on(net.machine("a")) as a, node_on(net.machine("b"), a.address) as b:
        yield a, b


def test_two_nodes_meet_and_a_ping_takes_the_round_trip() -> None:
    async def main(net: SimNetwork) -> None:
        async with two_nodes(net) as (a, b):
            await b.ping(a.peer_id)
            assert await b.ping(a.peer_id) == pytest.approx(0.04, abs=0.001)
            net.link("a", "b").latency_s = 0.15
            assert await a.ping(b.peer_id) == pytest.approx(0.3, abs=0.001)

    run_sim(main)


def test_a_killed_process_is_missed_at_once_and_its_machine_runs_another_with_the_same_key() -> None:
    async def main(net: SimNetwork) -> None:
        async with node_on(net.machine("a")) as a:
            machine = net.machine("b")
            reached_end = False
            async with node_on(machine, a.address) as first:
                net.agenda.at(trio.current_time() + 10, machine.kill)
                await trio.sleep(3600)
                reached_end = True
            assert not reached_end
            assert not machine.streams
            assert not machine.listeners
            await trio.sleep(1)
            assert a.connections() == 0
            with pytest.raises(DialError, match="refused"):
                await a.sdk.get_status_client().ping(first.peer_id)
            await machine.restart()
            async with node_on(machine, a.address) as second:
                assert second.peer_id == first.peer_id
                await second.ping(a.peer_id)

    run_sim(main)


def test_a_machine_without_power_is_silent_and_answers_old_connections_with_resets_once_it_is_back() -> None:
    async def main(net: SimNetwork) -> None:
        async with node_on(net.machine("a")) as a:
            machine = net.machine("b")
            async with node_on(machine, a.address):
                net.agenda.at(trio.current_time() + 10, machine.power_off)
                net.agenda.at(trio.current_time() + 12, machine.power_on)
                await trio.sleep_forever()
            assert not machine.is_on
            assert a.connections() == 1
            with pytest.raises(UsageError, match="off"):
                async with machine.process():
                    pass
            await machine.wait_ready()
            assert a.connections() == 1
            await trio.sleep(20)
            assert net.trace.counts["reset"] == 1
            assert a.connections() == 0

    run_sim(main)


def test_without_power_for_long_a_peer_gives_up_by_itself() -> None:
    async def main(net: SimNetwork) -> None:
        async with node_on(net.machine("a")) as a:
            machine = net.machine("b")
            async with node_on(machine, a.address):
                machine.power_off()
                await trio.sleep_forever()
            await trio.sleep(SILENCE_S)
            assert a.connections() == 0
            assert net.trace.counts["reset"] == net.trace.counts["end"] == 0

    run_sim(main)


def test_a_frozen_process_goes_on_where_it_was() -> None:
    async def main(net: SimNetwork) -> None:
        async with two_nodes(net) as (a, b):
            a.machine.freeze()
            net.agenda.at(trio.current_time() + 3, a.machine.resume)
            began = trio.current_time()
            await b.ping(a.peer_id)
            assert trio.current_time() - began > 3
            assert b.connections() == 1

    run_sim(main)


def test_peers_of_a_process_that_stays_frozen_give_up() -> None:
    async def main(net: SimNetwork) -> None:
        async with two_nodes(net) as (a, b):
            a.machine.freeze()
            await trio.sleep(SILENCE_S)
            assert b.connections() == 0
            a.machine.resume()
            await trio.sleep(SILENCE_S)
            assert a.connections() == b.connections() == 1

    run_sim(main)


def test_a_partition_parts_and_healing_joins() -> None:
    async def main(net: SimNetwork) -> None:
        async with two_nodes(net) as (a, b), node_on(net.machine("c"), a.address) as c:
            net.partition([["a", "c"], ["b"]])
            await trio.sleep(SILENCE_S)
            await a.ping(c.peer_id)
            with pytest.raises(HostmeshError):
                await b.ping(a.peer_id)
            net.heal()
            await trio.sleep(2 * SILENCE_S)
            await b.ping(a.peer_id)

    run_sim(main)


def test_a_machine_behind_a_nat_reaches_out_and_cannot_be_reached() -> None:
    async def main(net: SimNetwork) -> None:
        async with node_on(net.machine("a")) as a:
            async with node_on(net.machine("b", nat=Nat.NO_INBOUND), a.address) as b:
                await b.ping(a.peer_id)
                await a.ping(b.peer_id)
            await trio.sleep(1)
            assert a.connections() == 0
            with pytest.raises(DialError):
                await a.ping(b.peer_id)

    run_sim(main)


def test_a_machine_that_moves_is_found_at_its_new_address() -> None:
    async def main(net: SimNetwork) -> None:
        async with two_nodes(net) as (a, b):
            await b.ping(a.peer_id)
            b.machine.move("12.0.0.1")
            assert a.connections() == 1
            await trio.sleep(2 * SILENCE_S)
            # It dials its bootstrap peer again, from where it is now.
            await a.ping(b.peer_id)
            assert await net.machines["a"].network.resolve("b") == ("12.0.0.1",)
            with pytest.raises(UsageError):
                b.machine.move(a.machine.address)

    run_sim(main)


def test_clocks_skew_and_drift_and_can_be_set() -> None:
    async def main(net: SimNetwork) -> None:
        true, wrong = net.machine("true"), net.machine("wrong", clock_skew_s=-30.0, clock_drift=0.01)
        await trio.sleep(1000)
        assert true.system.unix_s() == EPOCH_UNIX_S + 1000
        assert wrong.system.unix_s() == pytest.approx(EPOCH_UNIX_S + 1010 - 30)
        assert wrong.system.monotonic_s() == pytest.approx(1010)
        wrong.clock.skew_s = 5.0
        assert wrong.system.unix_s() == pytest.approx(EPOCH_UNIX_S + 1015)

    run_sim(main)


def test_names_and_processes_are_one_each() -> None:
    async def main(net: SimNetwork) -> None:
        machine = net.machine("a")
        for wrong in ("a", "", "b c", "b/../c", "ä"):
            with pytest.raises(UsageError):
                net.machine(wrong)
        async with machine.process():
            with pytest.raises(UsageError, match="runs a process"):
                async with machine.process():
                    pass

    run_sim(main)


def test_the_disk_goes_with_the_simulation() -> None:
    async def main(net: SimNetwork) -> SimMachine:
        async with node_on(net.machine("a")):
            assert [*net.machines["a"].folder.iterdir()]
        return net.machines["a"]

    machine = run_sim(main).result
    assert not machine.net.has_disks


def test_an_sdk_that_is_cancelled_while_it_opens_is_gone_at_whatever_step() -> None:
    async def main(net: SimNetwork) -> None:
        machine = net.machine("a")
        for passes in range(8):
            async with trio.open_nursery() as nursery:

                async def start() -> None:
                    async with machine.open_sdk():
                        await trio.sleep_forever()

                nursery.start_soon(start)
                for _ in range(passes):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await machine.wait_ready()

    run_sim(main, network=SimOptions(max_sim_s=60))
