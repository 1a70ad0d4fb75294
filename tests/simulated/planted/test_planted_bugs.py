"""Random schedules find bugs that were planted into a copy of the shipped code, by invariants that know none of them.

Each ``.patch`` is a bug that a reader may well pass over, and that a network without trouble does not show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.simulated.planted.patching import PatchError, plant

from hostmesh.testing import MESH_INVARIANTS, Find, MeshWorld, RunJob, Watch, as_python, play_schedule

FOLDER = Path(__file__).parent
SEEDS = int(os.environ.get("HOSTMESH_EXPLORED_SEEDS", "240"))
"""How many are explored at most to find each bug, and that the code as it is must pass."""
BUGS = {
    "lost_wake_up": "every call ends in time",
    "stale_record": "finds are not stale",
    "job_run_twice": "a submission runs once",
}
"""The invariant that each breaks."""
CALM = (
    Watch(machine="c1", host="h1", at_s=6),
    Watch(machine="c2", host="h2", at_s=6),
    *(RunJob(machine=client, at_s=at_s) for at_s in (10, 40) for client in ("c1", "c2")),
    *(Find(machine=client, at_s=at_s) for at_s in (20, 70) for client in ("c1", "c2")),
)
"""What is done on a day without trouble."""
_UNPATCHED = "unpatched"


@dataclass(frozen=True)
class Explorer:
    """The code in a folder, looked at in processes of their own."""

    folder: Path | None

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(FOLDER / "explorer.py"), *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": "" if self.folder is None else str(self.folder),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer_of(self, process: subprocess.Popen[str]) -> Any:
        output, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors
        answer = json.loads(output)
        if self.folder is not None:
            assert Path(answer["package"]).is_relative_to(self.folder), "another hostmesh was looked at"
        return answer

    def replay(self, seed: int, schedule: str) -> list[str]:
        broken: list[str] = self.answer_of(self.start(seed, schedule))["invariants"]
        return broken


@pytest.fixture(scope="module")
def explorers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Explorer]:
    planted = {bug: Explorer(plant(FOLDER / f"{bug}.patch", tmp_path_factory.mktemp(bug))) for bug in BUGS}
    return {_UNPATCHED: Explorer(None), **planted}


@pytest.fixture(scope="module")
def explored(explorers: Mapping[str, Explorer]) -> Iterator[Mapping[str, Any]]:
    """What exploring came to; all at once, since each is one process."""
    processes = {name: explorer.start(SEEDS) for name, explorer in explorers.items()}
    try:
        yield {name: explorers[name].answer_of(process) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


@pytest.mark.timeout(300)
def test_the_code_as_it_is_passes_all_seeds(explored: Mapping[str, Any]) -> None:
    found = explored[_UNPATCHED]
    assert not found["violations"], found["violations"][0]["text"]
    assert found["plays"] == SEEDS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_and_made_small(
    bug: str, explored: Mapping[str, Any], explorers: Mapping[str, Explorer]
) -> None:
    found = explored[bug]
    assert found["violations"], f"not found in {SEEDS} seeds"
    violation = found["violations"][0]
    assert violation["invariants"] == [BUGS[bug]], violation["text"]
    assert violation["is_minimal"], violation["text"]
    assert violation["steps"] <= 10, violation["text"]
    assert violation["steps"] < violation["drawn_steps"]
    # What was printed is the failure, in another process too, and the bug is its cause.
    assert explorers[bug].replay(violation["seed"], violation["schedule"]) == [BUGS[bug]]
    assert explorers[_UNPATCHED].replay(violation["seed"], violation["schedule"]) == []


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_does_not_show_on_a_calm_network(bug: str, explorers: Mapping[str, Explorer]) -> None:
    for seed in (1, 2):
        assert explorers[bug].replay(seed, as_python(CALM)) == []


def test_a_calm_network_does_all_its_work() -> None:
    play = play_schedule(MeshWorld(), CALM, seed=1, invariants=MESH_INVARIANTS)
    assert not play.breaches
    assert play.account is not None
    calls = [call for call in play.account.calls if call.what in ("find", "job") and call.ending.value == "done"]
    # Each client: 2 searches and 2 jobs of the schedule, 1 in the end; a search before each job.
    assert [call.what for call in calls].count("job") == 6
    assert [call.what for call in calls].count("find") == 10
    assert len(play.account.submissions) == 6
    assert sum(engine.counts.finished for engine in play.account.engines.values()) == 6


def test_a_patch_that_does_not_fit_is_no_silent_success(tmp_path: Path) -> None:
    patch = tmp_path / "old.patch"
    patch.write_text("--- a/hostmesh/system.py\n+++ b/hostmesh/system.py\n@@ -1,1 +1,1 @@\n-nothing like it\n+x\n")
    with pytest.raises(PatchError, match="0 times"):
        plant(patch, tmp_path / "copy")
