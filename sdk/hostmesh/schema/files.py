"""Where sets of .proto files come from: a descriptor set, a .proto file, a folder of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from hostmesh.errors import SchemaError
from hostmesh.schema.descriptor_set import MAX_FILES, known_files

MAX_BYTES = 16 * 1024 * 1024
"""Most bytes of a descriptor set, or of the .proto files that make one. Chosen here; hostmesh's own has 24 KB."""
MAX_FOLDERS = 20_000
COMPILE_S = 60.0
_MAX_MESSAGE_CHARS = 2_000
_PACKAGE = re.compile(rb"(?:^|[;}/])\s*package\s+([\w.]+)\s*;", re.MULTILINE)


def load_files(path: Path, proto_path: Sequence[Path] = ()) -> FileDescriptorSet:
    """Return the set of files that a path names.

    Args:
        path: a descriptor set (``.binpb``, ``.pb``, ``.desc``), a ``.proto`` file, or a folder with .proto files in it.
        proto_path: folders to look for imports in, beside the one where the package of each file starts.
            protobuf's own files and hostmesh's options are always found.

    Raises:
        SchemaError: it cannot be read, is too large or does not compile, or protoc is needed and not installed.
    """
    if path.is_dir():
        return _compile(_proto_files(path), path, proto_path)
    if path.suffix == ".proto":
        return _compile([path], path.parent, proto_path)
    data = _read(path, MAX_BYTES)
    try:
        return FileDescriptorSet.FromString(data)
    except DecodeError as error:
        raise SchemaError(
            f"{path} is no descriptor set",
            path=str(path),
            remedy="name a .proto file, a folder of them, or what protoc --descriptor_set_out made",
        ) from error


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise SchemaError(
            f"cannot read {path}: {error.strerror}", path=str(path), remedy="name a file that exists and is readable"
        ) from error
    if len(data) > max_bytes:
        raise SchemaError(f"{path} is over {max_bytes} bytes", path=str(path), remedy="compare it in parts")
    return data


def _proto_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for count, (place, folders, names) in enumerate(os.walk(folder)):
        folders.sort()
        found.extend(Path(place, name) for name in sorted(names) if name.endswith(".proto"))
        if count >= MAX_FOLDERS or len(found) > MAX_FILES:
            raise SchemaError(f"{folder} holds too many files", path=str(folder), remedy="name a smaller folder")
    if not found:
        raise SchemaError(
            f"{folder} holds no .proto file", path=str(folder), remedy="name the folder in which the packages start"
        )
    return found


def _compile(sources: list[Path], base: Path, proto_path: Sequence[Path]) -> FileDescriptorSet:
    """Compile with protoc, in a process of its own: it is C++ that prints its errors and may not survive them."""
    size_bytes = 0
    roots: set[Path] = set()
    for source in sources:
        text = _read(source, MAX_BYTES - size_bytes)
        size_bytes += len(text)
        roots.add(_root(source, text, base).absolute())
    if find_spec("grpc_tools") is None:
        raise SchemaError(
            f"{base} holds .proto files, which protoc reads, and that is not installed",
            path=str(base),
            remedy="pip install 'hostmesh[proto]', or name a descriptor set",
        )
    with tempfile.TemporaryDirectory() as folder:
        known, out, arguments = (Path(folder) / name for name in ("known.binpb", "out.binpb", "arguments"))
        known.write_bytes(known_files().SerializeToString(deterministic=True))
        lines = [
            *(f"-I{place}" for place in (*sorted(roots), *(each.absolute() for each in proto_path))),
            f"--descriptor_set_in={known}",
            "--include_imports",
            f"--descriptor_set_out={out}",
            *(str(source.absolute()) for source in sources),
        ]
        arguments.write_text("".join(f"{line}\n" for line in lines))
        _protoc(arguments, base)
        return FileDescriptorSet.FromString(_read(out, MAX_BYTES))


def _root(source: Path, text: bytes, base: Path) -> Path:
    """Return the folder that imports start from: where that of the package does, when the file lies in such a one."""
    found = _PACKAGE.search(text)
    package = found[1].decode().split(".") if found else []
    parts = source.absolute().parent.parts
    if package and list(parts[-len(package) :]) == package:
        return Path(*parts[: -len(package)])
    return base


def _protoc(arguments: Path, base: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with the arguments that stand in the file
            [sys.executable, "-P", "-m", "grpc_tools.protoc", f"@{arguments}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMPILE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SchemaError(
            f"protoc did not read {base} within {COMPILE_S:.0f} s", path=str(base), remedy="compare it in parts"
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:_MAX_MESSAGE_CHARS].replace("\n", "; ")
        remedy = "correct the file; imports are found from the folder where the package starts, and with --proto-path"
        raise SchemaError(said or f"protoc ended with {done.returncode}", path=str(base), remedy=remedy)
