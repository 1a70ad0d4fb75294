"""``protos/generate.py --release``: what is written once, and never again."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from hostmesh.schema.compatibility import compare
from hostmesh.schema.files import load_files
from hostmesh.schema.model import read_schema

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with another folder for releases."""
    spec = spec_from_file_location("protos_generate", ROOT / "protos" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RELEASED", tmp_path)
    return module


def test_a_release_is_all_that_is_on_the_wire_now(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--release", "v1-9.9.9"]) == 0
    released = load_files(tmp_path / "v1-9.9.9.binpb")
    assert compare(released, load_files(ROOT / "protos")) == []
    written = {path.name for path in (ROOT / "protos" / "hostmesh" / "v1").glob("*.proto")}
    assert {Path(name).name for name in read_schema(released).files} == written


def test_what_was_released_is_never_written_again(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "old.binpb").write_bytes(b"as it was")
    assert script.main(["--release", "old"]) == 1
    assert (tmp_path / "old.binpb").read_bytes() == b"as it was"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ""])
def test_a_release_is_a_file_of_its_folder(script: ModuleType, tmp_path: Path, name: str) -> None:
    assert script.main(["--release", name]) == 1
    assert not list(tmp_path.parent.glob("elsewhere*"))
    assert not list(tmp_path.rglob("*"))


def test_the_page_in_the_folder_names_a_release_that_is_there() -> None:
    page = (ROOT / "protos" / "released" / "README.md").read_text()
    assert any(path.name in page for path in (ROOT / "protos" / "released").glob("*.binpb"))
