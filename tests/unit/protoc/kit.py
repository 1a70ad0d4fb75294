"""protoc for tests: over files made up in a folder, with the plugin or for a request to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc_tools
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from hostmesh.protoc.main import include_path

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden"
TALK = "talk/v1/talk.proto"
POLL = "poll/v1/poll.proto"
INCLUDES = [f"-I{include_path()}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
PLUGIN = Path(sys.executable).with_name("protoc-gen-hostmesh")


def request_of(folder: Path, files: Mapping[str, str]) -> CodeGeneratorRequest:
    """Return the request that protoc makes for all of these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = folder / "files.binpb"
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={result}"]
    assert protoc.main(["protoc", f"-I{folder}", *INCLUDES, *options, *files]) == 0
    descriptors = FileDescriptorSet.FromString(result.read_bytes())
    return CodeGeneratorRequest(file_to_generate=list(files), proto_file=descriptors.file)


def run_protoc(
    source: Path, target: Path, *names: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run protoc as its users do: messages, stubs, and what the plugin makes."""
    outputs = [f"--python_out={target}", f"--pyi_out={target}", f"--hostmesh_out={target}"]
    plugin = f"--plugin=protoc-gen-hostmesh={PLUGIN}"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{source}", *INCLUDES, plugin, *outputs, *options, *names]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
