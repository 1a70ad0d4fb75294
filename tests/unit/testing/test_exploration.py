"""Exploring: seeds in their order, what broke, the same again, Python that can be pasted; and the guide's example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import trio

import hostmesh.testing
from hostmesh.testing import (
    EventKind,
    FaultKind,
    MeshWorld,
    NetworkEvent,
    Play,
    SimNetwork,
    SimOptions,
    StreamFault,
    as_python,
    draw_times,
    explore,
    play_schedule,
)
from hostmesh.testing.exploration import PLAYED

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Put:
    key: str
    at_s: float


@dataclass(frozen=True)
class Take:
    at_s: float


@dataclass(frozen=True)
class Bag:
    """A world of puts and takes. It forgets one of two puts that come within a tenth of a second."""

    options: SimOptions = field(default_factory=SimOptions)

    def draw(self, seed: int) -> tuple[Put | Take, ...]:
        times = draw_times(seed, 12, span_s=20, round_s=5)
        return tuple(Take(at_s) if number % 4 == 3 else Put(f"k{number}", at_s) for number, at_s in enumerate(times))

    async def play(self, net: SimNetwork, schedule: tuple[Put | Take, ...]) -> list[str]:
        lost: list[str] = []
        last_s = -1.0
        for step in schedule:
            await trio.sleep_until(step.at_s)
            if isinstance(step, Put):
                if step.at_s - last_s < 0.1:
                    lost.append(step.key)
                last_s = step.at_s
            net.note("step", type(step).__name__)
        return lost


def no_put_is_lost(lost: list[str]) -> list[str]:
    return [f"{key} is lost" for key in lost]


INVARIANTS = {"no put is lost": no_put_is_lost}


def test_the_first_seed_that_breaks_an_invariant_is_found_and_made_small() -> None:
    played: list[tuple[int, bool]] = []

    def note(seed: int, play: Play[list[str]]) -> None:
        played.append((seed, bool(play.breaches)))

    found = explore(Bag(), range(50), invariants=INVARIANTS, on_play=note)
    (violation,) = found.violations
    assert played == [(seed, seed == violation.seed) for seed in range(violation.seed + 1)]
    assert found.plays == len(played)
    assert violation.schedule == Bag().draw(violation.seed)
    assert violation.shrunk is not None
    assert violation.shrunk.is_minimal
    first, second = violation.smallest
    assert isinstance(first, Put)
    assert isinstance(second, Put)
    assert 0 <= second.at_s - first.at_s < 0.1
    assert [breach.what for breach in violation.shrunk_breaches] == [f"{second.key} is lost"]
    text = violation.text()
    assert f"seed {violation.seed}: 12 steps" in text
    assert "2 of them are enough" in text
    schedule = eval(text.partition("schedule = ")[2], {"Put": Put, "Take": Take})
    assert schedule == violation.smallest
    again = play_schedule(Bag(), schedule, seed=violation.seed, invariants=INVARIANTS)
    assert again.breaches == violation.shrunk_breaches


def test_many_violations_without_shrinking() -> None:
    found = explore(Bag(), range(50), invariants=INVARIANTS, max_violations=3, max_shrink_runs=0)
    assert len(found.violations) == 3
    assert all(violation.shrunk is None for violation in found.violations)
    assert all(violation.smallest == violation.schedule for violation in found.violations)
    assert "12 steps" in found.violations[0].text()


def test_a_world_that_raises_is_a_breach_of_its_own_and_shrunk_to_what_raises() -> None:
    class Broken(Bag):
        async def play(self, net: SimNetwork, schedule: tuple[Put | Take, ...]) -> list[str]:
            if sum(isinstance(step, Take) for step in schedule) >= 2:
                raise LookupError("planned")
            return []

    (violation,) = explore(Broken(), [1], invariants=INVARIANTS).violations
    assert [breach.invariant for breach in violation.breaches] == [PLAYED]
    assert "LookupError: planned" in violation.text()
    assert [type(step) for step in violation.smallest] == [Take, Take]


def test_every_drawn_schedule_of_the_mesh_can_be_pasted() -> None:
    names = {name: getattr(hostmesh.testing, name) for name in hostmesh.testing.__all__}
    world = MeshWorld(hosts=3, clients=1)
    for seed in range(200):
        schedule = world.draw(seed)
        assert schedule == world.draw(seed)
        assert eval(as_python(schedule), names) == schedule
        assert [step.at_s for step in schedule] == sorted(step.at_s for step in schedule)
    assert len({world.draw(seed) for seed in range(200)}) == 200


def test_defaults_are_left_out() -> None:
    fault = StreamFault(kind=FaultKind.CUT, source="a", target="b", at_s=2.5)
    assert as_python(fault) == "StreamFault(kind=FaultKind.CUT, source='a', target='b', at_s=2.5)"
    assert as_python(()) == "()"


def test_times_come_close_to_each_other_and_about_round_times() -> None:
    times = [at_s for seed in range(100) for at_s in draw_times(seed, 10, span_s=120)]
    assert all(0 <= at_s <= 120 for at_s in times)
    about_round = sum(abs(at_s - 30 * round(at_s / 30)) < 2 for at_s in times)
    # Evenly spread, about an eighth would be.
    assert about_round > len(times) / 4


def test_the_same_seed_plays_the_mesh_the_same() -> None:
    world = MeshWorld(hosts=1, clients=1)
    schedule = (NetworkEvent(kind=EventKind.KILL, machines=("h1",), at_s=6.0), *world.draw(3)[:4])
    plays = [play_schedule(world, schedule, seed=3, invariants={}) for _ in range(2)]
    first, second = [play.trace for play in plays]
    assert first is not None
    assert second is not None
    assert first.hash() == second.hash()


def test_the_example_of_the_guide() -> None:
    page = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    section = page.partition("\n## Finding bugs by random schedules\n")[2].partition("\n## ")[0]
    program = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0]
    (report,) = re.findall(r"```\n(seed .*?)```", section, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == report
