"""How long discovery takes to recover from what happens to a network; times are the simulation's.

Which hosts there are is known to the test, never to the code under test. What must be killed as a process is in
tests/integration/recovery.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio
from tests.simulated.members import WANTED, Member, Mesh, mesh_on, took_s
from tests.support.simulated import simulated

from hostmesh import PeerId

GONE_S = 180.0
"""What the issue allows a dead host to stay in results."""
PARTITION_S = 60.0


# --- hosts that die ---


@simulated(mesh_on)
async def test_a_killed_host_is_never_chosen_and_leaves_what_anybody_knows_within_180_s(mesh: Mesh) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    doomed, other = [await mesh.start(f"host-{n}", bootstrap.address, is_host=True) for n in range(2)]
    client = await mesh.start("client", bootstrap.address)
    await took_s(partial(_sees, client, {doomed.peer_id, other.peer_id}), within_s=30)
    doomed.machine.kill()
    killed_s = trio.current_time()
    while trio.current_time() - killed_s < GONE_S:
        began_s = trio.current_time()
        choice = await client.find()
        assert choice is not None
        assert choice.peer_id == other.peer_id
        assert trio.current_time() - began_s <= 3.0, "it does not wait for the dead one"
        await trio.sleep(20)
    for each in (client, await mesh.start("newcomer", bootstrap.address)):
        explained = await each.manager.explain(WANTED)
        assert [choice.peer_id for choice in explained.choices] == [other.peer_id]
        assert explained.funnel.seen == 1, "nobody tells of it any more"


@simulated(mesh_on)
async def test_a_dead_host_leaves_warm_finds_before_its_record_expires(mesh: Mesh) -> None:
    """After two probes without an answer, a warm find is as quick as if the host had never been."""
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    doomed, other = [await mesh.start(f"host-{n}", bootstrap.address, is_host=True) for n in range(2)]
    client = await mesh.start("client", bootstrap.address)
    await took_s(partial(_sees, client, {doomed.peer_id, other.peer_id}), within_s=30)
    doomed.machine.power_off()  # without a word: a probe takes its whole time
    await trio.sleep(31)  # no measurement is used again
    times = []
    for _ in range(3):
        began_s = trio.current_time()
        assert await client.find_all() == {other.peer_id}
        times.append(trio.current_time() - began_s)
        if len(times) < 3:
            await trio.sleep(1)
    assert times[0] > 2.0, "it was waited for"
    assert times[2] < 1.0, "no more"
    explained = await client.manager.explain(WANTED)
    assert explained.funnel.rejected == {"reachable": 1}
    assert "times in a row" in explained.funnel.rejections[0].detail


@simulated(mesh_on)
async def test_a_host_that_was_left_alone_is_found_within_a_minute_of_its_return(mesh: Mesh) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    frozen, other = [await mesh.start(f"host-{n}", bootstrap.address, is_host=True) for n in range(2)]
    client = await mesh.start("client", bootstrap.address)
    both = {frozen.peer_id, other.peer_id}
    await took_s(partial(_sees, client, both), within_s=30)
    frozen.machine.freeze()
    await trio.sleep(31)
    for _ in range(3):
        assert await client.find_all() == {other.peer_id}
    choice = await client.find()
    assert choice is not None
    assert choice.peer_id == other.peer_id
    frozen.machine.resume()
    await took_s(partial(_sees, client, both), within_s=60)


@simulated(mesh_on)
async def test_a_draining_host_is_gone_at_once_from_connected_clients_and_at_the_probe_from_others(mesh: Mesh) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    leaving, other = [await mesh.start(f"host-{n}", bootstrap.address, is_host=True) for n in range(2)]
    near, far = [await mesh.start(f"client-{n}", bootstrap.address) for n in range(2)]
    both = {leaving.peer_id, other.peer_id}
    for client in (near, far):
        await took_s(partial(_sees, client, both), within_s=30)
    await far.manager.disconnect_peer(leaving.peer_id)
    await leaving.manager.drain()
    await trio.sleep(0.2)
    for client in (near, far):
        assert await client.find_all() == {other.peer_id}


# --- bootstrap nodes ---


@simulated(mesh_on)
async def test_a_bootstrap_node_that_comes_up_a_minute_late_brings_client_and_host_together(mesh: Mesh) -> None:
    machine = mesh.net.machine("bootstrap")
    first = await mesh.start(machine, serve_dht=True)
    address = first.address
    await machine.restart()
    host = await mesh.start("host", address, is_host=True)
    client = await mesh.start("client", address)
    assert await client.find() is None
    await trio.sleep(60)
    await mesh.start(machine, serve_dht=True)
    assert await took_s(partial(_sees, client, {host.peer_id}), within_s=60) <= 60


@simulated(mesh_on)
async def test_with_every_bootstrap_node_gone_for_good_a_restarted_client_and_a_restarted_host_find_each_other(
    mesh: Mesh,
) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    hosts = [await mesh.start(f"host-{n}", bootstrap.address, is_host=True) for n in range(4)]
    client = await mesh.start("client", bootstrap.address)
    everybody = {host.peer_id for host in hosts}
    await took_s(partial(_sees, client, everybody), within_s=30)
    await trio.sleep(70)  # what was learnt is on disk
    bootstrap.machine.power_off()
    await client.machine.restart()
    again = await mesh.start(client.machine, bootstrap.address)
    assert again.peer_id == client.peer_id
    await again.manager.wait_ready(timeout_s=15)
    assert await took_s(again.find, within_s=15) <= 15
    await took_s(partial(_sees, again, everybody), within_s=60)
    # A host as well: it comes back, and is found.
    await hosts[0].machine.restart()
    back = await mesh.start(hosts[0].machine, bootstrap.address, is_host=True)
    await back.manager.wait_ready(timeout_s=15)
    await took_s(partial(_sees, again, everybody), within_s=120)
    # And a client that nobody knows finds it through one static host.
    newcomer = await mesh.start("newcomer", static_hosts=(hosts[1].address,))
    await took_s(partial(_sees, newcomer, everybody), within_s=60)


@simulated(mesh_on)
async def test_what_was_learnt_survives_a_kill(mesh: Mesh) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    host = await mesh.start("host", bootstrap.address, is_host=True)
    client = await mesh.start("client", bootstrap.address)
    await took_s(client.find, within_s=30)
    await trio.sleep(10)
    bootstrap.machine.power_off()
    client.machine.kill()
    await client.machine.wait_ready()
    again = await mesh.start(client.machine, bootstrap.address)
    await took_s(again.find, within_s=15)
    choice = await again.find()
    assert choice is not None
    assert choice.peer_id == host.peer_id


# --- partitions and moves ---


@simulated(mesh_on)
async def test_two_halves_of_a_network_are_one_again_a_minute_after_the_partition_ends(mesh: Mesh) -> None:
    bootstraps = [await mesh.start("bootstrap-0", serve_dht=True)]
    bootstraps.append(await mesh.start("bootstrap-1", bootstraps[0].address, serve_dht=True))
    known = [each.address for each in bootstraps]
    hosts = [[await mesh.start(f"host-{half}-{n}", *known, is_host=True) for n in range(3)] for half in range(2)]
    clients = [await mesh.start(f"client-{half}", *known) for half in range(2)]
    everybody = {host.peer_id for half in hosts for host in half}
    for client in clients:
        await took_s(partial(_sees, client, everybody), within_s=60)
    halves = [[bootstraps[half], clients[half], *hosts[half]] for half in range(2)]
    mesh.net.partition([[each.machine for each in half] for half in halves])
    heals_s = trio.current_time() + PARTITION_S
    await trio.sleep(45)
    for half, client in enumerate(clients):
        choice = await client.find()
        assert choice is not None
        assert choice.peer_id in {host.peer_id for host in hosts[half]}
    await trio.sleep_until(heals_s)
    mesh.net.heal()
    for client in clients:
        # Both of them, from the moment of healing.
        await took_s(partial(_sees, client, everybody), within_s=heals_s + 60 - trio.current_time())
    newcomer = await mesh.start("newcomer", known[0])
    await took_s(partial(_sees, newcomer, everybody), within_s=30)


@simulated(mesh_on)
async def test_two_networks_that_never_met_are_one_once_any_node_knows_both(mesh: Mesh) -> None:
    bootstraps = [await mesh.start(f"bootstrap-{n}", serve_dht=True) for n in range(2)]
    hosts = [await mesh.start(f"host-{n}", bootstraps[n].address, is_host=True) for n in range(2)]
    clients = [await mesh.start(f"client-{n}", bootstraps[n].address) for n in range(2)]
    for client, host in zip(clients, hosts, strict=True):
        await took_s(partial(_sees, client, {host.peer_id}), within_s=30)
    await bootstraps[0].manager.connect_to_peer(bootstraps[1].address)
    everybody = {host.peer_id for host in hosts}
    for client in clients:
        await took_s(partial(_sees, client, everybody), within_s=120)


@pytest.mark.parametrize("restarts", [True, False], ids=["restarted", "running"])
@simulated(mesh_on)
async def test_a_host_with_a_new_address_is_found_there(mesh: Mesh, restarts: bool) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    host = await mesh.start("host", bootstrap.address, is_host=True)
    client = await mesh.start("client", bootstrap.address)
    await took_s(client.find, within_s=30)
    if restarts:
        await host.machine.restart()
    host.machine.move("12.0.0.1")
    if restarts:
        await mesh.start(host.machine, bootstrap.address, is_host=True)

    async def is_found_there() -> bool:
        choice = await client.find()
        if choice is None or choice.record.addresses != ("/ip4/12.0.0.1/tcp/4001",):
            return False
        return choice.peer_id == host.peer_id and choice.latency is not None

    # A measurement is used again for 30 s while its connection stands, and a silent connection stands until it is used.
    await took_s(is_found_there, within_s=45)


async def _sees(client: Member, hosts: set[PeerId]) -> bool:
    return await client.find_all() == hosts
