"""Golden wire vectors: what each message is in bytes, and that protoc, which shares no code with us, says the same.

Each file of tests/vectors/wire has a message as protobuf JSON and as hex; the hex was written by ``protoc --encode``.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import json_format, symbol_database, text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

import hostmesh.v1
from hostmesh.wire.bounds import parse

ROOT = Path(__file__).resolve().parents[3]
PATHS = sorted((ROOT / "tests" / "vectors" / "wire").glob("*.json"))
MODULES = [
    importlib.import_module(f"hostmesh.v1.{module.name}")
    for module in pkgutil.iter_modules(hostmesh.v1.__path__)
    if module.name.endswith("_pb2")
]

# Runs protoc once a vector, in one process.
DECODER = """
import os, sys, tempfile, json
from grpc_tools import protoc
protos, well_known = sys.argv[1:]
for line in sys.stdin.read().splitlines():
    name, file, data = json.loads(line)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(bytes.fromhex(data))
        source.seek(0)
        kept = os.dup(1)
        os.dup2(source.fileno(), 0)
        os.dup2(target.fileno(), 1)
        code = protoc.main(["protoc", "-I" + protos, "-I" + well_known, "--decode=" + name, file])
        os.dup2(kept, 1)
        os.close(kept)
        target.seek(0)
        print(json.dumps([code, target.read().decode()]), flush=True)
"""


def load(path: Path) -> tuple[type[Message], Any, bytes]:
    vector = json.loads(path.read_text())
    kind = symbol_database.Default().GetSymbol(vector["type"])  # type: ignore[no-untyped-call]
    return kind, vector["json"], bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_vector_holds_both_ways(path: Path) -> None:
    kind, value, data = load(path)
    written = json_format.ParseDict(value, kind())
    assert written.SerializeToString(deterministic=True).hex() == data.hex()
    read = parse(kind, data, 1048576)
    assert json_format.MessageToDict(read, preserving_proto_field_name=True) == value


def test_protoc_reads_the_same_in_every_vector() -> None:
    lines = []
    for path in PATHS:
        kind, _, data = load(path)
        lines.append(json.dumps([kind.DESCRIPTOR.full_name, kind.DESCRIPTOR.file.name, data.hex()]))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    decoded = subprocess.run(
        [sys.executable, "-c", DECODER, str(ROOT / "protos"), str(well_known)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in decoded.stdout.splitlines()]
    assert len(answers) == len(PATHS)
    for path, (code, text) in zip(PATHS, answers, strict=True):
        kind, _, data = load(path)
        assert code == 0, path.name
        assert text == text_format.MessageToString(parse(kind, data, 1048576), as_utf8=False), path.name


def test_every_message_with_fields_stands_in_a_vector() -> None:
    seen: set[str] = set()

    def visit(message: Message) -> None:
        seen.add(message.DESCRIPTOR.full_name)
        for field, value in message.ListFields():
            if field.message_type is not None:
                for inner in value if field.is_repeated else [value]:
                    visit(inner)

    for path in PATHS:
        kind, _, data = load(path)
        visit(parse(kind, data, 1048576))
    ours: list[Descriptor] = [
        descriptor
        for module in MODULES
        for descriptor in module.DESCRIPTOR.message_types_by_name.values()
        if descriptor.fields
    ]
    assert sorted(descriptor.full_name for descriptor in ours if descriptor.full_name not in seen) == []
