"""Descriptor sets from a few lines of .proto."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

PROTOS = Path(__file__).parents[2] / "protos"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


@functools.cache
def files_of(text: str, name: str = "t.proto") -> FileDescriptorSet:
    """Compile one file: of proto3 and package ``t`` unless it says so; hostmesh's options go by their bare names."""
    if not text.lstrip().startswith(("syntax", "edition")):
        text = f'syntax = "proto3"; package t; import "hostmesh/v1/options.proto";\n{text}'
    for option in (
        "max_bytes",
        "min_bytes",
        "max_items",
        "max_request_bytes",
        "max_response_bytes",
        "default_timeout_ms",
        "protocol",
        "version",
        "min_version",
        "calls_per_peer",
        "calls_of_all",
    ):
        text = text.replace(f"({option})", f"(hostmesh.v1.{option})")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text)
        out = Path(folder) / "out"
        arguments = [
            f"-I{folder}",
            f"-I{PROTOS}",
            f"-I{WELL_KNOWN}",
            "--include_imports",
            f"--descriptor_set_out={out}",
        ]
        assert protoc.main(["protoc", *arguments, name]) == 0, text
        return FileDescriptorSet.FromString(out.read_bytes())
