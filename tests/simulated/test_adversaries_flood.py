"""DHT servers that name as many made-up providers as an answer holds, among unmodified nodes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from tests.simulated.adversary_world import MODEL, OPTIONS, World, world_on
from tests.support.simulated import simulated

from hostmesh.discovery.sources.dht import SHARDS, model_key
from hostmesh.net.dial_policy import PORT_BURST, PORT_PER_S
from hostmesh.testing.adversary_dht import DhtLies, DhtManner, near_key, run_dht_responder
from hostmesh.testing.machine import NETWORK_NAME


@pytest.mark.parametrize("responders", [4, 12])
@pytest.mark.parametrize("has_victim", [False, True])
@simulated(world_on, network=OPTIONS)
async def test_the_honest_host_is_found_however_many_the_nearest_servers_make_up(
    world: World, responders: int, has_victim: bool
) -> None:
    victim = world.net.machine("victim")
    address = f"/ip4/{victim.address}/tcp/4001" if has_victim else None
    lies = DhtLies(manner=DhtManner.FLOODS, victim=address)
    async with AsyncExitStack() as held:
        for number in range(responders):
            key = near_key(model_key(NETWORK_NAME, MODEL, number % SHARDS), 4, number=number // SHARDS)
            machine = world.net.machine(f"flood{number}")
            await held.enter_async_context(run_dht_responder(machine, lies, key=key, bootstrap=world.bootstrap))
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 5.0
        dials = sum(
            event.kind == "dial" and (event.source, event.target) == ("client", "victim") for event in world.net.trace
        )
        assert (dials > 0) is has_victim
        assert dials <= PORT_BURST + PORT_PER_S * 10
