"""The schedule, with peers that only speak the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.benchmarks.transport import __main__ as command
from tests.benchmarks.transport import harness, pair
from tests.benchmarks.transport.figures import Row, failures
from tests.benchmarks.transport.harness import Plan, Results, run_plan
from tests.benchmarks.transport.stacks import StackMissingError
from tests.benchmarks.transport.works import QUICK, WORK_BY_NAME, WORKS
from tests.unit.benchmarks.kit import fake

SIZES = dataclasses.replace(QUICK, least_timed_s=1.0, held_connections=7, held_streams=7)


def plan(peers: dict[str, list[str]], *works: str, reps: int = 1, seed: int = 1, **changes: Any) -> Plan:
    chosen = [WORK_BY_NAME[name] for name in works] or list(WORKS)
    return Plan(peers=peers, works=chosen, reps=reps, sizes=SIZES, seed=seed, **changes)


async def run(chosen: Plan, folder: Path) -> Results:
    return await run_plan(chosen, folder, lambda line: None)


def by_work(rows: list[Row], stack: str) -> dict[str, Row]:
    return {row.work: row for row in rows if row.stack == stack}


async def test_each_work_gives_its_figure(tmp_path: Path) -> None:
    results = await run(plan({"fake": fake()}), tmp_path)
    rows = by_work(results.rows, "fake")
    assert {work: row.value for work, row in rows.items()} == {
        "unary_1": 20.0,
        "unary_32": 20.0,
        "unary_128": 20.0,
        "stream_burst": 20.0,
        "stream_paced": 2500.0,
        "bulk": 20.0,
        "connect": 2.5,
        "mem_connection": 1.0,
        "mem_stream": 1.0,
    }
    assert all(row.ok and row.error == "" for row in rows.values())
    assert results.settings == {"fake": {"tuned": "well"}}


async def test_cpu_is_of_client_and_server_without_what_asking_costs(tmp_path: Path) -> None:
    rows = by_work((await run(plan({"fake": fake()}), tmp_path)).rows, "fake")
    assert rows["unary_1"].cpu_us_per_op == pytest.approx((2000 + 3000) / 10)
    # Two calls, until a second was timed.
    assert rows["stream_burst"].cpu_us_per_op == pytest.approx((2 * 2000 + 3000) / 20)
    assert rows["mem_stream"].cpu_us_per_op is None


async def test_every_repetition_does_every_work_on_every_stack(tmp_path: Path) -> None:
    stacks = {"a": fake(), "b": fake()}
    rows = (await run(plan(stacks, "unary_1", "bulk", reps=2), tmp_path)).rows
    assert failures(rows, stacks, ["unary_1", "bulk"], 2) == []
    assert len(rows) == 8


async def test_the_order_is_the_seeds(tmp_path: Path) -> None:
    stacks = {name: fake() for name in "abc"}

    async def order(seed: int) -> list[str]:
        works = ("unary_1", "unary_32", "bulk")
        return [row.stack for row in (await run(plan(stacks, *works, seed=seed), tmp_path)).rows]

    first = await order(1)
    assert await order(1) == first
    assert await order(2) != first
    assert len({tuple(first[start : start + 3]) for start in (0, 3, 6)}) > 1
    assert sorted(first[:3]) == ["a", "b", "c"]


async def test_a_refused_run_fails_alone(tmp_path: Path) -> None:
    results = await run(plan({"bad": fake("refuse=bulk"), "good": fake()}, "bulk", "connect"), tmp_path)
    bad, good = by_work(results.rows, "bad"), by_work(results.rows, "good")
    assert (bad["bulk"].ok, bad["bulk"].value, bad["bulk"].error) == (False, None, "bad client: too much")
    assert bad["connect"].ok
    assert good["bulk"].ok


@pytest.mark.parametrize(
    ("behaviour", "error"), [("die=bulk", "bad client ended"), ("hang=bulk", "bad client is late")]
)
async def test_a_pair_that_is_gone_is_replaced_for_the_next_work(
    behaviour: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "RUN_S", 2.0)
    rows = by_work((await run(plan({"bad": fake(behaviour)}, "bulk", "connect"), tmp_path)).rows, "bad")
    assert not rows["bulk"].ok
    assert rows["bulk"].error.startswith(error)
    assert rows["connect"].ok


async def test_a_stack_that_does_not_start_fails_every_work_and_is_tried_once_a_repetition(tmp_path: Path) -> None:
    rows = (await run(plan({"bad": fake("die")}, "unary_1", "bulk", reps=2), tmp_path)).rows
    assert [row.error for row in rows] == ["bad server ended; it wrote: no such luck"] * 4
    assert len(list(await trio.Path(tmp_path).glob("bad server *.log"))) == 2


async def test_a_run_that_takes_too_long_as_a_whole_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RUN_LIMIT_S", 0.2)
    (row,) = (await run(plan({"bad": fake("mute")}, "bulk"), tmp_path)).rows
    assert (row.ok, row.error) == (False, "late: not done within 0.2 s")


async def test_a_stack_that_cannot_be_prepared_has_failed_rows(tmp_path: Path) -> None:
    chosen = plan({"good": fake()}, "bulk", unprepared={"js": "there is no node"})
    rows = (await run(chosen, tmp_path)).rows
    assert {(row.stack, row.ok, row.error) for row in rows} == {("good", True, ""), ("js", False, "there is no node")}


async def test_the_load_is_read_before_each_run(tmp_path: Path) -> None:
    (row,) = (await run(plan({"fake": fake()}, "bulk"), tmp_path)).rows
    assert set(row.load) == {"psi_cpu_some_avg10", "loadavg_1m", "steal_percent_before", "steal_percent_during"}


class TestCommand:
    """The program's exit code and arguments."""

    @pytest.fixture(autouse=True)
    def _fake_stacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def prepare(name: str, cache: Path) -> list[str]:
            if name == "js":
                raise StackMissingError("js cannot be prepared: no node")
            return fake()

        monkeypatch.setattr(command, "prepare", prepare)

    def test_all_is_well_when_every_row_is_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--quick", "--stacks", "tcp,hostmesh", "--works", "unary_1", "--seed", "5"]) == 0
        written = capsys.readouterr()
        assert "seed 5" in written.err
        assert "1/1 hostmesh unary_1: 20.0 ops/s" in written.err
        assert "unary_1  tcp" in written.out

    def test_a_stack_that_is_missing_fails_the_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--quick", "--stacks", "js,hostmesh", "--works", "unary_1"]) == 1
        assert "js: js cannot be prepared: no node" in capsys.readouterr().out

    def test_the_file_becomes_the_markdown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "figures.json"
        wanted = ["--quick", "--stacks", "tcp,hostmesh", "--works", "unary_1", "--reps", "2", "--json", str(file)]
        assert command.main(wanted) == 0
        capsys.readouterr()
        assert command.main(["--table", str(file)]) == 0
        assert "| unary calls, one after another (ops/s) | 20.0 (20.0 to 20.0) |" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments", [["--stacks", "tcp,nonsense"], ["--works", "unary_7"], ["--reps", "0"], ["--reps", "few"]]
    )
    def test_wrong_arguments_are_refused(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            command.main(arguments)
        assert caught.value.code == 2
