"""Seeds of one scenario, played in several processes at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar, cast

Result = TypeVar("Result")
_LOOK_S = 0.2
"""How soon a wish to stop is heeded."""

_play: Callable[[int], object] | None = None
"""What a process plays: inherited, so that it need not be picklable."""


def can_fork() -> bool:
    """Whether this system makes processes that inherit what is loaded: not Windows."""
    return "fork" in multiprocessing.get_all_start_methods()


def play_side_by_side(
    play: Callable[[int], Result], seeds: Sequence[int], jobs: int, is_stopped: Callable[[], bool]
) -> Generator[Result | None, None, None]:
    """Yield what comes of each seed, in their order, until they are played or somebody stops it.

    None is yielded for a seed that failed: play it again in this process, and the error comes whole.

    Args:
        play: plays one seed; its result must be picklable, and not None.
        seeds: which.
        jobs: processes, >= 1.
        is_stopped: asked several times a second.
    """
    global _play
    _play = play
    pool = multiprocessing.get_context("fork").Pool(min(jobs, len(seeds)), _begin)
    try:
        played = pool.imap(_play_here, seeds)
        for _ in seeds:
            while True:
                if is_stopped():
                    return
                try:
                    outcome = played.next(_LOOK_S)
                except multiprocessing.TimeoutError:
                    continue
                break
            yield cast("Result | None", outcome)
    finally:
        _play = None
        pool.terminate()
        pool.join()


def _begin() -> None:
    """Leave signals to the parent, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _play_here(seed: int) -> object:
    assert _play is not None
    try:
        return _play(seed)
    except Exception:  # noqa: BLE001 - errors need not be picklable
        return None
