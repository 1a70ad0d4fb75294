"""Whatever adversaries are drawn, an unmodified client finds the honest host, in its time; and one seed is one run."""

from __future__ import annotations

from contextlib import AsyncExitStack

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulated.adversary_world import MODEL, OPTIONS, World, world_on

from hostmesh import HostCriteria, HostmeshError, PeerId
from hostmesh.testing import (
    DhtLies,
    DhtManner,
    HostLies,
    SimNetwork,
    SlowKind,
    Slowness,
    make_description,
    run_dht_responder,
    run_lying_host,
    run_record_peer,
    run_sim,
    run_slow_peer,
    values_of,
)


async def find_honest(net: SimNetwork, lies: HostLies, slowness: Slowness, dht: DhtLies) -> tuple[int, float]:
    """Find the honest host among one of each; return how many others were tried, and how long all took."""
    cheap = make_description(MODEL, price_micros_per_mtok=1)
    async with world_on(net) as world, AsyncExitStack() as held:
        for adversary in (
            run_lying_host(net.machine("liar"), lies, description=cheap, bootstrap=world.bootstrap),
            run_slow_peer(net.machine("slow"), slowness, bootstrap=world.bootstrap),
            run_dht_responder(net.machine("responder"), dht, bootstrap=world.bootstrap),
        ):
            await held.enter_async_context(adversary)
        await world.start_client()
        return await _try_until_honest(world)


async def _try_until_honest(world: World) -> tuple[int, float]:
    tried: list[PeerId] = []
    total_s = 0.0
    while True:
        choice, took_s = await world.find_timed(HostCriteria(required_models=[MODEL], exclude=tried))
        total_s += took_s
        if choice.peer_id == world.honest:
            return len(tried), total_s
        tried.append(choice.peer_id)


@settings(max_examples=15, deadline=None)
@given(lies=values_of(HostLies), slowness=values_of(Slowness), dht=values_of(DhtLies), seed=st.integers(0, 1000))
def test_the_honest_host_is_found_whatever_the_others_do(
    lies: HostLies, slowness: Slowness, dht: DhtLies, seed: int
) -> None:
    run = run_sim(lambda net: find_honest(net, lies, slowness, dht), seed=seed, network=OPTIONS)
    tried, took_s = run.result
    assert tried <= 2
    assert took_s < 10.0 * (tried + 1)


def test_one_seed_is_one_run_with_all_of_them() -> None:
    async def main(net: SimNetwork) -> None:
        async with world_on(net) as world, AsyncExitStack() as held:
            flood = DhtLies(manner=DhtManner.FLOODS)
            await held.enter_async_context(run_dht_responder(net.machine("flood"), flood, bootstrap=world.bootstrap))
            await held.enter_async_context(run_record_peer(net.machine("records"), bootstrap=world.bootstrap))
            await held.enter_async_context(
                run_lying_host(net.machine("liar"), HostLies(is_always_ready=True), bootstrap=world.bootstrap)
            )
            for kind in SlowKind:
                slow = run_slow_peer(net.machine(kind.value), Slowness(kind=kind), bootstrap=world.bootstrap)
                await held.enter_async_context(slow)
            await world.start_client()
            try:
                await world.find_timed()
            except HostmeshError:
                net.note("found nobody", "client")

    hashes = {run_sim(main, seed=seed, network=OPTIONS).trace_hash for seed in (3, 3, 4)}
    assert len(hashes) == 2
