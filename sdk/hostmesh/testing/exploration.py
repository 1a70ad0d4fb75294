"""Finds bugs by random schedules: plays many, checks what must always hold, and makes small the first that breaks it.

A :class:`SimWorld` draws schedules and plays them. A schedule is a tuple of steps: frozen dataclasses with a time
``at_s``, the kit's own :class:`NetworkEvent` and :class:`StreamFault` among them, and such that leaving any out leaves
a schedule. Invariants are functions of the account that the world keeps of a play.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from hostmesh.testing.clock import seeded
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.run import SimOptions, SimRun, run_sim
from hostmesh.testing.shrinking import Schedule, Shrunk, shrink
from hostmesh.testing.trace import Trace

AccountT = TypeVar("AccountT")
_AccountT_contra = TypeVar("_AccountT_contra", contravariant=True)
_AccountT_co = TypeVar("_AccountT_co", covariant=True)

PLAYED = "the world plays to its end"
"""Stands where an invariant's name does when playing raised an error."""


class Invariant(Protocol[_AccountT_contra]):
    """Something that holds whatever happens."""

    def __call__(self, account: _AccountT_contra, /) -> Iterable[str]:
        """Return what breaks it in this account, a line each; nothing when it holds."""
        ...


class SimWorld(Protocol[_AccountT_co]):
    """What schedules are drawn for and played in. :class:`MeshWorld` is one."""

    @property
    def options(self) -> SimOptions:
        """Of the simulations."""
        ...

    def draw(self, seed: int) -> Schedule:
        """Return the schedule of a seed."""
        ...

    async def play(self, net: SimNetwork, schedule: Schedule) -> _AccountT_co:
        """Make the machines, let everything of the schedule happen, and return what came of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """An invariant that did not hold."""

    invariant: str
    """Its name."""
    what: str
    """One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play(Generic[AccountT]):
    """One schedule, played once."""

    account: AccountT | None
    """None = playing raised an error, which is a breach."""
    breaches: tuple[Breach, ...]
    trace: Trace | None
    sim_s: float

    def breaks(self, invariant: str) -> bool:
        """Tell whether it broke this invariant."""
        return any(breach.invariant == invariant for breach in self.breaches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A seed whose schedule broke an invariant."""

    seed: int
    """Of the schedule and of the simulation."""
    schedule: Schedule
    """As it was drawn."""
    breaches: tuple[Breach, ...]
    """What it broke."""
    shrunk: Shrunk | None
    """A smaller schedule that breaks the first of these invariants; None = it was not asked for."""
    shrunk_breaches: tuple[Breach, ...]
    """What the smaller one breaks."""

    @property
    def smallest(self) -> Schedule:
        """The smallest schedule that is known to fail."""
        return self.schedule if self.shrunk is None else self.shrunk.schedule

    def text(self) -> str:
        """Return a report to read, with the schedule as Python."""
        breaches = self.shrunk_breaches or self.breaches
        lines = [f"seed {self.seed}: {len(self.schedule)} steps broke what must hold"]
        if self.shrunk is not None:
            suffix = "" if self.shrunk.is_minimal else ", perhaps not the fewest"
            lines.append(f"{len(self.smallest)} of them are enough{suffix} ({self.shrunk.runs} runs):")
        lines += [f"  {breach.invariant}: {breach.what}" for breach in breaches]
        return "\n".join([*lines, f"seed = {self.seed}", f"schedule = {as_python(self.smallest)}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What exploring came to."""

    violations: tuple[Violation, ...]
    plays: int
    """Schedules played, without those of shrinking."""
    sim_s: float
    """Seconds of the simulation in these."""
    wall_s: float
    """Seconds that everything took."""


def play_schedule(
    world: SimWorld[AccountT], schedule: Schedule, *, seed: int, invariants: Mapping[str, Invariant[AccountT]]
) -> Play[AccountT]:
    """Play one schedule and check the invariants. The same arguments give the same play; see :func:`run_sim`.

    An error out of the world is a breach of :data:`PLAYED`, and no error here.
    """

    async def main(net: SimNetwork) -> AccountT:
        return await world.play(net, schedule)

    try:
        run: SimRun[AccountT] = run_sim(main, seed=seed, network=world.options)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        breach = Breach(invariant=PLAYED, what=f"{type(error).__name__}: {error}")
        return Play(account=None, breaches=(breach,), trace=None, sim_s=0.0)
    breaches = tuple(
        Breach(invariant=name, what=what) for name, check in invariants.items() for what in check(run.result)
    )
    return Play(account=run.result, breaches=breaches, trace=run.trace, sim_s=run.sim_s)


def explore(
    world: SimWorld[AccountT],
    seeds: Iterable[int],
    *,
    invariants: Mapping[str, Invariant[AccountT]],
    max_violations: int = 1,
    max_shrink_runs: int = 200,
    on_play: Callable[[int, Play[AccountT]], None] | None = None,
) -> Exploration:
    """Play the schedule of each seed until one breaks an invariant, and shrink it.

    Args:
        world: draws the schedules and plays them.
        seeds: in this order.
        invariants: by name; all are checked after each play.
        max_violations: stop after so many seeds that broke any, >= 1.
        max_shrink_runs: most plays to shrink one; 0 = do not shrink.
        on_play: told of each seed's play.

    Cost: a play for each seed, and up to ``max_shrink_runs`` for each violation.
    """
    began_s = time.perf_counter()
    violations: list[Violation] = []
    plays, sim_s = 0, 0.0
    for seed in seeds:
        schedule = world.draw(seed)
        play = play_schedule(world, schedule, seed=seed, invariants=invariants)
        plays += 1
        sim_s += play.sim_s
        if on_play is not None:
            on_play(seed, play)
        if play.breaches:
            violations.append(_small(world, schedule, seed, invariants, play, max_shrink_runs))
            if len(violations) >= max_violations:
                break
    return Exploration(violations=tuple(violations), plays=plays, sim_s=sim_s, wall_s=time.perf_counter() - began_s)


def _small(
    world: SimWorld[AccountT],
    schedule: Schedule,
    seed: int,
    invariants: Mapping[str, Invariant[AccountT]],
    play: Play[AccountT],
    max_runs: int,
) -> Violation:
    wanted = play.breaches[0].invariant
    shrunk: Shrunk | None = None
    breaches: tuple[Breach, ...] = ()
    if max_runs:
        # Only the invariant in question: what a smaller schedule breaks instead would be another bug.
        asked = {name: check for name, check in invariants.items() if name == wanted}

        def fails(tried: Schedule) -> bool:
            nonlocal breaches
            smaller = play_schedule(world, tried, seed=seed, invariants=asked)
            if smaller.breaks(wanted):
                breaches = smaller.breaches
                return True
            return False

        shrunk = shrink(schedule, fails, max_runs=max_runs)
    return Violation(seed=seed, schedule=schedule, breaches=play.breaches, shrunk=shrunk, shrunk_breaches=breaches)


# --- schedules ---


def draw_times(seed: int, count: int, *, span_s: float, round_s: float = 30.0) -> list[float]:
    """Return times for the steps of a schedule, rising.

    Half of them come soon after another, since what goes wrong is mostly what happens at once; a quarter about a round
    time, when the timers of software run out; the others anywhere.

    Args:
        seed: fixes them.
        count: how many.
        span_s: they lie between 0 and this.
        round_s: a time is round when it is a multiple of this.

    >>> [round(time_s, 1) for time_s in draw_times(1, 4, span_s=60)] == sorted(
    ...     round(time_s, 1) for time_s in draw_times(1, 4, span_s=60)
    ... )
    True
    """
    dice = seeded(seed, "times")
    times: list[float] = []
    for _ in range(count):
        way = dice.randrange(4)
        if way < 2 and times:
            time_s = dice.choice(times) + dice.expovariate(1.0)
        elif way == 2 and span_s >= round_s:
            time_s = round_s * dice.randint(1, int(span_s / round_s)) + dice.uniform(-2.0, 2.0)
        else:
            time_s = dice.uniform(0.0, span_s)
        times.append(min(max(0.0, time_s), span_s))
    return sorted(times)


def as_python(value: object) -> str:
    """Return a schedule, or any value in one, as Python; fields that have their defaults are left out.

    >>> from hostmesh.testing import EventKind, NetworkEvent
    >>> print(as_python((NetworkEvent(kind=EventKind.FREEZE, machines=("ann",), at_s=1.5),)))
    (
        NetworkEvent(kind=EventKind.FREEZE, machines=('ann',), at_s=1.5),
    )
    """
    if isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
        return "(\n" + "".join(f"    {as_python(step)},\n" for step in value) + ")"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({', '.join(_fields_of(value))})"
    return repr(value)


def _fields_of(step: Any) -> Iterator[str]:
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        if value != field.default:
            yield f"{field.name}={as_python(value)}"
