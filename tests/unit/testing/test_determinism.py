"""One seed, one run: in this process, in another one, and a different run for each seed."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import trio

from hostmesh.testing import EventKind, LinkProfile, NetworkEvent, SimNetwork, SimOptions, run_sim
from hostmesh.testing.wallets import make_wallet

OPTIONS = SimOptions(link=LinkProfile(latency_s=0.02, jitter_s=0.01, bytes_per_s=1e6))


async def small_world(net: SimNetwork) -> None:
    """Six nodes with a DHT find each other, while one is killed, one loses power and two are parted."""

    async def live(name: str, bootstrap: list[str], *, task_status: trio.TaskStatus[str]) -> None:
        machine = net.machine(name)
        is_first = True
        while True:
            async with machine.open_sdk(serve_dht=True) as sdk:
                await sdk.authenticate(wallet=make_wallet(name))
                peer_id = await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
                if is_first:
                    task_status.started(f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}")
                    is_first = False
                await trio.sleep_forever()
            await machine.restart()

    async with trio.open_nursery() as nursery:
        first = await nursery.start(live, "n0", [])
        for number in range(1, 6):
            await nursery.start(live, f"n{number}", [first])
        net.faults.schedule(
            [
                NetworkEvent(kind=EventKind.KILL, machines=("n1",), at_s=20),
                NetworkEvent(kind=EventKind.POWER_OFF, machines=("n2",), at_s=25, for_s=30),
                NetworkEvent(kind=EventKind.PARTITION, machines=("n3", "n4"), at_s=30, for_s=60),
            ]
        )
        await trio.sleep(180)
        nursery.cancel_scope.cancel()


def trace_hash(seed: int) -> str:
    return run_sim(small_world, seed=seed, network=OPTIONS).trace_hash


def trace_hash_elsewhere(seed: int) -> str:
    """Run in another process, with a fixed hash seed."""
    answer = subprocess.run(
        [sys.executable, __file__, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return answer.stdout.strip()


def test_the_same_seed_gives_the_same_trace_in_two_processes() -> None:
    assert trace_hash_elsewhere(5) == trace_hash_elsewhere(5)


def test_the_same_seed_gives_the_same_trace_again_in_a_process_that_did_other_things() -> None:
    first = trace_hash(5)
    hoard = [object() for _ in range(random.randrange(10_000))]
    assert trace_hash(5) == first
    assert hoard is not None


def test_ten_seeds_give_ten_traces() -> None:
    assert len({trace_hash(seed) for seed in range(10)}) == 10


def test_trio_shuffles_by_itself_again_after_a_run() -> None:
    from trio._core import _run

    before = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING

    async def fail(net: SimNetwork) -> None:
        await trio.sleep(1)
        raise LookupError("planned")

    with pytest.raises(LookupError, match="planned"):
        run_sim(fail)
    assert (_run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING) == before


def test_a_simulation_that_waits_for_itself_ends() -> None:
    async def wait(net: SimNetwork) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        run_sim(wait)


if __name__ == "__main__":
    print(trace_hash(int(sys.argv[1])))
