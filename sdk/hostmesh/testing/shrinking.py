"""Makes a failing schedule small: leaves out what is not needed, then makes simple what is. Pure.

The result is a local minimum, unless the runs ended before: leaving out any one of its steps lets the failure go away.
The same schedule and the same answers give the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Schedule = tuple[Any, ...]
"""Steps: frozen dataclasses, each with a time ``at_s``. Leaving any of them out leaves a schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A schedule that still fails, and what finding it took."""

    schedule: Schedule
    runs: int
    """How often the failure was looked for."""
    is_minimal: bool
    """No single step can be left out. False = the runs ended before that was known."""


def shrink(schedule: Sequence[Any], fails: Callable[[Schedule], bool], *, max_runs: int = 200) -> Shrunk:
    """Return a smaller schedule that fails too: fewer steps, then rounder times and smaller sizes.

    Args:
        schedule: one that fails; it is believed, and not run again.
        fails: runs a schedule; whether it fails in the way that is looked for.
        max_runs: most calls of ``fails``.

    >>> @dataclass(frozen=True)
    ... class Step:
    ...     at_s: float
    ...     size: int = 1
    >>> steps = [Step(at_s=number + 0.123, size=40) for number in range(16)]
    >>> found = shrink(steps, lambda tried: sum(step.size for step in tried) >= 80 and tried[-1].at_s > 9)
    >>> found.schedule, found.is_minimal
    ((Step(at_s=8.0, size=40), Step(at_s=9.1, size=40)), True)
    """
    search = _Search(tuple(schedule), fails, max_runs)
    with contextlib.suppress(_OutOfRunsError):
        search.run()
    return Shrunk(schedule=search.best, runs=search.runs, is_minimal=search.is_minimal)


class _OutOfRunsError(Exception):
    """No run is left."""


class _Search:
    def __init__(self, schedule: Schedule, fails: Callable[[Schedule], bool], max_runs: int) -> None:
        self.best = schedule
        self.runs = 0
        self.is_minimal = False
        self._fails = fails
        self._max_runs = max_runs

    def run(self) -> None:
        while not self.is_minimal:
            self._drop_steps()
            self.is_minimal = True
            self._simplify()

    def _takes(self, tried: Schedule) -> bool:
        """Try a schedule, and keep it if it fails."""
        if self.runs >= self._max_runs:
            raise _OutOfRunsError
        self.runs += 1
        if not self._fails(tried):
            return False
        self.best = tried
        return True

    def _drop_steps(self) -> None:
        """Leave out chunks, from half of the schedule down to single steps, until no single one can go.

        The end goes first: what came after the failure is not needed.
        """
        size = max(1, len(self.best) // 2)
        while True:
            is_smaller = False
            end = len(self.best)
            while end > 0:
                start = max(0, end - size)
                if self._takes(self.best[:start] + self.best[end:]):
                    is_smaller = True
                end = start
            if size > 1:
                size //= 2
            elif not is_smaller:
                return

    def _simplify(self) -> None:
        """Give every step simpler values where it fails all the same."""
        for index in range(len(self.best)):
            for field in dataclasses.fields(self.best[index]):
                for value in _simpler(getattr(self.best[index], field.name), field):
                    try:
                        step = dataclasses.replace(self.best[index], **{field.name: value})
                    except ValueError:
                        continue  # the step does not take it
                    if self._takes((*self.best[:index], step, *self.best[index + 1 :])):
                        self.is_minimal = False  # a step that became simpler may need fewer beside it
                        break


def _simpler(value: object, field: dataclasses.Field[Any]) -> Iterator[object]:
    """Return values to put in the place of one, the simplest first: nothing is simpler than the default."""
    if value == field.default:
        return
    tried = [value]
    candidates: list[object] = [] if field.default is dataclasses.MISSING else [field.default]
    if isinstance(value, float):
        candidates += [float(round(value)), round(value, 1)]
    elif isinstance(value, int) and not isinstance(value, bool):
        candidates += [0, value // 2] if value < 10 else [0, 1, 10 ** (len(str(value)) - 1)]
    for candidate in candidates:
        if candidate not in tried:
            tried.append(candidate)
            yield candidate
