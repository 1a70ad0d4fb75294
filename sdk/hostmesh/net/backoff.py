"""How long to wait before something is tried again. Pure."""

from __future__ import annotations

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
STABLE_S = 10.0
"""A connection that lasted shorter counts as one more failure: a peer that takes us in and ends it at once is not
dialled every second for ever. Chosen here: longer than any handshake."""


def retry_delay_s(
    failures: int, random_unit: float, *, first_s: float = FIRST_RETRY_S, max_s: float = MAX_RETRY_S
) -> float:
    """Return the pause after a number of failures in a row.

    Args:
        failures: >= 1.
        random_unit: 0 to 1, the jitter.
        first_s: the longest pause after the first failure.
        max_s: the longest pause ever.

    Returns:
        Between half and all of ``first_s * 2 ** (failures - 1)``, at most ``max_s``.

    >>> retry_delay_s(1, 0.0), retry_delay_s(3, 1.0), retry_delay_s(1000, 1.0)
    (0.5, 4.0, 60.0)
    """
    longest = min(max_s, first_s * 2.0 ** min(failures - 1, 60))
    return longest * (0.5 + 0.5 * random_unit)


def failures_after_end(failures: int, lasted_s: float) -> int:
    """Return how many failures in a row a connection that has ended leaves: one, or one more if it did not last.

    >>> failures_after_end(5, 3600.0), failures_after_end(5, 0.1)
    (1, 6)
    """
    return 1 if lasted_s >= STABLE_S else failures + 1


def unit_of(random_bytes: bytes) -> float:
    """Return a number from 0 to 1 made of random bytes, at least one of them.

    >>> unit_of(bytes(2)), unit_of(bytes([255, 255]))
    (0.0, 1.0)
    """
    return int.from_bytes(random_bytes, "big") / int.from_bytes(b"\xff" * len(random_bytes), "big")
