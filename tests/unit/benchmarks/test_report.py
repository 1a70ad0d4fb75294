"""The JSON file's shape, and the tables that are made of it."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.transport.report import build_report, format_markdown, format_text, number, rows_of
from tests.unit.benchmarks.kit import row

MACHINE = {"cpu": "A CPU", "cores": 2, "memory_mib": 1, "kernel": "6.1", "system": "Linux x86_64", "python": "3.11.7"}


def report(*rows: Any, stacks: tuple[str, ...] = ("grpc", "hostmesh"), reps: int = 1) -> dict[str, Any]:
    built = build_report(
        rows,
        stacks=stacks,
        works=["unary_1", "unary_32"],
        reps=reps,
        quick=False,
        settings={"grpc": {"tuned": "well"}},
        machine=MACHINE,
        seed=7,
        started_at="2026-01-01T00:00:00+00:00",
    )
    # What a reader of the file gets.
    return json.loads(json.dumps(built))


def complete() -> dict[str, Any]:
    return report(
        row("grpc", value=100.0, load={"psi_cpu_some_avg10": 3.0}),
        row("hostmesh", value=150.0),
        row("grpc", "unary_32", value=1000.0),
        row("hostmesh", "unary_32", value=1500.0),
    )


def test_the_file_has_what_its_readers_need() -> None:
    found = complete()
    assert found["seed"] == 7
    assert found["started_at"] == "2026-01-01T00:00:00+00:00"
    assert found["machine"] == MACHINE
    assert found["settings"] == {"grpc": {"tuned": "well"}}
    assert found["ratios"]["unary_1"] == {"grpc": {"median": 1.5, "min": 1.5, "max": 1.5}}
    assert found["cpu_ratios"]["unary_32"]["grpc"]["median"] == 1.5
    assert found["failures"] == []


def test_a_row_tells_stack_work_repetition_value_unit_and_cpu() -> None:
    first = complete()["rows"][0]
    assert first == {
        "stack": "grpc",
        "work": "unary_1",
        "rep": 1,
        "unit": "ops/s",
        "ok": True,
        "value": 100.0,
        "cpu_us_per_op": 100.0,
        "load": {"psi_cpu_some_avg10": 3.0},
    }


def test_a_failed_row_says_why_and_has_no_value() -> None:
    failed = report(row("grpc", value=None))["rows"][0]
    assert (failed["ok"], failed["value"], failed["error"]) == (False, None, "it broke")


def test_rows_come_back_from_the_file() -> None:
    rows = [row("grpc", latency_us={"p50": 1.0, "p99": 2.0}), row("hostmesh", value=None)]
    assert rows_of(report(*rows)) == rows


def test_targets_say_what_was_measured_and_whether_it_is_enough() -> None:
    targets = {(entry["work"], entry["against"], entry["figure"]): entry for entry in complete()["targets"]}
    one = targets["unary_1", "grpc", "ratio"]
    assert (one["must"], one["aim"], one["at_most"]) == (1.2, 1.6, False)
    assert (one["measured"], one["must_met"], one["aim_met"]) == (1.5, True, False)
    many = targets["unary_32", "grpc", "ratio"]
    assert (many["measured"], many["must_met"], many["aim_met"]) == (1.5, False, False)
    assert targets["mem_stream", None, "value"]["measured"] is None


def test_the_table_shows_figures_ratios_and_targets() -> None:
    lines = format_text(complete()).splitlines()
    (grpc,) = [line for line in lines if line.split()[:2] == ["unary_1", "grpc"]]
    assert grpc.split()[2:] == ["100", "ops/s", "100", "1.50", "1.50"]
    (one,) = [line for line in lines if line.startswith("unary calls, one after another, against grpc")]
    assert one.split()[-7:] == ["1.50", ">=", "1.20", "pass", ">=", "1.60", "FAIL"]
    (js,) = [line for line in lines if line.startswith("unary calls, 32 at once, against js")]
    assert "not measured" in js


def test_the_table_ends_with_what_failed_each_reason_once() -> None:
    missing = report(row("grpc", value=None), row("hostmesh"))
    text = format_text(missing)
    assert "grpc: it broke (unary_1)" in text
    assert "grpc: no row (unary_32)" in text
    assert "hostmesh: no row (unary_32)" in text
    assert len(missing["failures"]) == 3


def test_a_busy_machine_is_told() -> None:
    assert "The machine was busy" not in format_text(complete())
    busy = report(row("grpc", load={"psi_cpu_some_avg10": 71.0}))
    assert "CPU pressure up to 71 % before a run" in format_text(busy)


def test_the_markdown_has_a_table_of_each_kind_with_hostmesh_first() -> None:
    text = format_markdown(complete())
    assert text.count("| work | hostmesh | grpc |") == 2
    assert text.count("| work | grpc |") == 2
    assert "| unary calls, one after another (ops/s) | 150 | 100 |" in text
    assert "| unary calls, one after another, against grpc | 1.50 | ≥ 1.20 | pass | ≥ 1.60 | FAIL |" in text


def test_the_markdown_shows_the_spread_of_several_repetitions() -> None:
    rows = [row("hostmesh", rep=rep, value=value) for rep, value in enumerate((9.0, 10.0, 30.0), 1)]
    assert "10.0 (9.00 to 30.0)" in format_markdown(report(*rows, reps=3))


def test_numbers_have_the_digits_they_deserve() -> None:
    assert [number(value) for value in (1234567.0, 99.96, 9.876, 0.1234, 0.0)] == [
        "1 234 567",
        "100.0",
        "9.88",
        "0.123",
        "0.000",
    ]
