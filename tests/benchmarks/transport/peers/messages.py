"""The messages and the service of ``bench.proto``, compiled when this module is imported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from grpc_tools import protoc

from hostmesh.v1 import options_pb2

_PROTO = Path(__file__).with_name("bench.proto")
_OPTIONS = Path(__file__).resolve().parents[4] / "protos"
_WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def _compile() -> FileDescriptor:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "bench.binpb")
        includes = [f"-I{path}" for path in (_PROTO.parent, _OPTIONS, _WELL_KNOWN)]
        if protoc.main(["protoc", *includes, f"--descriptor_set_out={target}", str(_PROTO)]) != 0:
            raise RuntimeError(f"{_PROTO.name} does not compile")
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.Default()
    assert pool.FindFileByName(options_pb2.DESCRIPTOR.name) is options_pb2.DESCRIPTOR  # the options are known there
    pool.Add(files.file[0])
    return pool.FindFileByName(_PROTO.name)


FILE = _compile()
SERVICE = FILE.services_by_name["BenchService"]
Payload: Any = message_factory.GetMessageClass(FILE.message_types_by_name["Payload"])
Count: Any = message_factory.GetMessageClass(FILE.message_types_by_name["Count"])
