"""Any program of calls, streams, cancellations, drops, reconnects, slow readers and deadlines: each call ends once."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule
from tests.simulated.calls_machine.judge import judge
from tests.simulated.calls_machine.program import (
    Begin,
    Drop,
    Ending,
    Finish,
    HalfClose,
    Harm,
    Leave,
    Read,
    Repair,
    Send,
    Setting,
    Shape,
    Side,
    Step,
    Wait,
    When,
)
from tests.simulated.calls_machine.world import NOTICED_S, play

from hostmesh.errors import StatusCode

SETTINGS = st.builds(
    Setting,
    seed=st.integers(0, 3),
    most_calls=st.sampled_from([256, 2]),
    jitter_s=st.sampled_from([0.0, 0.01]),
    bytes_per_s=st.sampled_from([None, 1e6]),
)
SIDES = st.sampled_from(Side)
TIMEOUTS_S = st.sampled_from([None, 600.0, 30.0, 2.0, 0.05, 0.01])
ENDINGS = st.builds(
    Ending,
    status=st.none() | st.sampled_from(StatusCode),
    reason=st.sampled_from(["", "DRAWN"]),
    retry_after_ms=st.sampled_from([None, 50]),
    when=st.sampled_from([When.AFTER_ALL, When.AFTER_SENDING, When.NOW]),
) | st.builds(Ending, is_bug=st.just(True), when=st.sampled_from(When))
SIZES = st.lists(st.sampled_from([0, 100, 20_000, 60_000]), min_size=1, max_size=3).map(tuple) | st.just((60_000,) * 10)
PAUSES_S = st.sampled_from([0.01, 0.02, 0.05, 1.0, 12.0, 50.0, 200.0])
SOON_S = st.sampled_from([0.0, 0.03, 1.0])
"""What passes after a step. Shorter than a round trip, or enough for what the step begins."""


class Calls(RuleBasedStateMachine):
    """Draws a program, and plays it once it is whole: a simulation lives in one run of trio."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.setting = Setting()
        self.program: list[Step] = []
        self.count = 0
        self.broken = 0

    @initialize(setting=SETTINGS)
    def set_up(self, setting: Setting) -> None:
        self.setting = setting

    def _add(self, step: Step, then_s: float = 0.0) -> None:
        self.program.append(step)
        if then_s:
            self.program.append(Wait(then_s))

    def _begin(self, shape: Shape, timeout_s: float | None, ending: Ending | None, then_s: float, **more: Any) -> int:
        number = self.count
        self.count += 1
        self._add(Begin(number, shape, timeout_s, ending, **more), then_s)
        return number

    @rule(
        target=calls,
        timeout_s=TIMEOUTS_S.filter(bool),
        ending=st.none() | ENDINGS,
        size=st.sampled_from([0, 60_000]),
        attempts=st.sampled_from([1, 3]),
        unavailable=st.integers(0, 3),
        then_s=SOON_S,
    )
    def call(
        self, timeout_s: float, ending: Ending | None, size: int, attempts: int, unavailable: int, then_s: float
    ) -> int:
        more = {"request_bytes": size, "attempts": attempts, "unavailable": unavailable}
        return self._begin(Shape.ONE, timeout_s, ending, then_s, **more)

    @rule(
        target=calls,
        shape=st.sampled_from([Shape.DOWN, Shape.UP, Shape.BOTH]),
        timeout_s=TIMEOUTS_S,
        ending=st.none() | ENDINGS,
        then_s=SOON_S,
    )
    def stream(self, shape: Shape, timeout_s: float | None, ending: Ending | None, then_s: float) -> int:
        return self._begin(shape, timeout_s, ending, then_s)

    @rule(call=calls, side=SIDES, sizes=SIZES, then_s=SOON_S)
    def send(self, call: int, side: Side, sizes: tuple[int, ...], then_s: float) -> None:
        self._add(Send(call, side, sizes), then_s)

    @rule(call=calls, side=SIDES, reads=st.booleans())
    def read_or_not(self, call: int, side: Side, reads: bool) -> None:
        self.program.append(Read(call, side, reads))

    @rule(call=calls)
    def half_close(self, call: int) -> None:
        self.program.append(HalfClose(call))

    @rule(call=calls, ending=ENDINGS, then_s=SOON_S)
    def finish(self, call: int, ending: Ending, then_s: float) -> None:
        self._add(Finish(call, ending), then_s)

    @rule(call=calls, by_cancelling=st.booleans())
    def leave(self, call: int, by_cancelling: bool) -> None:
        self.program.append(Leave(call, by_cancelling))

    @precondition(lambda self: self.count and self.broken < 2)
    @rule(harm=st.sampled_from(Harm), side=SIDES, then_s=SOON_S)
    def drop(self, harm: Harm, side: Side, then_s: float) -> None:
        self.broken += 1
        self._add(Drop(harm, side), then_s)

    @precondition(lambda self: self.broken)
    @rule(then_s=st.sampled_from([0.0, NOTICED_S + 1]))
    def reconnect(self, then_s: float) -> None:
        self.broken = 0
        self.program.append(Repair(then_s))

    @rule(for_s=PAUSES_S)
    def wait(self, for_s: float) -> None:
        self.program.append(Wait(for_s))

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # the program is not whole
        account = play(self.setting, self.program)
        found = judge(account)
        assert not found, "\n".join([*found, f"play({self.setting}, {self.program})"])


Calls.TestCase.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=30, deadline=None)
TestCalls = Calls.TestCase
