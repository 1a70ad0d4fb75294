"""What may happen in a :class:`MeshWorld`: the operations of hosts and clients, and schedules of them. Pure.

Each is a plain frozen value; one that cannot happen when its time comes (the machine is off, the host has left) is
passed over. So leaving any out of a schedule leaves a schedule.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hostmesh.testing.clock import seeded
from hostmesh.testing.exploration import draw_times
from hostmesh.testing.faults import EventKind, FaultKind, NetworkEvent, StreamFault
from hostmesh.testing.shrinking import Schedule

FIND_TIMEOUT_S = 10.0
MAX_STEP_S = 5.0
"""Most that one step moves a machine's clock; readers allow 30 s."""
_LARGE_BYTES = 600_000
_FOCUS = 0.7
"""How much of a schedule is about the same host, and about the same client."""
_TROUBLE = 0.6
"""How many operations meet trouble of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A client looks for a host."""

    machine: str
    at_s: float
    timeout_s: float = FIND_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    """A client looks for a host, opens a session and runs a job there, whose prompt nothing else has."""

    machine: str
    at_s: float
    words: int = 8
    """Of the answer, one token each."""
    word_bytes: int = 8
    prompt_bytes: int = 0
    """Sent before the prompt, at most 1,000,000: more than 262,144 is more than a stream's window."""
    timeout_s: float | None = None
    """Of the job; None = it ends when it ends."""
    read_every_s: float = 0.0
    """The client waits so long before it reads on."""
    leave_after_s: float | None = None
    """The client leaves the job so long after it was accepted; None = it reads to the end."""
    repeats: bool = True
    """Where the path failed, the same is asked for again under the same quote, which is good for one job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A client watches the load of a host from then on, again when the watch is lost."""

    machine: str
    host: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A host announces another price."""

    machine: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """A host takes its record back, goes on with its jobs, and announces itself again."""

    machine: str
    at_s: float
    for_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A host stops serving while its node runs on, and serves again."""

    machine: str
    at_s: float
    for_s: float = 20.0
    drain_s: float = 0.0
    """So long it lets its jobs go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A program ends in order and starts again on the same machine. For one that is killed see :class:`EventKind`."""

    machine: str
    at_s: float
    for_s: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDies:
    """A host's engine dies and comes back."""

    machine: str
    at_s: float
    for_s: float = 5.0


Operation = Find | RunJob | Watch | Change | Withdraw | Leave | Restart | EngineDies
Step = Operation | NetworkEvent | StreamFault


def end_of(step: Step) -> float:
    """Return when a step's own time is over."""
    if isinstance(step, NetworkEvent) and step.kind in (EventKind.STEP_CLOCK, EventKind.KILL):
        return step.at_s
    return step.at_s + getattr(step, "for_s", 0.0) + getattr(step, "drain_s", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSource:
    """Draws schedules.

    Args:
        others: machines that are neither hosts nor clients.
        hosts: serve.
        clients: ask.
        start_s: nothing happens before.
        span_s: within so many seconds from then on.
        min_steps: fewest steps of a schedule, beside the trouble that some of them meet.
        max_steps: most.
    """

    others: Sequence[str]
    hosts: Sequence[str]
    clients: Sequence[str]
    start_s: float
    span_s: float = 150.0
    min_steps: int = 6
    max_steps: int = 16

    def draw(self, seed: int) -> Schedule:
        """Return the schedule of a seed, in the order of time."""
        dice = seeded(seed, "steps")
        count = dice.randint(self.min_steps, self.max_steps)
        # Rounded, so that what is printed is what was played.
        times = [round(self.start_s + at_s, 3) for at_s in draw_times(seed, count, span_s=self.span_s)]
        # Most of it happens to one host and one client: what goes wrong between two strangers hits nobody's work.
        focus = dice.choice(self.hosts), dice.choice(self.clients)
        steps: list[Step] = []
        for at_s in times:
            host, client = self._pair(dice, *focus)
            step = self._step(dice, at_s, host, client)
            steps.append(step)
            if not isinstance(step, NetworkEvent | StreamFault) and dice.random() < _TROUBLE:
                # Amid it, mostly: a job takes some seconds.
                trouble_at_s = round(at_s + dice.expovariate(0.7), 3)
                trouble = self._event if dice.random() < 0.5 else self._fault
                steps.append(trouble(dice, trouble_at_s, host, client))
        return tuple(sorted(steps, key=lambda step: step.at_s))

    def _pair(self, dice: random.Random, host: str, client: str) -> tuple[str, str]:
        return (
            host if dice.random() < _FOCUS else dice.choice(self.hosts),
            client if dice.random() < _FOCUS else dice.choice(self.clients),
        )

    def _step(self, dice: random.Random, at_s: float, host: str, client: str) -> Step:
        ways = {
            "find": 3,
            "job": 5,
            "watch": 2,
            "change": 1,
            "withdraw": 1,
            "leave": 2,
            "restart": 1,
            "engine": 0.5,
            "event": 1,
            "fault": 1,
        }
        match dice.choices([*ways], [*ways.values()])[0]:
            case "find":
                return Find(machine=client, at_s=at_s, timeout_s=dice.choice([FIND_TIMEOUT_S, 1.0, 3.0]))
            case "job":
                return self._job(dice, client, at_s)
            case "watch":
                return Watch(machine=client, host=host, at_s=at_s)
            case "change":
                return Change(machine=host, at_s=at_s)
            case "withdraw":
                return Withdraw(machine=host, at_s=at_s, for_s=1.0 + _some_s(dice, 60))
            case "leave":
                return Leave(
                    machine=host,
                    at_s=at_s,
                    for_s=1.0 + _some_s(dice, 60),
                    drain_s=dice.choice([0.0, 0.0, _some_s(dice, 5)]),
                )
            case "restart":
                return Restart(machine=dice.choice([host, client, *self.others]), at_s=at_s, for_s=_some_s(dice, 20))
            case "engine":
                return EngineDies(machine=host, at_s=at_s, for_s=_some_s(dice, 20))
            case "event":
                return self._event(dice, at_s, host, client)
            case _:
                return self._fault(dice, at_s, host, client)

    def _job(self, dice: random.Random, client: str, at_s: float) -> RunJob:
        job = RunJob(machine=client, at_s=at_s, words=dice.choice([4, 20, 100]))
        match dice.randrange(8):
            case 0:  # a large answer
                job = replace(job, word_bytes=4096, words=dice.choice([10, 75]))
            case 1 | 2:  # a large prompt
                job = replace(job, prompt_bytes=dice.choice([100_000, 300_000, _LARGE_BYTES]))
            case 3:
                job = replace(job, timeout_s=_some_s(dice, 10))
            case 4:
                job = replace(job, read_every_s=round(dice.uniform(0.0, 0.5), 3))
        if dice.random() < 0.3:
            job = replace(job, leave_after_s=dice.choice([0.0, round(dice.expovariate(1.0), 3)]))
        return job

    def _event(self, dice: random.Random, at_s: float, host: str, client: str) -> NetworkEvent:
        kind = dice.choice([*EventKind])
        if kind in (EventKind.CUT, EventKind.STALL):
            machines = tuple(dice.sample([host, client, *self.others], 2))
        else:
            machines = (dice.choice([host, client, *self.others]),)
        for_s = _some_s(dice, 60)
        if kind is EventKind.STEP_CLOCK:
            for_s = round(dice.uniform(-MAX_STEP_S, MAX_STEP_S), 1)
        return NetworkEvent(kind=kind, machines=machines, at_s=at_s, for_s=for_s)

    def _fault(self, dice: random.Random, at_s: float, host: str, client: str) -> StreamFault:
        ends = [host, dice.choice([client, client, client, *self.others])]
        dice.shuffle(ends)
        kind = dice.choice([*FaultKind])
        fault = StreamFault(kind=kind, source=ends[0], target=ends[1], at_s=at_s, for_s=_some_s(dice, 20))
        match dice.randrange(3):
            case 0:  # amid a handshake or a short call
                fault = replace(fault, after_bytes=int(10 ** dice.uniform(1, 5)))
            case 1:  # amid a large prompt or answer
                fault = replace(fault, after_bytes=dice.randrange(_LARGE_BYTES))
        if kind is FaultKind.CORRUPT:
            fault = replace(fault, byte=dice.randrange(64), bit=dice.randrange(8))
        return fault


def _some_s(dice: random.Random, most_s: float) -> float:
    """Return a length: tenths of a second as often as tens of seconds."""
    return round(math.exp(dice.uniform(math.log(0.1), math.log(most_s))), 2)
