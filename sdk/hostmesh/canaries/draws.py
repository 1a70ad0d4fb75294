"""Choices drawn from random bytes that the caller brings. Pure.

One string of random bytes is stretched with SHAKE-256, so that a plan needs 32 of them however many choices it makes,
and the same bytes make the same choices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

ENTROPY_BYTES = 32
"""Random bytes that each decision takes."""
_BLOCK_BYTES = 1024
_WORD_BYTES = 8
_UNIT = 2.0**-53

_T = TypeVar("_T")


class Draws:
    """Choices in a row, each from the next eight bytes of the stream.

    Args:
        entropy: at least 16 random bytes; never used twice.

    >>> draws = Draws(bytes(32))
    >>> 0 <= draws.below(6) < 6 and 0.0 < draws.unit() < 1.0
    True
    """

    def __init__(self, entropy: bytes) -> None:
        if len(entropy) < 16:
            raise ValueError("16 random bytes or more")
        self._entropy = bytes(entropy)
        self._blocks = 0
        self._stream = b""
        self._at = 0

    def _word(self) -> int:
        if self._at == len(self._stream):
            count = self._blocks.to_bytes(8, "big")
            self._stream = hashlib.shake_256(b"hostmesh-canary-draws" + count + self._entropy).digest(_BLOCK_BYTES)
            self._blocks += 1
            self._at = 0
        word = self._stream[self._at : self._at + _WORD_BYTES]
        self._at += _WORD_BYTES
        return int.from_bytes(word, "big")

    def below(self, n: int) -> int:
        """Return a whole number in [0, n). Its bias is below n / 2**64.

        Args:
            n: 1 or more.
        """
        if n < 1:
            raise ValueError("nothing to choose from")
        return self._word() * n >> 64

    def unit(self) -> float:
        """Return a number in (0, 1), neither end included."""
        return ((self._word() >> 11) + 0.5) * _UNIT

    def exponential(self) -> float:
        """Return an exponentially distributed number with mean 1, > 0."""
        return -math.log(self.unit())

    def choice(self, items: Sequence[_T]) -> _T:
        """Return one of the items, each as likely as the others."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """Return the items in a random order."""
        rest = list(items)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest
