"""What a host says of its machine: the kernel's own numbers, and GPUs only where a tool names them."""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import pytest
import trio

from hostmesh import Gpu
from hostmesh_host import hardware
from hostmesh_host.hardware import MAX_GPUS, read_gpus, read_hardware

MEMINFO, CPUINFO = (Path("/proc", name).read_text() for name in ("meminfo", "cpuinfo"))


def test_docstring_examples() -> None:
    failed, attempted = doctest.testmod(hardware)
    assert (failed, attempted > 0) == (0, True)


async def test_this_machine_is_as_the_kernel_says() -> None:
    found = await read_hardware()
    assert found.cpu_cores == len(os.sched_getaffinity(0))
    total_kib = next(int(line.split()[1]) for line in MEMINFO.splitlines() if line.startswith("MemTotal"))
    assert found.memory_mib is not None
    assert 0 < found.memory_mib <= total_kib // 1024 + 1
    if found.cpu_model is not None:
        assert found.cpu_model in CPUINFO


async def test_what_is_not_said_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "PROC_CPUINFO", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await read_hardware()
    assert (found.cpu_model, found.gpus) == (None, ())


async def test_the_memory_of_a_group_is_its_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "CGROUP_MEMORY", limit)
    limit.write_text(f"{64 * 1024 * 1024}\n")
    assert (await read_hardware()).memory_mib == 64
    limit.write_text("max\n")
    assert (await read_hardware()).memory_mib != 64


def tool(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_gpus_are_those_that_the_tool_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool(tmp_path, "echo 'Example 9, 24576'; echo 'Example 9, 24576'; echo 'Small, [N/A]'")
    found = await read_hardware()
    assert found.gpus == (Gpu(model="Example 9", memory_mib=24_576, count=2), Gpu(model="Small", count=1))


@pytest.mark.parametrize("script", ["echo 'Example 9, 24576'; exit 9", "echo no driver", "exit 0"])
async def test_a_tool_that_fails_names_none(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool(tmp_path, script)
    assert (await read_hardware()).gpus == ()


async def test_a_tool_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(hardware, "GPU_TIMEOUT_S", 0.2)
    tool(tmp_path, "exec sleep 60")
    with trio.fail_after(10):
        assert (await read_hardware()).gpus == ()


def test_strange_answers_are_bounded() -> None:
    many = "".join(f"GPU {index}, 1\n" for index in range(100))
    assert len(read_gpus(many)) == MAX_GPUS
    (long,) = read_gpus("é" * 100 + ", " + "9" * 40)
    assert len(long.model.encode()) <= 64
    assert long.memory_mib == 999_999_999
    assert read_gpus(", 5\n\nno comma\n") == ()
