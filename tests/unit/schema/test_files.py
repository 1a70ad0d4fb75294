"""Sets from disk: what is found, what is refused and with which remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st
from tests.support.proto_text import files_of

from hostmesh.errors import SchemaError
from hostmesh.schema import descriptor_set
from hostmesh.schema import files as module
from hostmesh.schema.change import RULES
from hostmesh.schema.compatibility import compare
from hostmesh.schema.files import load_files
from hostmesh.schema.model import read_schema

ROOT = Path(__file__).resolve().parents[3]
TEXT = """syntax = "proto3"; package acme.v1;
import "hostmesh/v1/options.proto"; import "google/protobuf/timestamp.proto"; %s
message M { string a = 1 [(hostmesh.v1.max_bytes) = 9]; google.protobuf.Timestamp at = 2; }
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_a_folder_and_a_set_say_the_same(tmp_path: Path) -> None:
    file = write(tmp_path, "acme/v1/m.proto", TEXT % "")
    found = [load_files(path) for path in (file, tmp_path, tmp_path / "acme" / "v1")]
    stored = tmp_path / "set.binpb"
    stored.write_bytes(found[0].SerializeToString())
    found.append(load_files(stored))
    for each in found:
        assert read_schema(each).messages["acme.v1.M"].fields[0].max_bytes == 9
        assert [file.name for file in each.file][-1] == "acme/v1/m.proto"
        assert compare(found[0], each) == []


def test_imports_are_found_from_the_package_and_in_named_folders(tmp_path: Path) -> None:
    file = write(tmp_path, "own/acme/v1/m.proto", TEXT % 'import "acme/v1/n.proto"; import "other/o.proto";')
    write(tmp_path, "own/acme/v1/n.proto", 'syntax = "proto3"; package acme.v1; message N {}')
    with pytest.raises(SchemaError, match=r"other/o\.proto") as caught:
        load_files(file)
    assert "--proto-path" in caught.value.remedy
    write(tmp_path, "third/other/o.proto", 'syntax = "proto3"; package other; message O {}')
    assert "other.O" in read_schema(load_files(file, [tmp_path / "third"])).messages


def test_the_repository_s_protos_and_a_copy_of_the_options_are_read() -> None:
    schema = read_schema(load_files(ROOT / "protos"))
    assert {"hostmesh.v1.max_bytes", "hostmesh.v1.version"} <= set(schema.extensions)
    assert schema.services["hostmesh.v1.JobService"].protocol == "job"
    assert "google.protobuf.FieldOptions" not in schema.messages


def test_a_set_without_its_imports_is_read_where_they_are_known() -> None:
    whole = files_of("message M { string a = 1 [(max_bytes) = 9]; }")
    bare = FileDescriptorSet(file=[each for each in whole.file if each.name == "t.proto"])
    assert len(bare.file) < len(whole.file)
    # hostmesh's options were compared too, of the one that has them.
    assert read_schema(bare).messages["t.M"] == read_schema(whole).messages["t.M"]


def test_the_order_of_files_in_a_set_is_nothing() -> None:
    whole = files_of("message M { string a = 1 [(max_bytes) = 9]; }")
    assert compare(whole, FileDescriptorSet(file=reversed(whole.file))) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.binpb", None, "No such file"),
        ("missing.proto", None, "No such file"),
        ("text.binpb", b"hello, world", "no descriptor set"),
        ("empty.binpb", b"", "holds no file"),
        ("broken.proto", b'syntax = "proto3"; message {', "Expected message name"),
        ("binary.proto", b"\x00\xff\x1b]0;", "broken|Invalid|Expected|error"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SchemaError, match=message) as caught:
        read_schema(load_files(path))
    assert caught.value.remedy
    assert caught.value.code == "SCHEMA_INVALID"


def test_names_that_are_no_text() -> None:
    made = FileDescriptorSet()
    made.file.add(name="a.proto", dependency=["b.proto"])
    damaged = FileDescriptorSet.FromString(made.SerializeToString().replace(b"b.", b"\xff."))
    with pytest.raises(SchemaError, match="no UTF-8"):
        read_schema(damaged)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"holds no \.proto file"):
        load_files(tmp_path)


def test_sets_that_are_none() -> None:
    def refusal(*files: dict[str, object]) -> str:
        made = FileDescriptorSet()
        for each in files:
            made.file.add(**each)
        with pytest.raises(SchemaError) as caught:
            read_schema(made, source="x")
        assert caught.value.remedy
        return str(caught.value)

    assert "twice" in refusal({"name": "a.proto"}, {"name": "a.proto"})
    assert "lacks b.proto" in refusal({"name": "a.proto", "dependency": ["b.proto"]})
    assert "lacks google/protobuf/nope.proto" in refusal(
        {"name": "a.proto", "dependency": ["google/protobuf/nope.proto"]}
    )
    assert "import each other" in refusal(
        {"name": "a.proto", "dependency": ["b.proto"]}, {"name": "b.proto", "dependency": ["a.proto"]}
    )
    field = {"name": "f", "number": 1, "label": 1, "type": 11, "type_name": ".no.Where"}
    message = {"name": "M", "field": [field]}
    assert "not valid" in refusal({"name": "a.proto", "syntax": "proto3", "message_type": [message]})


RELEASED = next((ROOT / "protos" / "released").glob("*.binpb")).read_bytes()


@given(st.lists(st.tuples(st.integers(0, len(RELEASED) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_damaged_set_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(RELEASED)
    for position, value in damage:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.binpb"
    path.write_bytes(data)
    try:
        damaged = load_files(path)
        read_schema(damaged)
    except SchemaError:
        return
    assert all(each.kind in RULES for each in compare(FileDescriptorSet.FromString(RELEASED), damaged))


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of("message M { int32 a = 1; int32 b = 2; } enum E { Z = 0; }")
    monkeypatch.setattr(descriptor_set, "MAX_DESCRIPTORS", 3)
    with pytest.raises(SchemaError, match="at most 3 are compared"):
        read_schema(files)
    monkeypatch.setattr(descriptor_set, "MAX_FILES", 1)
    with pytest.raises(SchemaError, match="at most 1 are compared"):
        read_schema(files)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    path = tmp_path / "big.binpb"
    path.write_bytes(b"x" * 11)
    with pytest.raises(SchemaError, match="over 10 bytes"):
        load_files(path)
    monkeypatch.setattr(module, "MAX_FOLDERS", 1)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(SchemaError, match="too many files"):
        load_files(tmp_path)


def test_protoc_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPILE_S", 0.0)
    with pytest.raises(SchemaError, match="did not read"):
        load_files(write(tmp_path, "m.proto", TEXT % ""))


def test_without_the_extra_only_sets_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "m.proto", TEXT % "")
    stored = tmp_path / "set.binpb"
    stored.write_bytes(load_files(file).SerializeToString())
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "grpc_tools", raising=False)
    with pytest.raises(SchemaError) as caught:
        load_files(file)
    assert "pip install 'hostmesh[proto]'" in caught.value.remedy
    assert load_files(stored).file
