"""The wheel installs and runs outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")

pytestmark = pytest.mark.interop


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    result = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--wheel", "--out-dir", out, ROOT, cwd=out)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_the_two_packages_and_their_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"hostmesh", "hostmesh_host"}
    assert {"hostmesh/py.typed", "hostmesh_host/py.typed", "hostmesh_host/engines/minilm/vocab.txt"} <= set(names)
    assert "hostmesh/protoc/include/hostmesh/v1/options.proto" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def first_steps(bin_dir: Path, cwd: Path) -> None:
    home = {"HOSTMESH_HOME": str(cwd / "home")}
    assert run(bin_dir / "hostmesh", "--version", cwd=cwd, **home).strip().endswith("0.1.0")
    run(bin_dir / "hostmesh-host", "--help", cwd=cwd, **home)
    run(bin_dir / "hostmesh", "wallet", "new", "--no-password", cwd=cwd, **home)
    assert "0x" in run(bin_dir / "hostmesh", "wallet", "address", cwd=cwd, **home)
    result = subprocess.run(
        [bin_dir / "hostmesh", "find", "--no-mdns", "--timeout-s", "1"],
        cwd=cwd,
        env=os.environ | home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NO_HOST_FOUND" in result.stderr, result.stderr


def test_uv_tool_install(wheel: Path, tmp_path: Path) -> None:
    run(
        UV, "tool", "install", "--python", sys.executable, "--no-build", wheel,
        cwd=tmp_path, UV_TOOL_DIR=str(tmp_path / "tools"), UV_TOOL_BIN_DIR=str(tmp_path / "bin"),
    )  # fmt: skip
    first_steps(tmp_path / "bin", tmp_path)


def test_pip_install_compiles_nothing(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    run(tmp_path / "venv/bin/pip", "install", "--quiet", "--only-binary", ":all:", wheel, cwd=tmp_path)
    first_steps(tmp_path / "venv/bin", tmp_path)
