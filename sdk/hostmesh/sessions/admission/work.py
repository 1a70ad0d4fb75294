"""Proof of work over a challenge: what a host under attack asks of strangers. Pure.

Work is 8 bytes such that keccak256(nonce || work) begins with as many zero bits as the challenge says. Finding it takes
2**bits hashes on average, and 4.6 times as many once in a hundred; checking it takes one. The nonce is of one host, one
peer and one minute, so that no work is of use twice or elsewhere, and none can be done beforehand.

Source: C. Dwork, M. Naor, "Pricing via Processing or Combatting Junk Mail", 1992; the form is that of
A. Back, "Hashcash", 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.address import keccak256
from hostmesh.identity.typed_data import NONCE_BYTES

WORK_BYTES = 8
MAX_BITS = 32
"""Most that can be asked at all: 2**32 hashes are hours for an honest client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimit:
    """The most work that a client is ready to do for one session.

    Raises:
        ConfigError: ``max_bits`` is not between 0 and 32, or ``max_s`` is not above 0.

    >>> WorkLimit(max_bits=0)  # none: hosts under attack are passed over
    WorkLimit(max_bits=0, max_s=30.0)
    """

    max_bits: int = 20
    """A host that asks for more gets none."""
    max_s: float = 30.0
    """Seconds, on top of the time that opening a session may take. A challenge lives 60 s."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_bits <= MAX_BITS or not self.max_s > 0:
            raise ConfigError(
                "work has 0 to 32 bits and a time above 0 s",
                name="work",
                source="argument",
                remedy="give max_bits from 0 to 32, and max_s above 0",
            )


def zero_bits(digest: bytes) -> int:
    """Return how many bits before the first 1 are 0.

    >>> zero_bits(bytes([0, 0b0001_0000])), zero_bits(bytes(2))
    (11, 16)
    """
    return len(digest) * 8 - int.from_bytes(digest, "big").bit_length()


def is_enough(nonce: bytes, work: bytes, bits: int) -> bool:
    """Tell whether work answers a challenge.

    Args:
        nonce: of the challenge, 32 bytes.
        work: as it came; anything but 8 bytes answers nothing, whatever it hashes to.
        bits: what the challenge asks for; 0 is answered by no work, too.

    Cost: one hash, 15 us.
    """
    if bits <= 0:
        return True
    return len(work) == WORK_BYTES and zero_bits(keccak256(nonce + work)) >= bits


def find_work(nonce: bytes, bits: int, *, first: int, tries: int) -> bytes | None:
    """Try some of the 2**64 candidates, in turn.

    Args:
        nonce: of the challenge, 32 bytes.
        bits: what it asks for, 0 to 32.
        first: the first candidate; a caller that goes on passes it ``first + tries``.
        tries: how many, so that the call is bounded.

    Returns:
        The first candidate that is enough; None: none of these.

    Raises:
        UsageError: no nonce, or bits out of their bounds.

    Cost: 15 us a try.

    >>> work = find_work(bytes(32), 8, first=0, tries=10_000)
    >>> is_enough(bytes(32), work, 8), is_enough(bytes(32), bytes(8), 8)
    (True, False)
    """
    if len(nonce) != NONCE_BYTES or not 0 <= bits <= MAX_BITS:
        raise UsageError("work is done over a nonce of 32 bytes, for 0 to 32 bits")
    # Compared as numbers: a digest of 256 bits begins with enough zeros when it is below this.
    below = 1 << (256 - bits)
    for candidate in range(first, first + tries):
        work = (candidate % 2**64).to_bytes(WORK_BYTES, "big")
        if int.from_bytes(keccak256(nonce + work), "big") < below:
            return work
    return None
