"""``hostmesh sim``, as a process: it fixes the hash seed itself, and a signal ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {"scenario", "nodes", "minutes", "seed", "finds", "answers", "misses", "wall_s", "trace_hash"}


def start(tmp_path: Path, *argv: str, hash_seed: str | None = None) -> subprocess.Popen[str]:
    env = {**os.environ, "HOSTMESH_HOME": str(tmp_path / "home")}
    env.pop("PYTHONHASHSEED", None)
    if hash_seed is not None:
        env["PYTHONHASHSEED"] = hash_seed
    return subprocess.Popen(
        [sys.executable, "-m", "hostmesh.cli.main", "sim", *argv],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_of_other_hash_seeds_give_the_same_trace(tmp_path):
    argv = ("churn", "--nodes", "8", "--minutes", "2", "--seed", "11", "--json")
    processes = [start(tmp_path, *argv, hash_seed=seed) for seed in ("1", "4242", None)]
    reports = []
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")
        (line,) = out.splitlines()
        reports.append(json.loads(line))
    for report in reports:
        assert report.keys() >= KEYS
        assert report.pop("wall_s") > 0
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["finds"] == reports[0]["answers"] + reports[0]["misses"]
    assert (reports[0]["scenario"], reports[0]["nodes"], reports[0]["minutes"], reports[0]["seed"]) == (
        "churn",
        8,
        2,
        11,
    )


SCENARIO = """
import sys
import trio
from hostmesh.testing import Scenario, ScenarioSize

async def play(run):
    run.network.machine("ann")
    run.network.machine("bob").power_off()
    run.figures = {"slept": run.minutes, "parts": {"a": 1, "b": None}}
    print("playing", file=sys.stderr, flush=True)
    while run.minutes > 5:
        await trio.sleep(1)

mine = Scenario(name="mine", summary="sleeps", play=play, size=ScenarioSize(nodes=2, minutes=1))
"""


@pytest.fixture
def scenario_file(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(SCENARIO)
    return str(file)


def test_a_users_file_and_its_traces(tmp_path, scenario_file):
    folder = tmp_path / "traces" / "new"
    process = start(tmp_path, scenario_file, "--trace", str(folder))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "playing\n")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines()[1:] if not line.startswith("trace hash"))
    assert out.startswith("mine: 2 nodes, 1 minutes, seed 0\n")
    assert (rows["finds"], rows["slept"], rows["parts"]) == ("0", "1", "a 1, b not measured")
    assert {file.name for file in folder.iterdir()} == {"trace.html", "ann.txt", "bob.txt"}
    assert "power-off" in (folder / "bob.txt").read_text()
    page = (folder / "trace.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "bob" in page


@pytest.mark.parametrize(("asked", "warnings"), [(None, 0), ("warning", 1)])
def test_what_nodes_warn_of_is_not_logged_unless_asked_for(tmp_path, monkeypatch, asked, warnings):
    warn = "    logging.getLogger('hostmesh.discovery').warning('a key was banned')\n"
    file = tmp_path / "warns.py"
    file.write_text("import logging\n" + SCENARIO.replace("    while run", warn + "    while run"))
    monkeypatch.delenv("HOSTMESH_LOG", raising=False)
    if asked is not None:
        monkeypatch.setenv("HOSTMESH_LOG", asked)
    process = start(tmp_path, str(file))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.count("a key was banned") == warnings


def test_a_scenario_that_fails_leaves_its_traces(tmp_path):
    file = tmp_path / "fails.py"
    file.write_text(SCENARIO.replace("    while run", "    assert run.figures is None, 'planned'\n    while run"))
    folder = tmp_path / "traces"
    process = start(tmp_path, str(file), "--trace", str(folder), "--json")
    out, _ = process.communicate(timeout=60)
    error = json.loads(out)["error"]
    assert (process.returncode, error["code"]) == (1, "INTERNAL")
    assert "AssertionError: planned" in error["message"]
    assert "power-off" in (folder / "bob.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path, scenario_file, number):
    process = start(tmp_path, scenario_file, "--minutes", "9999")
    assert process.stderr is not None
    assert process.stderr.readline() == "playing\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "", "")


def test_without_a_name_it_tells_which_scenarios_there_are(tmp_path, command):
    outcome = command("sim")
    assert outcome.code == 0
    names = ["churn", "partition", "wan-find", "eclipse", "liars", "scale"]
    assert [line.split()[0] for line in outcome.out.splitlines()[::2]] == names
    listed = json.loads(command("sim", "--json").out)["scenarios"]
    assert [each["scenario"] for each in listed] == names
    assert listed[0]["full"] == {"nodes": 50, "minutes": 60, "seeds": 1}


def test_a_size_can_be_chosen_and_full_is_the_size_of_measurements(command, scenario_file):
    report = json.loads(command("sim", scenario_file, "--nodes", "7", "--minutes", "0.5", "--json").out)
    assert (report["nodes"], report["minutes"], report["slept"]) == (7, 0.5, 0.5)
    assert json.loads(command("sim", scenario_file, "--full", "--json").out)["nodes"] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope"], "there is no scenario 'nope'"),
        (["nope.py"], "is no Python file"),
        (["churn", "--nodes", "1"], "no scenario has 1 nodes"),
        (["churn", "--minutes", "-1"], "-1 minutes"),
    ],
)
def test_wrong_use_ends_with_a_remedy(command, argv, message):
    outcome = command("sim", *argv, "--json")
    assert outcome.code == 2
    error = json.loads(outcome.out)["error"]
    assert error["code"] == "USAGE"
    assert message in error["message"]
    assert error["remedy"]


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_played(command, scenario_file, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    outcome = command("sim", scenario_file, "--trace", str(taken / "in"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "cannot make" in outcome.err
    assert "playing" not in outcome.err
