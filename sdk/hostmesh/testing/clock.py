"""Clocks and randomness of simulated machines, all of them functions of the seed and of the simulation's time."""

from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from hostmesh.system import System

EPOCH_UNIX_S = 1_700_000_000.0
"""The wall clock when a simulation starts."""


def seeded(seed: int, *names: object) -> random.Random:
    """Return a generator of its own for each name under a seed; the same in every process.

    >>> seeded(1, "ann").random() == seeded(1, "ann").random() != seeded(2, "ann").random()
    True
    """
    return random.Random("/".join(map(str, (seed, *names))))  # noqa: S311 - a simulation's dice; text is hashed by SHA-512


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
