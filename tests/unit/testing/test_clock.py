"""The clock of a simulation: where it jumps, and what happens when there is nowhere to jump."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio
import trio.testing

from hostmesh import UsageError
from hostmesh.testing import SimNetwork, run_sim

STUCK = """
import trio
from hostmesh.testing import SimStuckError, run_sim

async def main(net):
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()  # line 7

try:
    run_sim(main)
except SimStuckError as error:
    print(error.code, error.message)

async def other(net):
    await trio.sleep(3)
    return trio.current_time()

print(run_sim(other).result)
"""


def test_it_jumps_to_deadlines_and_calls_in_their_order():
    seen: list[tuple[str, float]] = []

    async def main(network: SimNetwork) -> None:
        def note(name: str) -> None:
            seen.append((name, trio.current_time()))
            if name == "call":
                network.agenda.at(1.0, note, "for the past")
                network.agenda.at(trio.current_time(), note, "for now")

        network.agenda.at(2.0, note, "call")
        network.agenda.at(1.0, note, "first call")
        for wait_s in (0.5, 1.5, 5.0):
            await trio.sleep(wait_s)
            note("woke")

    assert run_sim(main).sim_s == 7.0
    assert seen == [
        ("woke", 0.5),
        ("first call", 1.0),
        *[("call", 2.0), ("for the past", 2.0), ("for now", 2.0)],
        *[("woke", 2.0), ("woke", 7.0)],
    ]


def test_what_a_call_raises_comes_out_of_the_simulation():
    async def main(network: SimNetwork) -> None:
        network.agenda.at(1.0, int, "no number")
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run_sim(main)
    assert caught.group_contains(ValueError, match="no number")


def test_it_stands_still_while_somebody_waits_for_all_to_wait():
    async def main(network: SimNetwork) -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10)
            await trio.testing.wait_all_tasks_blocked(0.01)
            return trio.current_time()

    assert run_sim(main).result == 0.0


def test_a_network_in_real_time_is_refused():
    async def main() -> None:
        await SimNetwork().run()

    with pytest.raises(UsageError, match="simulated time"):
        trio.run(main)


def test_a_simulation_that_is_stuck_behind_a_shield_is_torn_down_and_says_where(tmp_path):
    """In a process of its own: what is torn down so complains."""
    file = tmp_path / "stuck.py"
    file.write_text(STUCK)
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("SIM_STUCK the simulation is stuck: ")
    assert f"{file}:7" in first
    assert second == "3.0"
