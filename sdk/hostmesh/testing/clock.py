"""Clocks and randomness of simulated machines, all of them functions of the seed and of the simulation's time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from hostmesh.errors import UsageError
from hostmesh.system import System
from hostmesh.testing.agenda import Agenda

_LISTED_TASKS = 10
_IDLE_LOOKS = 20
_LOOK_S = 0.25
"""Real seconds: what a simulation in which nothing will happen is given before it counts as stuck, 5 in all."""
EPOCH_UNIX_S = 1_700_000_000.0
"""The wall clock when a simulation starts."""


def seeded(seed: int, *names: object) -> random.Random:
    """Return a generator of its own for each name under a seed; the same in every process.

    >>> seeded(1, "ann").random() == seeded(1, "ann").random() != seeded(2, "ann").random()
    True
    """
    return random.Random("/".join(map(str, (seed, *names))))  # noqa: S311 - a simulation's dice; text is hashed by SHA-512


class SimStuckError(UsageError):
    """Every task of a simulation waits, and nothing will ever happen: perhaps one waits in a shielded scope."""

    code = "SIM_STUCK"

    def __init__(self, waiting: Sequence[str]) -> None:
        listed = "; ".join(waiting[:_LISTED_TASKS])
        more = f"; and {len(waiting) - _LISTED_TASKS} more" if len(waiting) > _LISTED_TASKS else ""
        super().__init__(
            f"the simulation is stuck: {listed}{more}", remedy="let what waits there end when it is cancelled"
        )
        self.waiting = tuple(waiting)
        """Each task that waits, and where."""


class SimClock(trio.abc.Clock):
    """trio's clock in a simulation: whenever every task waits, it jumps to what comes next.

    trio asks a clock how long it may sleep when no task can run, and at no other time. Then this one jumps to the next
    deadline, or to the next call of an agenda and makes it. ``trio.testing.MockClock`` and a task would do the same
    with two more passes of the scheduler for each jump, half of the time of a simulation whose nodes mostly wait.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._idle_looks = 0
        self._agenda: Agenda | None = None
        self._has_failed = trio.Event()
        self._failure: Exception | None = None

    def start_clock(self) -> None:
        """Begin, at 0."""

    def current_time(self) -> float:
        """Return the seconds of the simulation."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump, unless somebody waits for all others to wait."""
        if GLOBAL_RUN_CONTEXT.runner.waiting_for_idle:
            return math.inf
        agenda = self._agenda
        next_s = deadline if agenda is None else min(deadline, agenda.next_s)
        if next_s == math.inf:
            # trio itself waits for its wake-up socket when it ends.
            self._idle_looks += 1
            if self._idle_looks > _IDLE_LOOKS:
                raise SimStuckError(_waiting_tasks())
            return _LOOK_S
        self._idle_looks = 0
        self._now = max(self._now, next_s)
        if agenda is None or agenda.next_s > self._now:
            return 0.0
        try:
            agenda.do_due(self._now)
        except Exception as error:  # noqa: BLE001 - handed to the task that can raise it
            self._agenda, self._failure = None, error
            self._has_failed.set()
        return 0.0

    async def play(self, agenda: Agenda) -> None:
        """Make the agenda's calls at their times until cancelled.

        Raises:
            Exception: what a call raised.
        """
        self._agenda = agenda
        try:
            await self._has_failed.wait()
        finally:
            self._agenda = None
        assert self._failure is not None
        raise self._failure


def _waiting_tasks() -> list[str]:
    """Return each task of the simulation and the line where it waits."""
    root = trio.lowlevel.current_root_task()
    waiting: list[str] = []
    nurseries = [] if root is None else [*root.child_nurseries]
    while nurseries:
        for task in nurseries.pop().child_tasks:
            nurseries += task.child_nurseries
            frames = [(frame.f_code, line) for frame, line in task.iter_await_frames()]
            if any(code.co_name == "_nested_child_finished" for code, _ in frames):
                continue  # it waits for tasks of its own
            # The last frames are trio's; a person looks for the program's.
            places = [f"{code.co_filename}:{line}" for code, line in frames if "/trio/" not in code.co_filename]
            if places:
                waiting.append(f"{task.name} at {places[-1]}")
    return sorted(waiting)


@dataclass(slots=True)
class MachineClock:
    """The clocks of one machine. They run by trio's time, which is the simulation's.

    Timers of trio itself (deadlines, sleeps) do not drift: they are the simulation's.
    """

    skew_s: float = 0.0
    """How far the wall clock is ahead; may be changed, as when somebody sets the clock."""
    drift: float = 0.0
    """Seconds that both clocks gain a second: 1e-5 is a bad quartz."""

    def monotonic_s(self) -> float:
        """Return seconds since the simulation started."""
        return trio.current_time() * (1.0 + self.drift)

    def unix_s(self) -> float:
        """Return the wall clock, seconds since 1970."""
        return EPOCH_UNIX_S + self.skew_s + self.monotonic_s()


def system_of(clock: MachineClock, dice: random.Random) -> System:
    """Return what a node on the machine takes as its clocks and random bytes."""
    return System(unix_s=clock.unix_s, monotonic_s=clock.monotonic_s, random_bytes=dice.randbytes)
