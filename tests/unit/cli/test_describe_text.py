"""What ``proto describe`` shows of descriptors that other implementations may send: comments, oneofs, enums, bounds."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from tests.support.peer_files import NAME as ECHO
from tests.support.peer_files import add_service, echo_file

from hostmesh.cli.describe import enum_object, service_text, types_of, types_text
from hostmesh.errors import MalformedMessageError
from hostmesh.reflection.comments import comments_of
from hostmesh.reflection.peer_schema import PeerSchema, read_schema_of
from hostmesh.v1 import options_pb2

ROOT = Path(__file__).resolve().parents[3]
NAME = "hostmesh.v1.JobService"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> PeerSchema:
    """The job service as protoc describes it, with its source's comments."""
    out = tmp_path_factory.mktemp("descriptors") / "job.binpb"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", "--include_imports"),
            *("--include_source_info", f"--descriptor_set_out={out}", "hostmesh/v1/job.proto"),
        ],
        check=True,
    )
    files = FileDescriptorSet.FromString(out.read_bytes()).file
    return read_schema_of([file.SerializeToString() for file in files], [NAME])


def test_comments_stand_where_the_descriptors_carry_them(schema: PeerSchema) -> None:
    source = (ROOT / "protos/hostmesh/v1/job.proto").read_text()
    comments = comments_of(schema.files)
    assert comments
    for name, comment in comments.items():
        assert name.startswith(NAME)
        for line in comment.splitlines():
            assert f"// {line}\n" in source
    text = service_text(schema, NAME, schema.methods[NAME], "/hostmesh", comments)
    for comment in comments.values():
        assert f"// {comment.splitlines()[0]}"[:150] in text


def test_comments_of_places_that_are_none(schema: PeerSchema) -> None:
    file = type(schema.files[0])()
    file.CopyFrom(schema.files[-1])
    del file.source_code_info.location[:]
    for path in ([], [6], [6, -1], [6, 99], [6, 0, 2, 99], [6, 0, 2, -1], [6, 0, 2, 0, 1], [1] * 100, [6, 0, 3, 0]):
        file.source_code_info.location.add(path=path, leading_comments="nowhere")
    assert comments_of([file]) == {}


def test_a_hostile_comment_cannot_act(schema: PeerSchema) -> None:
    hostile = {NAME: "\x1b]0;owned\x07\r\u202e line one\nline\ttwo", f"{NAME}.Run": "x" * 5000}
    text = service_text(schema, NAME, schema.methods[NAME], "/hostmesh", hostile)
    assert all(line.isprintable() and len(line) < 300 for line in text.splitlines())


def test_messages_enums_and_bounds(schema: PeerSchema) -> None:
    messages, enums = types_of(schema.definitions(), schema.methods[NAME]["Run"])
    texts = {
        text.split()[1].removeprefix("hostmesh.v1."): text.splitlines()[1:-1] for text in types_text(messages, enums)
    }
    assert next(iter(texts)) == "RunRequest", "the request comes first"
    assert "  string content = 2;  // up to 262144 bytes" in texts["ChatMessage"]
    assert "  bytes quote_id = 1;  // 16 bytes" in texts["RunRequest"]
    assert any("  // one of " in line or ", one of " in line for line in texts["RunRequest"])
    assert any(line.startswith("  repeated ") and line.endswith(" items") for line in texts["ChatInput"])
    assert len(texts) == len(messages) + len(enums), "each once"
    for enum in enums:
        values = enum_object(enum)["values"]
        assert isinstance(values, dict)
        assert [f"  {name} = {number};" for name, number in values.items()] == texts[
            enum.full_name.removeprefix("hostmesh.v1.")
        ]


def test_an_enum_of_protobufs_own_is_left_out_as_its_messages_are() -> None:
    file = echo_file()
    file.dependency.append("google/protobuf/struct.proto")
    file.message_type[0].field.add(
        name="nothing",
        number=2,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_ENUM,
        type_name=".google.protobuf.NullValue",
    )
    schema = read_schema_of([file.SerializeToString()], [ECHO])
    (text,) = types_text(*types_of(schema.definitions(), schema.methods[ECHO]["Say0"]))
    assert "  google.protobuf.NullValue nothing = 2;" in text


def test_what_a_peer_states_beside_the_service_is_its_fault_and_not_the_callers() -> None:
    file = echo_file()
    add_service(file, "OtherService")
    file.service[1].options.Extensions[options_pb2.calls_per_peer].calls_per_s = math.nan
    schema = read_schema_of([file.SerializeToString()], [ECHO])
    with pytest.raises(MalformedMessageError, match=r"the peer's answer: acme\.v1\.OtherService: calls_per_s of nan"):
        schema.definitions()
