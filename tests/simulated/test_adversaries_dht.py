"""DHT servers that drop or flood, and peers that flood DHT servers, among unmodified nodes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import pytest
import trio
from tests.simulated.adversary_world import LATENCY_S, MODEL, OPTIONS, World, world_on
from tests.simulated.nodes import nodes_on
from tests.support.simulated import simulated

from hostmesh import UsageError
from hostmesh.discovery.sources.model_keys import SHARDS
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht_message import content_key
from hostmesh.net.dht_table import position
from hostmesh.net.dial_policy import PORT_BURST, PORT_PER_S
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.testing import SimNetwork
from hostmesh.testing.adversary_dht import (
    MAX_NEAR_BITS,
    DhtLies,
    DhtManner,
    DhtResponder,
    flood_providers,
    near_key,
    run_dht_responder,
)
from hostmesh.testing.adversary_node import open_adversary_node

KEY = content_key("a model")
MAX_RECORDS_OF_A_PEER = 512
MAX_QUERIES = 80
"""Both as docs/protocols/dht.md has them."""


async def responders_near(world: World, held: AsyncExitStack, lies: DhtLies, count: int) -> list[DhtResponder]:
    """Start DHT servers whose ids are ground to be near the shards of the model."""
    responders = []
    for number in range(count):
        key = near_key(world.shard_key(number % SHARDS), 4, number=number // SHARDS)
        machine = world.net.machine(f"bad{number}")
        responder = run_dht_responder(machine, lies, key=key, bootstrap=world.bootstrap)
        responders.append(await held.enter_async_context(responder))
    return responders


# --- answers ---


@pytest.mark.parametrize("answer_until_it_matters", [False, True])
@pytest.mark.parametrize("manner", [DhtManner.SILENT, DhtManner.RESETS, DhtManner.GARBAGE])
@simulated(partial(world_on, max_connections=100), network=OPTIONS)
async def test_servers_that_drop_requests_do_not_hide_the_honest_host(
    world: World, manner: DhtManner, answer_until_it_matters: bool
) -> None:
    """They were in the tables of the others; twelve of them are nearer to the keys than the honest one."""
    drops = DhtLies(manner=manner)
    async with AsyncExitStack() as held:
        first = replace(drops, honest_requests=10**6) if answer_until_it_matters else drops
        responders = await responders_near(world, held, first, 12)
        await world.start_client()
        for responder in responders:
            responder.lies = drops
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 8.0
        # They were asked, and dropped what they were asked.
        assert any(responder.requests.total() > responder.answered_well for responder in responders)


@pytest.mark.parametrize("manner", DhtManner)
@simulated(network=OPTIONS)
async def test_a_lookup_among_them_ends_and_fills_no_table(net: SimNetwork, manner: DhtManner) -> None:
    async with nodes_on(net) as nodes, AsyncExitStack() as held:
        client = await nodes.start(enable_dht=True, max_connections=1000)
        dht = client.dht
        assert dht is not None
        for number in range(6):
            lies = DhtLies(manner=manner)
            responder = run_dht_responder(net.machine(f"bad{number}"), lies, key=near_key(KEY, 4, number=number))
            peer = (await held.enter_async_context(responder)).adversary
            await client.connect(peer.peer_id, [peer.address], origin=AddressOrigin.CONFIGURED)
        await trio.sleep(5)
        dials, began_s = nodes.dials(client), trio.current_time()
        found = await dht.find_providers(KEY, limit=1000, timeout_s=60.0)
        assert trio.current_time() - began_s <= 60.0
        assert nodes.dials(client) - dials <= MAX_QUERIES
        # Who was made up never answered, so it is in no table; nor is who fell silent.
        assert dht.statistics.servers == (6 if manner is DhtManner.FLOODS else 0)
        assert bool(found) is (manner is DhtManner.FLOODS)


@simulated(world_on, network=OPTIONS)
async def test_a_victim_whose_address_is_named_is_dialled_as_often_as_the_policy_allows(world: World) -> None:
    victim = world.net.machine("victim")
    lies = DhtLies(manner=DhtManner.FLOODS, victim=f"/ip4/{victim.address}/tcp/4001")
    async with AsyncExitStack() as held:
        await responders_near(world, held, lies, 4)
        await world.start_client()
        began_s = trio.current_time()
        await world.discovery.explain(timeout_s=10.0)
        took_s = trio.current_time() - began_s
        for source in ("boot", "host", "client"):
            dials = [
                event.time_s
                for event in world.net.trace
                if (event.kind, event.source, event.target) == ("dial", source, "victim")
            ]
            assert len(dials) <= PORT_BURST + PORT_PER_S * (max(dials, default=0) - min(dials, default=0)) + 1
        assert took_s <= 10.1
        assert len(dials) > 0, "the client was asked to dial it"


# --- provider records ---


@simulated(network=OPTIONS)
async def test_a_peer_that_provides_keys_without_end_has_512_records_and_is_then_refused(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes, open_adversary_node(net.machine("bad")) as adversary:
        server = await nodes.start(enable_dht=True, dht_server=True, max_connections=1000)
        host = await nodes.start(enable_dht=True, max_connections=1000)
        assert server.dht is not None
        for node in (host, adversary.node):
            await node.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
        await trio.sleep(1)
        assert await host.provide(KEY) == 1
        extra = 40
        keys = [content_key(f"key {number}") for number in range(MAX_RECORDS_OF_A_PEER + extra)]
        taken, refused = await flood_providers(adversary, server.peer_id, keys)
        assert (taken, refused) == (MAX_RECORDS_OF_A_PEER, extra)
        assert server.dht.statistics.provider_records == MAX_RECORDS_OF_A_PEER + 1
        assert server.dht.statistics.refused["provider_records"] == extra
        # It may provide the host's key as well, and takes no place from it.
        await trio.sleep(1800)
        assert server.dht.statistics.provider_records == 0
        assert await host.provide(KEY) == 1
        assert await flood_providers(adversary, server.peer_id, [KEY]) == (1, 0)
        providers = await server.find_providers(KEY, limit=10, timeout_s=5.0)
        assert {peer_id for peer_id, _ in providers} == {host.peer_id, adversary.peer_id}


@simulated(world_on, network=OPTIONS)
async def test_who_provides_a_model_without_being_a_host_is_asked_once_and_left_out(world: World) -> None:
    async with open_adversary_node(world.net.machine("bad"), bootstrap=world.bootstrap) as adversary:
        await adversary.advertise([MODEL])
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 0.2 + 40 * LATENCY_S
        assert world.discovery.stats().fetches["not_a_host"] >= 1


# --- ids ---


@pytest.mark.parametrize("bits", [0, 1, 5, 8])
def test_a_key_that_was_sought_near_another_is_as_near_as_that(bits: int) -> None:
    found = [near_key(KEY, bits, number=number) for number in (0, 0, 1)]
    assert found[0].peer_id == found[1].peer_id != found[2].peer_id
    for key in found:
        assert (position(peer_id_to_bytes(key.peer_id)) ^ position(KEY)).bit_length() <= 256 - bits


@pytest.mark.parametrize("bits", [-1, MAX_NEAR_BITS + 1])
def test_a_key_that_would_take_too_long_to_find_is_refused(bits: int) -> None:
    with pytest.raises(UsageError, match="bits near"):
        near_key(KEY, bits)
