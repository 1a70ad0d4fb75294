"""Scenarios: what they count, their sizes, users' files, and those that come with the kit."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable

import pytest
import trio

from hostmesh import HostCriteria, HostmeshError, UsageError
from hostmesh.testing import (
    Leaving,
    Mesh,
    MeshNode,
    Scenario,
    ScenarioReport,
    ScenarioRun,
    ScenarioSize,
    load_scenario,
    play_scenario,
)
from hostmesh.testing.scenarios.asking import percentile

MODEL = "fake-chat"
SMALL = ScenarioSize(nodes=3, minutes=2)


def scenario(play, size=SMALL) -> Scenario:
    return Scenario(name="mine", summary="one of a test", play=play, size=size)


async def one_answer_one_miss(run: ScenarioRun) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery)
        is_over = trio.Event()

        async def look(client: MeshNode) -> None:
            assert client.manager is not None
            choice = await run.find(client.manager, HostCriteria(required_models=[MODEL]))
            assert choice is not None
            assert choice.peer_id == host.peer_id
            assert await run.find(client.manager, HostCriteria(required_models=["other"])) is None
            is_over.set()

        await mesh.start_bootstrap("boot")
        host = await mesh.start_host("host", [MODEL])
        await trio.sleep(20)
        await mesh.start_client("client", look)
        await is_over.wait()
        run.figures = {"hosts": 1}
        nursery.cancel_scope.cancel()


def test_a_report_has_what_was_counted():
    report = play_scenario(scenario(one_answer_one_miss), seed=3)
    told = report.to_dict()
    assert 0 < told.pop("wall_s") < 60
    assert told.pop("sim_s") == pytest.approx(report.sim_s, abs=0.001)
    assert told == {
        "scenario": "mine",
        "nodes": 3,
        "minutes": 2,
        "seed": 3,
        "finds": 2,
        "answers": 1,
        "misses": 1,
        "miss_reasons": {"NO_HOST_FOUND: model": 1},
        "hosts": 1,
        "trace_hash": report.trace.hash(),
    }
    assert report.machines == ("boot", "host", "client")


def test_the_seed_decides_and_somebody_who_looks_changes_nothing():
    looked: list[int] = []
    reports = [
        play_scenario(scenario(one_answer_one_miss), seed=3),
        play_scenario(scenario(one_answer_one_miss), seed=3, on_progress=lambda run: looked.append(run.finds)),
        play_scenario(scenario(one_answer_one_miss), seed=4),
    ]
    assert len({report.trace_hash for report in reports[:2]}) == 1
    assert reports[2].trace_hash != reports[0].trace_hash


def test_progress_is_told_each_simulated_minute():
    at_s: list[float] = []

    async def sleep(run: ScenarioRun) -> None:
        await trio.sleep(60 * run.minutes + 1)

    play_scenario(scenario(sleep), on_progress=lambda run: at_s.append(trio.current_time()))
    assert at_s == [60.0, 120.0]


def test_a_scenario_that_is_stopped_reports_what_it_counted():
    async def miss_and_wait(run: ScenarioRun) -> None:
        run.miss_reasons["NO_HOST_FOUND: model"] += 1
        await trio.sleep_forever()

    report = play_scenario(scenario(miss_and_wait), on_start=lambda stop: stop())
    assert report.misses == 1
    assert report.sim_s < 60


# --- several seeds, side by side ---


async def _wait_a_while(run: ScenarioRun) -> None:
    run.network.machine(f"ann-{run.seed}")
    await trio.sleep(1 + run.seed)
    run.network.note("kill", f"ann-{run.seed}")
    run.figures = {"seed": run.seed, "process": os.getpid()}


def _of_seeds(play, seeds: int) -> Scenario:
    return Scenario(
        name="mine",
        summary="one of a test",
        play=play,
        size=ScenarioSize(nodes=2, minutes=1, seeds=seeds),
        sum_up=lambda rounds: {"rounds": list(rounds)},
    )


def test_seeds_played_by_several_processes_are_reported_as_those_of_one():
    told: list[int] = []
    alone = play_scenario(_of_seeds(_wait_a_while, 5), seed=7)
    together = play_scenario(_of_seeds(_wait_a_while, 5), seed=7, jobs=3, on_played=told.append)
    assert told == [1, 2, 3, 4, 5]
    assert (together.seed, together.sim_s, together.trace_hash) == (7, alone.sim_s, alone.trace_hash)
    rounds = together.figures["rounds"]
    assert [each["seed"] for each in rounds] == [7, 8, 9, 10, 11]
    assert os.getpid() not in {each["process"] for each in rounds}
    assert together.machines == ("ann-11",)


def test_the_error_of_a_seed_comes_out_of_the_process_that_played_it():
    failed: list[ScenarioReport] = []

    async def fail(run: ScenarioRun) -> None:
        if run.seed == 3:
            raise HostmeshError(f"seed {run.seed}", remedy="another seed")
        await trio.sleep(1)

    with pytest.raises(HostmeshError, match="seed 3") as caught:
        play_scenario(_of_seeds(fail, 6), seed=1, jobs=2, on_failure=failed.append)
    assert caught.value.remedy == "another seed"
    assert [report.seed for report in failed] == [3]


def test_processes_that_play_seeds_end_when_it_is_stopped():
    stops: list[Callable[[], object]] = []

    async def wait_in_all_but_the_first(run: ScenarioRun) -> None:
        while run.seed:
            time.sleep(0.01)  # noqa: ASYNC251 - a process that never comes to an end by itself

    report = play_scenario(
        _of_seeds(wait_in_all_but_the_first, 4), jobs=2, on_start=stops.append, on_played=lambda played: stops[0]()
    )
    assert len(report.figures["rounds"]) == 1
    assert not multiprocessing.active_children()


def test_a_scenario_that_is_stopped_before_a_seed_was_played_counts_nothing():
    report = play_scenario(_of_seeds(_wait_a_while, 3), jobs=2, on_start=lambda stop: stop())
    assert (report.finds, report.sim_s, report.figures) == (0, 0.0, {})


def test_what_a_scenario_raises_comes_out():
    reports: list[ScenarioReport] = []

    async def fail(run: ScenarioRun) -> None:
        run.network.machine("ann")
        run.find_s.append(0.5)
        await trio.sleep(2)
        run.network.note("kill", "ann")
        async with trio.open_nursery():
            raise HostmeshError("no")

    with pytest.raises(HostmeshError, match="no"):
        play_scenario(scenario(fail), seed=6, on_failure=reports.append)
    (report,) = reports
    assert (report.answers, report.seed, report.sim_s, report.machines) == (1, 6, 2.0, ("ann",))
    assert "** kill" in report.trace.text("ann")


def test_errors_that_a_scenario_raises_together_come_out_together():
    async def fail(run: ScenarioRun) -> None:
        raise ExceptionGroup("two", [HostmeshError("one"), HostmeshError("two")])

    with pytest.raises(ExceptionGroup, match="two"):
        play_scenario(scenario(fail))


def test_a_scenario_that_does_not_end_is_given_up():
    async def wait(run: ScenarioRun) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        play_scenario(scenario(wait))


@pytest.mark.parametrize(("nodes", "minutes"), [(1, 1), (10_001, 1), (2, 0), (2, -1), (2, 10_081), (2, float("nan"))])
def test_a_size_out_of_bounds_is_refused(nodes, minutes):
    with pytest.raises(UsageError, match="nodes"):
        ScenarioSize(nodes=nodes, minutes=minutes)


# --- files ---

FILE = """
from hostmesh.testing import Scenario, ScenarioSize

async def play(run):
    run.figures = {"nodes_seen": run.nodes}

mine = Scenario(name="mine", summary="a file's", play=play, size=ScenarioSize(nodes=4, minutes=1))
"""


def test_a_file_defines_a_scenario(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    assert play_scenario(load_scenario(str(file))).figures == {"nodes_seen": 4}


def test_a_file_may_define_dataclasses(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + FILE
        + "\n@dataclass\nclass Own:\n    number: int = 4\n"
    )
    assert load_scenario(str(file)).name == "mine"


def test_a_file_may_import_what_is_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_a_scenario.py").write_text("NODES = 4")
    file = tmp_path / "mine.py"
    file.write_text("import beside_a_scenario\n" + FILE)
    assert load_scenario(str(file)).name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines 0 scenarios"),
        (FILE + "import dataclasses\nother = dataclasses.replace(mine, name='other')", "defines 2 scenarios"),
        ("raise OSError('broken')", "does not run"),
        ("def (", "does not run"),
    ],
)
def test_a_file_that_defines_none_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_scenario(str(file))


@pytest.mark.parametrize("name", ["nope", "", "nope.py", "churn.txt"])
def test_what_is_no_scenario_is_refused(name):
    with pytest.raises(UsageError):
        load_scenario(name)


# --- those that come with the kit ---


def test_under_churn_hosts_are_found_and_each_miss_has_its_reason():
    size = ScenarioSize(nodes=12, minutes=6)
    report = play_scenario(load_scenario("churn"), size=size, seed=5)
    figures = report.figures
    assert sum(figures["left"].values()) == 6
    assert len(report.machines) == 12 + 6, "one came for each that left"
    assert report.finds >= 5
    assert report.finds == report.answers + report.misses
    assert figures["served_finds"] > 0
    assert figures["served_answers"] == figures["served_finds"]
    assert figures["false_answers"] == 0
    assert all(reason.startswith("NO_HOST_FOUND: ") for reason in report.miss_reasons)


def test_a_partition_hides_the_other_half_and_its_end_brings_it_back():
    report = play_scenario(load_scenario("partition"), size=ScenarioSize(nodes=12, minutes=9), seed=2)
    figures = report.figures
    assert report.misses > 0, "models of the other half"
    assert figures["served_finds"] >= 15
    assert figures["served_answers"] == figures["served_finds"]
    assert figures["false_answers"] == 0
    assert report.trace.counts["stall"] == report.trace.counts["heal"] == 6 * 6


def test_a_mesh_keeps_account_of_what_runs():
    async def play(run: ScenarioRun) -> None:
        async with trio.open_nursery() as nursery:
            mesh = Mesh(run.network, nursery)
            await mesh.start_bootstrap("boot")
            hosts = [await mesh.start_host(f"host-{way.value}", [MODEL]) for way in Leaving]
            await trio.sleep(30)
            assert mesh.serving(MODEL, for_s=29) == hosts
            assert mesh.serving(MODEL, for_s=31) == []
            assert mesh.serving("other") == []
            for host, way in zip(hosts, Leaving, strict=True):
                mesh.leave(host, way)
                assert host not in mesh.nodes
                assert host.left_s == trio.current_time()
                await trio.sleep(10)
                assert not host.machine.listeners, f"nobody listens after {way}"
            nursery.cancel_scope.cancel()

    play_scenario(scenario(play))


def test_percentiles():
    assert percentile([], 50) is None
    assert percentile(range(1, 101), 95) == 95
    assert percentile([2.0], 95) == 2.0


def test_finds_over_wide_area_links_are_within_their_bounds():
    report = play_scenario(load_scenario("wan-find"), seed=1)
    figures = report.figures
    assert report.misses == 0
    assert report.answers == figures["cold_finds"] + figures["warm_finds"]
    assert figures["warm_finds"] == 4 * figures["cold_finds"] > 0
    assert figures["is_within_bounds"]
    # Four round trips of 40 ms at least go before the first answer of a probe, and light is not overtaken.
    assert 0.2 < figures["cold_p50_s"] <= 1.5
    assert figures["cold_p95_s"] <= 3.0
    assert figures["warm_slowest_probe_p50_s"] > 0.2
    assert figures["warm_over_slowest_probe_max_s"] <= 0.01


def test_hostile_neighbours_of_the_keys_do_not_hide_an_honest_host():
    report = play_scenario(load_scenario("eclipse"), seed=1)
    figures = report.figures
    assert figures["hostile_of_20_nearest"] == 16
    assert figures["found_rate"] == 1.0
    assert figures["found_max_s"]["shipped"] <= 10.0


# --- several seeds ---


async def count_seeds(run: ScenarioRun) -> None:
    run.network.machine("ann")
    await trio.sleep_until(run.seed / 100)
    run.network.note("kill", "ann")
    await trio.sleep_until(1)
    run.miss_reasons[f"seed {run.seed % 2}"] += 1
    run.figures = {"seed_played": run.seed}


def test_a_scenario_is_played_under_each_of_its_seeds_and_summed_up():
    size = ScenarioSize(nodes=2, minutes=1, seeds=3)
    several = Scenario(
        name="several",
        summary="",
        play=count_seeds,
        size=size,
        sum_up=lambda figures: {"seeds_played": [each["seed_played"] for each in figures]},
    )
    report = play_scenario(several, seed=4)
    assert report.figures == {"seeds_played": [4, 5, 6]}
    assert report.miss_reasons == {"seed 0": 2, "seed 1": 1}
    assert (report.seed, report.misses, report.sim_s) == (4, 3, 3.0)
    assert report.trace_hash == play_scenario(several, seed=4).trace_hash
    assert report.trace_hash != play_scenario(several, seed=5).trace_hash


def test_a_scenario_that_is_stopped_begins_no_further_seed():
    several = Scenario(name="several", summary="", play=count_seeds, size=ScenarioSize(nodes=2, minutes=1, seeds=3))
    played = []
    report = play_scenario(several, on_start=lambda stop: (played.append(1), stop()))
    assert len(played) == 1
    assert report.sim_s < 1


@pytest.mark.parametrize("seeds", [0, -1, 10_001])
def test_a_number_of_seeds_out_of_bounds_is_refused(seeds):
    with pytest.raises(UsageError, match="times"):
        ScenarioSize(nodes=2, minutes=1, seeds=seeds)
