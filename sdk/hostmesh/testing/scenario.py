"""Named simulations with a size: what they are made of and what they count. :mod:`.scenario_play` plays them."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.errors import HostmeshError, NoHostFoundError, UsageError
from hostmesh.testing.clock import seeded
from hostmesh.testing.link import LinkProfile
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.trace import Trace

MAX_NODES = 10_000
MAX_SEEDS = 10_000
MAX_MINUTES = 7 * 24 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioSize:
    """How large a scenario is.

    Raises:
        UsageError: too few or too many nodes or minutes.
    """

    nodes: int
    """2 to 10,000."""
    minutes: float
    """Of the simulation, above 0 and at most a week."""
    seeds: int = 1
    """How often it is played, each time under the next seed, 1 to 10,000."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise UsageError(f"no scenario is played {self.seeds} times", remedy=f"choose 1 to {MAX_SEEDS} seeds")
        if not 2 <= self.nodes <= MAX_NODES or not 0 < self.minutes <= MAX_MINUTES:
            raise UsageError(
                f"no scenario has {self.nodes} nodes and {self.minutes:g} minutes",
                remedy=f"choose 2 to {MAX_NODES} nodes, and minutes above 0 and up to {MAX_MINUTES:g}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulation that has a name and counts what comes of it; :func:`~hostmesh.testing.play_scenario` plays it.

    Example::

        async def play(run: ScenarioRun) -> None:
            mesh = await open_mesh(run)
            ...

        quiet = Scenario(name="quiet", summary="nothing happens", play=play, size=ScenarioSize(nodes=10, minutes=5))
    """

    name: str
    summary: str
    """One line."""
    play: Callable[[ScenarioRun], Awaitable[None]]
    """The simulation. Whatever it leaves running is cancelled when it returns."""
    size: ScenarioSize
    """Unless another is wanted."""
    full_size: ScenarioSize | None = None
    """The size of measurements; None: as ``size``."""
    link: LinkProfile = field(default_factory=LinkProfile)
    sum_up: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, object]] | None = None
    """Makes the report's figures of those that it measured under each seed; None: those of the last."""


class ScenarioRun:
    """What a scenario is given, and where it counts.

    Args:
        network: where it takes place.
        size: how large it is.
        seed: fixes every draw.
    """

    def __init__(self, network: SimNetwork, size: ScenarioSize, seed: int) -> None:
        self.network = network
        self.nodes = size.nodes
        self.minutes = size.minutes
        self.seed = seed
        self.miss_reasons: Counter[str] = Counter()
        """Finds that ended in a typed error, by its code and reason."""
        self.find_s: list[float] = []
        """How long each find that gave a host took, in simulated seconds."""
        self.figures: dict[str, object] = {}
        """What else the scenario measured, by name, as JSON takes it."""

    @property
    def answers(self) -> int:
        """Finds that gave a host."""
        return len(self.find_s)

    @property
    def misses(self) -> int:
        """Finds that gave no host."""
        return self.miss_reasons.total()

    @property
    def finds(self) -> int:
        """Finds that ended."""
        return self.answers + self.misses

    def dice(self, *names: object) -> Random:
        """Return a generator of its own for each name; the same for the same seed."""
        return seeded(self.seed, "scenario", *names)

    async def find(self, manager: DiscoveryManager, criteria: HostCriteria) -> HostChoice | None:
        """Find a host and count what comes of it; None for a miss. A find that is cancelled is not counted."""
        began_s = trio.current_time()
        try:
            choice = await manager.find_host(criteria)
        except HostmeshError as error:
            self.miss_reasons[_reason(error)] += 1
            return None
        self.find_s.append(trio.current_time() - began_s)
        return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioReport:
    """What came of a scenario."""

    scenario: str
    nodes: int
    minutes: float
    seed: int
    finds: int
    """``answers`` and ``misses`` together."""
    answers: int
    misses: int
    sim_s: float
    """Seconds that passed in the simulation: the minutes, and what it took to begin and to end."""
    wall_s: float
    """Seconds that it took on this machine."""
    trace_hash: str
    """The same for the same scenario, size, seed, version of hostmesh and hash seed of Python. Of several seeds: of all
    their hashes."""
    miss_reasons: Mapping[str, int]
    figures: Mapping[str, object]
    """What else the scenario measured, by name."""
    machines: tuple[str, ...]
    """All that there were, by name."""
    trace: Trace

    def to_dict(self) -> dict[str, object]:
        """Return all but the machines and the trace as JSON takes it.

        ``figures`` stand beside the rest, but for those that have a name of the report's own.
        """
        report: dict[str, object] = {
            "scenario": self.scenario,
            "nodes": self.nodes,
            "minutes": self.minutes,
            "seed": self.seed,
            "finds": self.finds,
            "answers": self.answers,
            "misses": self.misses,
            "miss_reasons": dict(self.miss_reasons),
        }
        end = {
            "sim_s": round(self.sim_s, 3),
            "wall_s": round(self.wall_s, 3),
            "trace_hash": self.trace_hash,
        }
        return report | {name: value for name, value in self.figures.items() if name not in report} | end


def read_scenario(file: Path) -> Scenario:
    """Return the scenario that a Python file defines, by running the file: it may import what is beside it.

    Raises:
        UsageError: the file cannot be read or run, or does not define exactly one :class:`Scenario`.
    """
    spec = importlib.util.spec_from_file_location("hostmesh_scenario", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise UsageError(f"{file} is no Python file", remedy="name a scenario, or a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} does not run: {error!r}", remedy="mend the file: python " + str(file)) from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Scenario)}
    if len(found) != 1:
        raise UsageError(
            f"{file} defines {len(found)} scenarios", remedy="let it define one hostmesh.testing.Scenario at its top"
        )
    return next(iter(found.values()))


def _reason(error: HostmeshError) -> str:
    """Return the error's code, and of a miss where in the funnel the last hosts went."""
    if not isinstance(error, NoHostFoundError):
        return error.code
    last = [criterion for criterion, count in error.rejected.items() if count]
    return f"{error.code}: {'no host was seen' if not error.seen else last[-1] if last else 'unknown'}"
