"""How fast each model answers a job that has the host to itself, by the jobs that it ran. Pure.

Counted are chat jobs that ended well, ran alone from first to last, had :data:`LEAST_TOKENS` tokens after the first
piece, and were not held up by a client that read slowly. Their time runs from the first piece to the end: a long prompt
makes no model slow. What is said is the median of the last :data:`MAX_JOBS` of a model, said anew when that has moved
by :data:`NEWS`; nothing before there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_JOBS = 32
"""Jobs of each model that are remembered."""
LEAST_TOKENS = 16
"""Fewer say more of the moment at which the last came than of the speed."""
MOST_WAITING = 0.1
"""Part of its time that a job may wait for its client and still count."""
NEWS = 0.1
"""Less than this part is no news to those who watch the host."""
MAX_RATE = 2**32 - 1
"""What a record can say."""


@dataclass(slots=True, eq=False)
class JobPace:
    """The times of one job's answer, in seconds of one clock that never goes back."""

    is_alone: bool = True
    _first: tuple[float, int] | None = None
    _last: tuple[float, int] | None = None
    _waited_s: float = 0.0

    def piece(self, at_s: float, tokens: int) -> None:
        """Note a piece of the answer, with which there are so many tokens."""
        if self._first is None and tokens > 0:
            self._first = (at_s, tokens)

    def waited(self, seconds: float) -> None:
        """Note how long the client kept a piece waiting."""
        self._waited_s += seconds

    def finish(self, at_s: float, tokens: int) -> None:
        """Note the end of the answer, with the tokens of all of it."""
        self._last = (at_s, tokens)

    @property
    def millitokens_per_s(self) -> int | None:
        """Thousandths of a token per second; None = this job says nothing of the engine's speed.

        >>> pace = JobPace()
        >>> pace.piece(2.0, 1)
        >>> pace.finish(4.0, 41)
        >>> pace.millitokens_per_s
        20000
        """
        if not self.is_alone or self._first is None or self._last is None:
            return None
        seconds, tokens = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if tokens < LEAST_TOKENS or seconds <= 0 or self._waited_s > MOST_WAITING * seconds:
            return None
        return min(max(1, round(1000 * tokens / seconds)), MAX_RATE)


class Throughput:
    """What the jobs of a host came to, for each model that it ran."""

    def __init__(self) -> None:
        self._running: dict[JobPace, None] = {}
        self._rates: dict[str, deque[int]] = {}
        self._said: dict[str, int] = {}

    @contextmanager
    def time_job(self, model_id: str) -> Iterator[JobPace]:
        """Yield what notes the times of a job; it counts if the block ends without an error.

        Args:
            model_id: one of the engine's, whose number bounds what is kept.
        """
        pace = JobPace(is_alone=not self._running)
        for other in self._running:
            other.is_alone = False
        self._running[pace] = None
        try:
            yield pace
        finally:
            del self._running[pace]
        if pace.millitokens_per_s is not None:
            self._note(model_id, pace.millitokens_per_s)

    def of(self, model_id: str) -> int | None:
        """Return what is said of a model, in thousandths of a token per second; None = no job counted yet."""
        return self._said.get(model_id)

    def _note(self, model_id: str, rate: int) -> None:
        rates = self._rates.setdefault(model_id, deque(maxlen=MAX_JOBS))
        rates.append(rate)
        median = sorted(rates)[(len(rates) - 1) // 2]
        said = self._said.get(model_id)
        if said is None or abs(median - said) >= NEWS * said:
            self._said[model_id] = median
