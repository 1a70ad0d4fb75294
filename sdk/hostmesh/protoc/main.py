"""The command ``protoc-gen-hostmesh``: protoc runs it, writes a request to it and reads its answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from hostmesh.protoc.plugin import answer

USAGE = """\
protoc-gen-hostmesh is a plugin of protoc:

  python -m grpc_tools.protoc -I. -I"$(protoc-gen-hostmesh --include)" \\
      --python_out=. --pyi_out=. --hostmesh_out=. chat.proto

--include  print the folder that holds hostmesh/v1/options.proto
"""


def include_path() -> Path:
    """Return the folder to give protoc with ``-I``, so that it finds ``hostmesh/v1/options.proto``."""
    return Path(__file__).resolve().parent / "include"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer protoc, or what was asked for on the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--include"]:
        sys.stdout.write(f"{include_path()}\n")
        return 0
    if list(arguments) in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if arguments or sys.stdin.isatty():
        sys.stderr.write(USAGE)
        return 2
    try:
        response = answer(sys.stdin.buffer.read())
    except DecodeError:
        sys.stderr.write("protoc-gen-hostmesh: what came is no request of protoc\n")
        return 1
    sys.stdout.buffer.write(response)
    return 0
