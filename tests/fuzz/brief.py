"""A few hundred runs of a target in this process: random harm to its seeds, no coverage, nothing to install.

This is no fuzzer: it finds what lies near the seeds. It keeps the targets honest between real runs (tests do it), and
shows that a target sees a bug that somebody planted.
"""

from __future__ import annotations

import random

from tests.fuzz.target import Target


class FoundError(Exception):
    """A run raised; ``data`` is its input."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"{data.hex()} breaks a promise")
        self.data = data


def run_briefly(target: Target, executions: int, *, seed: int = 0) -> None:
    """Run the seeds, and then inputs made of them.

    Raises:
        FoundError: a run raised.
    """
    rng = random.Random(seed)
    seeds = list(target.seeds())
    rng.shuffle(seeds)
    for number in range(executions):
        data = seeds[number] if number < len(seeds) else harmed(rng, seeds)[: target.max_bytes]
        try:
            target.run(data)
        except Exception as error:
            raise FoundError(data) from error


def harmed(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed with one to four changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 12, 40))
        match rng.randrange(6):
            case 0 if data:
                data[place % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[place % len(data)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2:
                data[place:place] = rng.randbytes(length)
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[rng.randrange(len(data) + 1) :][:length]
            case 5:
                other = rng.choice(seeds)
                data[place:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)
