"""The conformance service, compiled from its .proto: its messages and its methods."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from hostmesh.protoc.main import include_path
from hostmesh.rpc.method import AnyMethod, methods_of

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "protocols" / "conformance.json"
PROTOS = Path(__file__).with_name("protos")
PROTO = "conformance/v1/conformance.proto"


def _load() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "files.binpb"
        includes = [f"-I{PROTOS}", f"-I{include_path()}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
        if protoc.main(["protoc", *includes, f"--descriptor_set_out={compiled}", PROTO]) != 0:
            raise RuntimeError(f"{PROTO} does not compile")
        (file,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("conformance.v1.ConformanceService")


SERVICE: Any = _load()
METHODS: dict[str, AnyMethod] = methods_of(SERVICE)


def message_type(method: str) -> tuple[Any, Any]:
    """Return the classes of a method's request and response."""
    return METHODS[method].request_type, METHODS[method].response_type


def read_table() -> list[dict[str, Any]]:
    """Return all cases."""
    table: list[dict[str, Any]] = json.loads(TABLE.read_text())
    return table
