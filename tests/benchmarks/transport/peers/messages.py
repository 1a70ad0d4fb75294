"""The messages and the service of ``bench.proto``, generated when this module is imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc_tools

from hostmesh.protoc.main import include_path

_PROTO = Path(__file__).with_name("bench.proto")
_WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
_PLUGIN = Path(sys.executable).with_name("protoc-gen-hostmesh")


def import_generated(name: str) -> Any:
    """Generate what protoc and hostmesh's plugin make of ``bench.proto``, and import one module of it.

    Args:
        name: ``bench_pb2``, or ``bench_hostmesh`` once that was imported.
    """
    kind = "python" if name.endswith("_pb2") else "hostmesh"
    with tempfile.TemporaryDirectory() as folder:
        includes = [f"-I{path}" for path in (_PROTO.parent, include_path(), _WELL_KNOWN)]
        options = [f"--plugin=protoc-gen-hostmesh={_PLUGIN}", *includes, f"--{kind}_out={folder}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, _PROTO], check=True)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(folder)


_BENCH = import_generated("bench_pb2")
SERVICE = _BENCH.DESCRIPTOR.services_by_name["BenchService"]
Payload: Any = _BENCH.Payload
Count: Any = _BENCH.Count
