"""What a fuzz target is, and what its harness needs to read choices out of bytes."""

from __future__ import annotations

import importlib
import itertools
import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class BrokenPromiseError(AssertionError):
    """A parser did something that it says it never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser under fuzz.

    A run is a function of its bytes alone, and raises :class:`BrokenPromiseError`, or whatever else the parser let
    through, when the parser breaks a promise.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to begin with, made from valid conversations."""
    code: tuple[str, ...]
    """Modules, or ``module:qualified name``, whose branches the target is to reach."""
    max_bytes: int = 4096
    """Of an input."""


TARGETS = {
    "framing": "tests.fuzz.framing_target",
    "handshake": "tests.fuzz.handshake_target",
    "messages": "tests.fuzz.messages_target",
    "multistream": "tests.fuzz.multistream_target",
    "noise_channel": "tests.fuzz.noise_channel_target",
    "noise_handshake": "tests.fuzz.noise_handshake_target",
    "rpc": "tests.fuzz.rpc_target",
    "yamux_frames": "tests.fuzz.yamux_frames_target",
    "yamux_operations": "tests.fuzz.yamux_operations_target",
}
"""Where each target stands. Not imported here: the engine wants to see the parser's import."""


def load(name: str) -> Target:
    """Return a target by its name."""
    target = importlib.import_module(TARGETS[name]).TARGET
    assert isinstance(target, Target)
    return target


def promise(kept: object, says: str) -> None:
    """Raise for a promise that was not kept."""
    if not kept:
        raise BrokenPromiseError(says)


def cut(data: bytes, *, salt: int = 0) -> list[bytes]:
    """Return the data in pieces, cut at places that depend on the data alone."""
    rng = random.Random(zlib.crc32(data) + salt)
    count = rng.choice((1, 2, 3, 8, min(len(data), 200)))
    places = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(count)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


class Choices:
    """Reads choices out of fuzz bytes; zeros once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """Return the next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, size: int) -> int:
        """Return a number of so many bytes."""
        return int.from_bytes(bytes(self.byte() for _ in range(size)), "big")

    def take(self, size: int) -> bytes:
        """Return up to so many bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """Return what was not read."""
        return self.take(len(self._data))
