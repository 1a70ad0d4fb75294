"""How long one side of a session lets the other keep it waiting. Pure; ``now`` is monotonic seconds.

Somebody who waits holds a place in the engine. Waiting is therefore counted over all jobs of a session together, and
what is countersigned gives time back in proportion: half a slice, the whole patience. So a client that countersigns a
little now and then holds no place for longer than one that countersigns nothing.
"""

from __future__ import annotations

_LEAST_S = 1e-6
"""Less than a clock can tell is nothing."""


class Patience:
    """Of one session.

    Args:
        slice_micros: of the session.
        timeout_s: most time that is waited without a countersignature.

    >>> patience = Patience(slice_micros=100, timeout_s=30.0)
    >>> patience.wait(True, 0.0)
    >>> patience.paid(10, 20.0)
    >>> patience.left_s(20.0)
    16.0
    """

    __slots__ = ("_counted_to", "_is_waiting", "_left_s", "_per_micro_s", "_since", "_timeout_s")

    def __init__(self, *, slice_micros: int, timeout_s: float) -> None:
        self._timeout_s = self._left_s = timeout_s
        # Without a slice there is nothing to countersign.
        self._per_micro_s = 2 * timeout_s / slice_micros if slice_micros else 0.0
        self._is_waiting = False
        self._since: list[float] = []
        self._counted_to = 0.0

    def wait(self, is_waiting: bool, now: float) -> None:
        """Note whether somebody waits from now on."""
        self._count(now)
        self._is_waiting = is_waiting

    def begin(self, since: float, now: float) -> None:
        """Note something that is waited for from a time on, perhaps later than now, until :meth:`end`."""
        self._count(now)
        self._since.append(since)

    def end(self, since: float, now: float) -> None:
        """Note that what :meth:`begin` noted came."""
        self._count(now)
        self._since.remove(since)

    def paid(self, micros: int, now: float) -> None:
        """Note that so much more was countersigned."""
        self._count(now)
        self._left_s = min(self._timeout_s, self._left_s + micros * self._per_micro_s)

    def left_s(self, now: float) -> float:
        """Return how much longer may be waited, seconds; 0: no longer."""
        self._count(now)
        return self._left_s

    def _count(self, now: float) -> None:
        since = self._counted_to
        if not self._is_waiting:
            since = max(since, min(self._since, default=now))
        left_s = self._left_s - max(0.0, now - since)
        self._left_s = left_s if left_s > _LEAST_S else 0.0
        self._counted_to = now
