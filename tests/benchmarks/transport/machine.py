"""What the machine is, and how busy it is with other things.

Wall times of a machine whose CPU pressure is at 50 % or more say little; the figures are there for a reader to see it.
Linux tells all of it; elsewhere the values are None.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

BUSY_PSI_PERCENT = 50.0
"""CPU pressure above which the printed table warns."""


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Time of all cores since boot, in clock ticks."""

    total: int
    stolen: int


def read_ticks(path: Path = Path("/proc/stat")) -> CpuTicks | None:
    """Return the ticks of all cores so far."""
    try:
        first = path.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    numbers = [int(number) for number in first[1:9]]
    return CpuTicks(total=sum(numbers), stolen=numbers[7]) if len(numbers) == 8 else None


def steal_percent(before: CpuTicks | None, after: CpuTicks | None) -> float | None:
    """Return how much of the cores' time between two readings the hypervisor gave to others."""
    if before is None or after is None or after.total <= before.total:
        return None
    return 100.0 * (after.stolen - before.stolen) / (after.total - before.total)


def read_psi_avg10(path: Path = Path("/proc/pressure/cpu")) -> float | None:
    """Return in percent how much of the last 10 s some task waited for a core."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        kind, *fields = line.split()
        if kind == "some":
            return float(dict(field.split("=") for field in fields)["avg10"])
    return None


class LoadMeter:
    """Samples the load before each run, and the steal from one reading to the next."""

    def __init__(self) -> None:
        self._ticks = read_ticks()

    def before_run(self) -> dict[str, float | None]:
        """Return pressure, load average and the steal since the last reading."""
        return {
            "psi_cpu_some_avg10": read_psi_avg10(),
            "loadavg_1m": os.getloadavg()[0],
            "steal_percent_before": self._steal(),
        }

    def after_run(self) -> dict[str, float | None]:
        """Return the steal while the run went on."""
        return {"steal_percent_during": self._steal()}

    def _steal(self) -> float | None:
        before, self._ticks = self._ticks, read_ticks()
        return steal_percent(before, self._ticks)


def describe() -> dict[str, str | int | None]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": _memory_mib(),
        "kernel": platform.release(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    except (ValueError, OSError):
        return None
