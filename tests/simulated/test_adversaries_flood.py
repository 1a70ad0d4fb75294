"""DHT servers that name as many made-up providers as an answer holds, among unmodified nodes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from tests.simulated.adversary_world import OPTIONS, World, world_on

from hostmesh.discovery.sources.model_keys import SHARDS
from hostmesh.net.dial_policy import PORT_BURST, PORT_PER_S
from hostmesh.testing import SimNetwork, run_sim
from hostmesh.testing.adversary_dht import DhtLies, DhtManner, near_key, run_dht_responder


async def find_among(world: World, responders: int, *, victim: str | None = None, known_for_s: float = 0.0) -> None:
    """Let servers whose ids are ground to be nearest to the shards flood, and the client find the honest host.

    Args:
        responders: how many; the bootstrap node is the only other server, so it alone names the host.
        victim: where all made-up peers are said to be; None = where nobody is.
        known_for_s: the client has been there for so long, and has the servers in its table.
    """
    lies = DhtLies(manner=DhtManner.FLOODS, victim=victim)
    async with AsyncExitStack() as held:
        for number in range(responders):
            key = near_key(world.shard_key(number % SHARDS), 4, number=number // SHARDS)
            machine = world.net.machine(f"flood{number}")
            await held.enter_async_context(run_dht_responder(machine, lies, key=key, bootstrap=world.bootstrap))
        await world.start_client()
        await trio.sleep(known_for_s)
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 5.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("responders", [4, 12])
def test_the_honest_host_is_found_however_many_the_nearest_servers_make_up(responders: int, seed: int) -> None:
    """The client may hold ten connections, fewer than there are servers: its own lookups hold all of them at times."""

    async def main(net: SimNetwork) -> None:
        async with world_on(net) as world:
            await find_among(world, responders)

    run_sim(main, seed=seed, network=OPTIONS)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_found_when_the_client_has_the_nearest_servers_in_its_table(seed: int) -> None:
    """They are asked before the honest server, and what they name is nearer than that one."""

    async def main(net: SimNetwork) -> None:
        async with world_on(net, max_connections=100) as world:
            await find_among(world, 12, known_for_s=10.0)

    run_sim(main, seed=seed, network=OPTIONS)


@pytest.mark.parametrize("responders", [4, 12])
def test_a_victim_is_dialled_as_often_as_the_policy_allows_and_the_host_is_found(responders: int) -> None:
    async def main(net: SimNetwork) -> None:
        victim = net.machine("victim")
        async with world_on(net) as world:
            await find_among(world, responders, victim=f"/ip4/{victim.address}/tcp/4001")
        dials = [event for event in net.trace if event.kind == "dial" and event.target == "victim"]
        by_client = sum(event.source == "client" for event in dials)
        assert 0 < by_client <= PORT_BURST + PORT_PER_S * 10

    run_sim(main, seed=0, network=OPTIONS)
