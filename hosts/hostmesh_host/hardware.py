"""What this machine is, as far as it can be known: the operating system's word, and nvidia-smi's where it answers."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

import trio

from hostmesh import Gpu, Hardware

PROC_CPUINFO = Path("/proc/cpuinfo")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
GPU_TIMEOUT_S = 5.0
MAX_GPUS = 16
"""Kinds of them that a record may name."""
_MAX_ANSWER_BYTES = 64 * 1024
_MIB = 1024 * 1024


async def read_hardware() -> Hardware:
    """Return what this machine is; None stands for what it does not say.

    Cancellation: safe. Cost: at most 5 s where there is an nvidia-smi that does not answer.
    """
    return Hardware(
        cpu_model=_cpu_model(PROC_CPUINFO),
        cpu_cores=len(os.sched_getaffinity(0)),
        memory_mib=_memory_mib(CGROUP_MEMORY),
        gpus=await _gpus(),
    )


def _cpu_model(cpuinfo: Path) -> str | None:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == "model name")
    return _short(next(names, ""))


def _memory_mib(cgroup: Path) -> int | None:
    """Return what this process may use: all of the machine's, or what its group is given."""
    try:
        bytes_ = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    try:
        limit = cgroup.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        limit = "max"
    if limit.isdecimal():
        bytes_ = min(bytes_, int(limit))
    return bytes_ // _MIB or None


async def _gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        with trio.move_on_after(GPU_TIMEOUT_S):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            if done.returncode == 0:
                return read_gpus(done.stdout[:_MAX_ANSWER_BYTES].decode(errors="replace"))
    except OSError:
        pass  # it is there and cannot be run
    return ()


def read_gpus(answer: str) -> tuple[Gpu, ...]:
    r"""Return the GPUs of an answer of nvidia-smi, those that are alike as one entry. Pure.

    >>> read_gpus("NVIDIA A100, 40960\nNVIDIA A100, 40960\nOther, [N/A]\n")[0]
    Gpu(model='NVIDIA A100', memory_mib=40960, count=2)
    """
    counts: dict[tuple[str, int | None], int] = {}
    for line in answer.splitlines():
        name, comma, memory = line.rpartition(",")
        model = _short(name.strip()) if comma else None
        if model is not None:
            text = memory.strip()
            kind = (model, int(text[:9]) or None if text.isdecimal() else None)
            counts[kind] = counts.get(kind, 0) + 1
    kinds = (Gpu(model=model, memory_mib=memory, count=count) for (model, memory), count in counts.items())
    return tuple(islice(kinds, MAX_GPUS))


def _short(text: str) -> str | None:
    return text.encode()[:64].decode(errors="ignore") or None
