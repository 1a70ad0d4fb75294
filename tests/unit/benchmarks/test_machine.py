"""What the kernel tells of the machine's load."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchmarks.transport.machine import CpuTicks, describe, read_psi_avg10, read_ticks, steal_percent


def test_pressure_is_that_of_some_tasks(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    file.write_text(
        "some avg10=12.34 avg60=5.00 avg300=1.00 total=99\nfull avg10=7.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert read_psi_avg10(file) == 12.34


def test_ticks_are_of_all_cores_and_guests_are_not_counted_twice(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text("cpu  100 1 20 1000 3 0 4 50 30 2\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert read_ticks(file) == CpuTicks(total=1178, stolen=50)


def test_steal_is_a_part_of_the_time_between_two_readings() -> None:
    assert steal_percent(CpuTicks(1000, 10), CpuTicks(1400, 30)) == pytest.approx(5.0)


def test_what_the_kernel_does_not_tell_is_none(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert read_psi_avg10(missing) is None
    assert read_ticks(missing) is None
    assert steal_percent(None, CpuTicks(1, 0)) is None
    assert steal_percent(CpuTicks(1, 0), CpuTicks(1, 0)) is None


def test_the_machine_is_described() -> None:
    found = describe()
    assert {"cpu", "cores", "memory_mib", "kernel", "system", "python"} == set(found)
    assert isinstance(found["cores"], int)
    assert found["cores"] >= 1
