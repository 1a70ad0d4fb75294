"""Programs that the machine drew once, and that its judge is not blind beside them."""

from __future__ import annotations

import pytest
from tests.simulated.calls_machine.account import HandlerEnd
from tests.simulated.calls_machine.judge import judge
from tests.simulated.calls_machine.program import Begin, Drop, Ending, Harm, Repair, Setting, Shape, Side, Step, Wait
from tests.simulated.calls_machine.world import play

HELD_BACK: list[Step] = [
    Begin(0, Shape.ONE, 0.01, request_bytes=60_000),
    Begin(1, Shape.ONE, 600.0),
    Wait(0.03),
    Drop(Harm.STALL, Side.CALLER),
    Wait(1.0),
    Repair(0.0),
]
"""The request of call 0 is whole after the stall, long after its caller's time; the rest of it did not go at once."""


def test_a_request_that_a_stall_held_back_gives_its_handler_the_calls_time() -> None:
    account = play(Setting(), HELD_BACK)
    [run] = account.calls[0].runs
    [end] = account.calls[0].ends
    assert end.at_s + 1.0 < run.began_s
    assert judge(account) == []


def test_an_attempt_that_begins_just_before_the_deadline_misses_no_status_of_the_last_one() -> None:
    program = [Begin(0, Shape.ONE, 1.1, Ending(), request_bytes=60_000, attempts=3, unavailable=3)]
    account = play(Setting(seed=21, bytes_per_s=1e6), program)
    call = account.calls[0]
    assert len(call.taps) == len(call.runs) + 1
    assert judge(account) == []
    call.taps.pop()
    assert "its handler ended with UNAVAILABLE" in "\n".join(judge(account))


@pytest.mark.parametrize("stall_after_s", [0.6, 5.0])
def test_a_handler_that_runs_on_is_found_though_something_breaks_later(stall_after_s: float) -> None:
    program: list[Step] = [
        Begin(0, Shape.ONE, 0.05),
        Wait(stall_after_s),
        Drop(Harm.STALL, Side.CALLER),
        Wait(1.0),
        Repair(0.0),
    ]
    account = play(Setting(), program)
    assert judge(account) == []
    [run] = account.calls[0].runs
    run.ends = [HandlerEnd("returned", run.began_s + stall_after_s + 1.0)]
    found = "\n".join(judge(account))
    assert "longer than the call" in found
    assert "beyond the deadline" in found
