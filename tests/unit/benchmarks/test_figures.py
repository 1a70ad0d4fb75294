"""Ratios by repetition, medians, targets, and what is missing."""

from __future__ import annotations

import pytest
from tests.benchmarks.transport.figures import Spread, failures, ratios, spreads, verdicts
from tests.benchmarks.transport.works import TARGETS, Target
from tests.unit.benchmarks.kit import row


def test_a_ratio_is_of_one_repetition_and_only_then_the_median_is_taken() -> None:
    own, other = (10.0, 40.0, 90.0), (10.0, 10.0, 100.0)
    rows = [row("hostmesh", rep=rep, value=value) for rep, value in enumerate(own, 1)]
    rows += [row("grpc", rep=rep, value=value) for rep, value in enumerate(other, 1)]
    # The quotient of the medians would be 4.
    assert ratios(rows) == {"unary_1": {"grpc": Spread(median=1.0, min=0.9, max=4.0, n=3)}}


def test_a_repetition_in_which_either_run_failed_has_no_ratio() -> None:
    rows = [
        row("hostmesh", rep=1, value=2.0),
        row("js", rep=1, value=None),
        row("hostmesh", rep=2, value=None),
        row("js", rep=2, value=5.0),
        row("hostmesh", rep=3, value=6.0),
        row("js", rep=3, value=3.0),
    ]
    assert ratios(rows)["unary_1"]["js"] == Spread(median=2.0, min=2.0, max=2.0, n=1)


def test_a_failed_row_counts_for_nothing_even_when_it_has_a_value() -> None:
    rows = [row("hostmesh"), row("js", value=3.0, ok=False, error="late")]
    assert ratios(rows) == {}
    assert spreads(rows) == {("hostmesh", "unary_1"): Spread(1.0, 1.0, 1.0, 1)}


def test_nothing_is_divided_by_zero() -> None:
    rows = [row("hostmesh", "mem_stream", value=4.0), row("tcp", "mem_stream", value=0.0)]
    assert ratios(rows) == {}


def test_cpu_ratios_are_of_cpu() -> None:
    rows = [row("hostmesh", value=9.0, cpu_us_per_op=50.0), row("stock", value=3.0, cpu_us_per_op=200.0)]
    assert ratios(rows, "cpu_us_per_op")["unary_1"]["stock"].median == 0.25


def test_works_without_operations_have_no_cpu_ratio() -> None:
    rows = [row(stack, "mem_stream", cpu_us_per_op=None) for stack in ("hostmesh", "stock")]
    assert ratios(rows, "cpu_us_per_op") == {}


def test_every_planned_run_without_a_good_row_is_told() -> None:
    rows = [row("tcp", rep=1), row("tcp", rep=2, value=None), row("js", rep=1)]
    assert failures(rows, ["tcp", "js"], ["unary_1"], 2) == [
        "tcp unary_1, repetition 2: it broke",
        "js unary_1, repetition 2: no row",
    ]


def test_a_stack_that_was_left_out_is_not_missed() -> None:
    assert failures([row("tcp")], ["tcp"], ["unary_1"], 1) == []


@pytest.mark.parametrize(
    ("figure", "must_met", "aim_met"), [(1.9, False, False), (2.0, True, False), (5.0, True, True), (7.0, True, True)]
)
def test_a_rate_must_reach_its_target(figure: float, must_met: bool, aim_met: bool) -> None:
    target = Target(work="unary_32", against="grpc", must=2.0, aim=5.0)
    rows = [row("hostmesh", "unary_32", value=figure), row("grpc", "unary_32", value=1.0)]
    (verdict,) = verdicts(rows, [target])
    assert (verdict.measured, verdict.must_met, verdict.aim_met) == (figure, must_met, aim_met)


@pytest.mark.parametrize(
    ("figure", "must_met", "aim_met"), [(0.76, False, False), (0.75, True, False), (0.5, True, True)]
)
def test_a_time_must_stay_below_its_target(figure: float, must_met: bool, aim_met: bool) -> None:
    target = Target(work="connect", against="js", must=0.75, aim=0.5)
    rows = [row("hostmesh", "connect", value=figure), row("js", "connect", value=1.0)]
    (verdict,) = verdicts(rows, [target])
    assert (verdict.must_met, verdict.aim_met) == (must_met, aim_met)


def test_a_cpu_target_takes_the_ratio_of_cpu_and_not_of_rates() -> None:
    target = Target(work="unary_1", against="stock", of_cpu=True, must=0.2, aim=0.1)
    rows = [row("hostmesh", value=100.0, cpu_us_per_op=15.0), row("stock", value=1.0, cpu_us_per_op=100.0)]
    (verdict,) = verdicts(rows, [target])
    assert (verdict.measured, verdict.must_met, verdict.aim_met) == (0.15, True, False)


def test_a_memory_target_takes_hostmeshs_own_median() -> None:
    target = Target(work="mem_stream", must=5.0, aim=4.0)
    rows = [row("hostmesh", "mem_stream", rep=rep, value=value) for rep, value in enumerate((9.0, 4.5, 3.0), 1)]
    (verdict,) = verdicts(rows, [target])
    assert (verdict.measured, verdict.must_met, verdict.aim_met) == (4.5, True, False)


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdicts([row("hostmesh", work) for work in ("unary_1", "unary_32")])
    assert len(found) == len(TARGETS)
    assert {(verdict.measured, verdict.must_met, verdict.aim_met) for verdict in found} == {(None, None, None)}
