"""Medians of wall time, and how a benchmark of them prints."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping

_WARM_UPS = 20


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of one run, after some that do not count."""
    for _ in range(_WARM_UPS):
        work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1e6


def print_medians(measured: Mapping[str, float], *, as_json: bool, **about: int) -> None:
    """Print milliseconds by what was done; as JSON with the machine and what is said about the run."""
    if as_json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), **about}
        print(json.dumps({"median_ms": measured, **machine}))
        return
    for what, ms in measured.items():
        print(f"{what:<48} {ms:9.4f} ms")
