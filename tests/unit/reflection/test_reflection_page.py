"""What docs/protocols/reflection.md says of limits and errors is what the code and the .proto say."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

from hostmesh.reflection import served
from hostmesh.reflection.client import MAX_NAMES
from hostmesh.reflection.limits import MAX_FILES, MAX_FILES_BYTES, MAX_SERVICES, MAX_TYPE_DEPTH
from hostmesh.reflection.served import MAX_METHODS
from hostmesh.reflection.server import MAX_FILE_BYTES
from hostmesh.schema.descriptor_set import MAX_DESCRIPTORS
from hostmesh.v1 import options_pb2, reflection_pb2
from hostmesh.v1.reflection_hostmesh import REFLECTION_SERVICE

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "protocols" / "reflection.md").read_text()


def bound(message: Any, field: str, option: Any) -> int:
    value = message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[option]
    assert isinstance(value, int)
    return value


def test_the_limits_of_the_page() -> None:
    options: Any = options_pb2
    extensions: Any = REFLECTION_SERVICE.GetOptions().Extensions
    for row, option in (("of a peer", options.calls_per_peer), ("of all peers", options.calls_of_all)):
        stated = extensions[option]
        calls = f"{stated.max_concurrent} at once, {stated.calls_per_s:.0f} a second, {stated.burst} in a burst"
        assert f"| calls {row} | {calls} |" in PAGE
    summary, method = reflection_pb2.ServiceSummary, reflection_pb2.MethodSummary
    names = [bound(summary, name, options.max_bytes) for name in ("full_name", "protocol", "versions")]
    names.append(bound(method, "name", options.max_bytes))
    assert "service {} bytes, protocol {}, version {}, method {} |".format(*names) in PAGE
    items = [bound(summary, name, options.max_items) for name in ("methods", "versions")]
    assert f"| a summary | {items[0]} methods, {items[1]} versions |" in PAGE
    assert f"| one file's descriptor | {MAX_FILE_BYTES:,} bytes |" in PAGE
    assert f"| services that a request names | {MAX_NAMES} |" in PAGE
    assert f"| a client takes | {MAX_SERVICES:,} services, {MAX_FILES:,} files, {MAX_FILES_BYTES >> 20} MiB of " in PAGE
    assert f"files, {MAX_DESCRIPTORS:,} definitions, types {MAX_TYPE_DEPTH} deep |" in PAGE


def test_the_constants_are_the_bounds_of_the_proto() -> None:
    options: Any = options_pb2
    assert bound(reflection_pb2.ServiceSummary, "methods", options.max_items) == MAX_METHODS
    assert bound(reflection_pb2.DescriptorFile, "file_descriptor_proto", options.max_bytes) == MAX_FILE_BYTES
    assert bound(reflection_pb2.GetFilesRequest, "services", options.max_items) == MAX_NAMES


def test_the_examples() -> None:
    failed, attempted = doctest.testmod(served)
    assert (failed, attempted > 0) == (0, True)
