"""What is said of two types is what protobuf does: encoded with the one, decoded with the other."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from tests.support.proto_text import files_of

from hostmesh.schema.types import TypeChange, type_change

BITS = {"int32": 32, "int64": 64, "sint32": 32, "sint64": 64, "sfixed32": 32, "sfixed64": 64}
UNSIGNED = {"uint32": 32, "uint64": 64, "fixed32": 32, "fixed64": 64}
SAMPLES: dict[str, list[Any]] = {
    **{kind: [1, -1, 7, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))] for kind, bits in BITS.items()},
    **{kind: [1, 7, 2 ** (bits - 1), 2**bits - 1] for kind, bits in UNSIGNED.items()},
    "bool": [True],
    "enum": [1, -5, 2**31 - 1],
    "float": [1.5, -1e30],
    "double": [1.5, -1e300],
    "string": ["a", "häuser", "\x08\x96\x01"],
    "bytes": [b"a", b"\xff\xfe"],
    "message": ["nested"],
}
"""Values at the edges of each type; not its default, which proto3 does not write."""

NAMED = {1, -5, 2**31 - 1}
"""Numbers that the enum names; others are UNSPECIFIED to hostmesh."""


def message_of(kind: str) -> type[Any]:
    """Return a class with one field of the kind."""
    name = {"enum": "E", "message": "Inner"}.get(kind, kind)
    text = (
        'syntax = "proto3"; package t; enum E { Z = 0; A = 1; B = -5; C = 2147483647; }'
        f" message Inner {{ string text = 1; }} message M {{ {name} value = 1; }}"
    )
    pool = DescriptorPool()
    for file in files_of(text).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.M"))


CLASSES = {kind: message_of(kind) for kind in SAMPLES}


def encode(kind: str, value: Any) -> bytes:
    message = CLASSES[kind]()
    if kind == "message":
        message.value.text = value
    else:
        message.value = value
    data = message.SerializeToString()
    assert isinstance(data, bytes)
    return data


def survives(writer: str, reader: str, value: Any) -> bool:
    """Whether a reader of another type finds the value that was written."""
    try:
        read = CLASSES[reader].FromString(encode(writer, value)).value
    except DecodeError:
        return False
    if {writer, reader} == {"string", "bytes"}:
        texts = [each if isinstance(each, bytes) else each.encode() for each in (value, read)]
        return texts[0] == texts[1]
    if reader == "enum" and read not in NAMED:
        return False
    return bool(read == value)


def survivors(writer: str, reader: str) -> int:
    return sum(survives(writer, reader, value) for value in SAMPLES[writer])


@pytest.mark.parametrize(("old", "new"), list(product(SAMPLES, repeat=2)))
def test_types(old: str, new: str) -> None:
    forth = (survivors(old, new), len(SAMPLES[old]))
    back = (survivors(new, old), len(SAMPLES[new]))
    said = type_change(old, new)
    if said is TypeChange.NONE:
        assert old == new
    elif said is TypeChange.WIDENED:
        assert forth[0] == forth[1]
        assert back[0] < back[1]
    elif said is TypeChange.NARROWED:
        # An enum that names 1 takes a bool whole; one that does not, not at all.
        assert 0 < forth[0] < forth[1] or (old, new) == ("bool", "enum")
    else:
        # A value or two may look the same by chance: never all, and never because both sides mean the same.
        assert forth[0] < forth[1]
        assert back[0] < back[1]


def test_a_renumbered_field_is_lost_and_a_packed_list_is_not() -> None:
    """The two ends of what a reader takes: another number never, another packing always."""
    pool = DescriptorPool()
    text = """syntax = "proto3"; package t; message A { int32 a = 1; repeated int32 list = 2; }
    message B { int32 a = 3; repeated int32 list = 2 [packed = false]; } message C { int32 list = 2; }"""
    for file in files_of(text).file:
        pool.Add(file)
    a, b, c = (message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in "ABC")
    written = a(a=5, list=[1, 2]).SerializeToString()
    read = b.FromString(written)
    assert (read.a, list(read.list)) == (0, [1, 2])
    assert list(a.FromString(read.SerializeToString()).list) == [1, 2]
    # Many packed numbers are nothing to a reader of one: FIELD_CARDINALITY_CHANGED.
    assert c.FromString(written).list == 0
    assert c.FromString(read.SerializeToString()).list == 2
