"""Mistakes that another product made in discovery, looked for on whole nodes; the numbers are those of its list.

Most have closer tests in tests/unit/discovery as well, with the number in their docstring.
"""

from __future__ import annotations

import pytest
import trio
from tests.simulated.members import Member, Mesh, mesh_on, took_s
from tests.support.simulated import simulated

from hostmesh import (
    AlreadyRunningError,
    HostCriteria,
    HostDescription,
    ModelOffer,
    NoHostFoundError,
    Price,
)


def offer(model_id: str, price: int = 100, capabilities: tuple[str, ...] = ()) -> HostDescription:
    return HostDescription(
        models=[ModelOffer(model_id=model_id, price=Price(micros_per_mtok=price, currency="USD"))],
        capabilities=capabilities,
    )


async def mesh_of(mesh: Mesh, **offers: HostDescription) -> tuple[Member, dict[str, Member]]:
    """Return a client that has searched once, and hosts by name."""
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    hosts = {}
    for name, description in offers.items():
        hosts[name] = await mesh.start(name, bootstrap.address, serve_dht=True)
        await hosts[name].manager.announce(description)
    client = await mesh.start("client", bootstrap.address)

    async def knows_all() -> bool:
        return len(await client.manager.find_all_hosts()) == len(offers)

    await took_s(knows_all, within_s=30)
    return client, hosts


@simulated(mesh_on)
async def test_d1_what_one_question_filtered_out_is_there_for_the_next(mesh: Mesh) -> None:
    client, hosts = await mesh_of(mesh, cheap=offer("m", 1), dear=offer("m", 1000))
    limit = HostCriteria(max_price=Price(micros_per_mtok=10, currency="USD"))
    assert [choice.peer_id for choice in await client.manager.find_all_hosts(limit)] == [hosts["cheap"].peer_id]
    found = await client.manager.find_all_hosts()
    assert {choice.peer_id for choice in found} == {host.peer_id for host in hosts.values()}


@simulated(mesh_on)
async def test_d2_a_blacklisting_that_is_over_filters_no_more_without_anybody_cleaning_up(mesh: Mesh) -> None:
    client, hosts = await mesh_of(mesh, only=offer("m"))
    client.manager.blacklist(hosts["only"].peer_id, "it was rude", ttl_s=20)
    with pytest.raises(NoHostFoundError) as caught:
        await client.manager.find_host()
    assert sum(caught.value.rejected.values()) == 1
    await trio.sleep(21)
    assert (await client.manager.find_host()).peer_id == hosts["only"].peer_id


@simulated(mesh_on)
async def test_d5_a_free_host_is_found_and_has_the_best_price(mesh: Mesh) -> None:
    client, hosts = await mesh_of(mesh, free=offer("m", 0), cheap=offer("m", 1))
    limit = HostCriteria(max_price=Price(micros_per_mtok=0, currency="USD"))
    assert (await client.manager.find_host(limit)).peer_id == hosts["free"].peer_id


@simulated(mesh_on)
async def test_d6_a_model_is_no_other_whose_name_begins_alike(mesh: Mesh) -> None:
    client, hosts = await mesh_of(mesh, thirty=offer("m-30"))
    with pytest.raises(NoHostFoundError) as caught:
        await client.manager.find_host(HostCriteria(required_models=["m-3"]))
    assert caught.value.rejected == {"model": 1}
    choice = await client.manager.find_host(HostCriteria(required_models=["m-30"]))
    assert choice.peer_id == hosts["thirty"].peer_id


@simulated(mesh_on)
async def test_d7_a_host_that_several_sources_name_is_one_host(mesh: Mesh) -> None:
    client, hosts = await mesh_of(mesh, only=offer("m"))
    await client.manager.connect_to_peer(hosts["only"].address)
    explained = await client.manager.explain()
    assert [choice.peer_id for choice in explained.choices] == [hosts["only"].peer_id]
    assert {"bootstrap", "dht"} <= set(explained.choices[0].sources)
    assert explained.funnel.seen == 1


@simulated(mesh_on)
async def test_d12_a_peer_with_two_connections_is_one_peer(mesh: Mesh) -> None:
    one, two = await mesh.start("one"), await mesh.start("two")
    async with trio.open_nursery() as both:
        both.start_soon(one.manager.connect_to_peer, two.address)
        both.start_soon(two.manager.connect_to_peer, one.address)
    assert one.manager.get_connected_peers() == (two.peer_id,)
    assert two.manager.get_connected_peers() == (one.peer_id,)


@simulated(mesh_on)
async def test_d14_a_second_node_is_refused_and_the_first_stays(mesh: Mesh) -> None:
    one, two = await mesh.start("one"), await mesh.start("two")
    with pytest.raises(AlreadyRunningError):
        await one.manager.create_node()
    await two.manager.connect_to_peer(one.address)
    assert one.manager.is_running()


@simulated(mesh_on)
async def test_d27_an_empty_network_gives_no_host_and_no_number_that_nobody_measured(mesh: Mesh) -> None:
    client = await mesh.start("client", (await mesh.start("bootstrap", serve_dht=True)).address)
    with pytest.raises(NoHostFoundError) as caught:
        await client.manager.find_host()
    assert (caught.value.seen, caught.value.rejected, caught.value.relaxation) == (0, {}, "")
    assert (await client.manager.explain()).choices == ()


@simulated(mesh_on)
async def test_d28_a_host_has_what_it_signed_and_not_what_was_asked_for(mesh: Mesh) -> None:
    client, _ = await mesh_of(mesh, both=offer("m", capabilities=("streaming", "vision")))
    choice = await client.manager.find_host(HostCriteria(required_models=["m"], capabilities=["vision"]))
    assert set(choice.record.capabilities) == {"streaming", "vision"}
    with pytest.raises(NoHostFoundError) as caught:
        await client.manager.find_host(HostCriteria(capabilities=["embeddings"]))
    assert caught.value.rejected == {"capabilities": 1}
