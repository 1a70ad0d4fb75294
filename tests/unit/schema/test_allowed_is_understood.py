"""What the check lets pass, peers understand: random changes of a message, written with one set, read with the other.

The reader is hostmesh's own: protobuf's decoder and the bounds of :mod:`hostmesh.wire.bounds`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st
from tests.support.proto_changes import answer, message
from tests.support.proto_text import files_of

from hostmesh.errors import MalformedMessageError
from hostmesh.schema.change import Change
from hostmesh.schema.compatibility import compare
from hostmesh.schema.descriptor_set import known_files
from hostmesh.v1 import options_pb2
from hostmesh.wire.bounds import check_bounds, parse

MAX = 1 << 20
KINDS = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "fixed32", "sfixed32", "string", "bytes")
BITS = {"int32": 32, "int64": 64, "sint32": 32, "sint64": 64, "sfixed32": 32}


@dataclass(frozen=True)
class Field:
    number: int
    kind: str
    name: str
    form: str = "plain"
    """``plain``, ``optional``, ``repeated``, or the name of a oneof."""
    least: int = 0
    most: int = 9
    items: int = 3


def values(kind: str, least: int, most: int) -> st.SearchStrategy[Any]:
    if kind in BITS:
        return st.integers(-(2 ** (BITS[kind] - 1)), 2 ** (BITS[kind] - 1) - 1)
    if kind == "bool":
        return st.booleans()
    if kind == "string":
        return st.text("ab", min_size=least, max_size=most)
    if kind == "bytes":
        return st.binary(min_size=least, max_size=most)
    return st.integers(0, 2 ** int(kind[-2:]) - 1)


def file_of(fields: list[Field], reserved: list[int]) -> FileDescriptorSet:
    file = FileDescriptorProto(name="t.proto", package="t", syntax="proto3", dependency=["hostmesh/v1/options.proto"])
    made = file.message_type.add(name="M")
    oneofs = sorted({field.form for field in fields if field.form in ("x", "y")})
    for name in oneofs:
        made.oneof_decl.add(name=name)
    for each in sorted(fields, key=lambda each: each.number):
        field = made.field.add(name=each.name, number=each.number, label=3 if each.form == "repeated" else 1)
        field.type = getattr(FieldDescriptorProto, f"TYPE_{each.kind.upper()}")
        if each.form in oneofs:
            field.oneof_index = oneofs.index(each.form)
        elif each.form == "optional":
            field.proto3_optional, field.oneof_index = True, len(made.oneof_decl)
            made.oneof_decl.add(name=f"_{each.name}")
        extensions: Any = field.options.Extensions
        if each.kind in ("string", "bytes"):
            extensions[options_pb2.max_bytes], extensions[options_pb2.min_bytes] = each.most, each.least
        if each.form == "repeated":
            extensions[options_pb2.max_items] = each.items
    for number in reserved:
        made.reserved_range.add(start=number, end=number + 1)
    return FileDescriptorSet(file=[*known_files().file, file])


def class_of(files: FileDescriptorSet) -> Any:
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.M"))


@st.composite
def messages(draw: st.DrawFn) -> list[Field]:
    numbers = sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=5)))
    return [draw(fields(number)) for number in numbers]


@st.composite
def fields(draw: st.DrawFn, number: int) -> Field:
    least = draw(st.integers(0, 2))
    return Field(
        number=number,
        kind=draw(st.sampled_from(KINDS)),
        name=f"f{number}",
        form=draw(st.sampled_from(["plain", "plain", "optional", "repeated", "x", "y"])),
        least=least,
        most=draw(st.integers(max(1, least), 6)),
        items=draw(st.integers(1, 4)),
    )


@st.composite
def changed(draw: st.DrawFn, old: list[Field]) -> tuple[list[Field], list[int]]:
    """Another version of a message: most often by one small change, so that many pass the check."""
    new, reserved = list(old), []
    for _ in range(draw(st.integers(1, 2))):
        action = draw(st.sampled_from(["add", "remove", "kind", "form", "least", "most", "items", "name", "number"]))
        if action == "add" or not new:
            number = draw(st.integers(20, 25))
            if all(each.number != number for each in new):
                new.append(draw(fields(number)))
            continue
        position = draw(st.integers(0, len(new) - 1))
        each = new[position]
        if action == "remove":
            del new[position]
            reserved.append(each.number)
        elif action == "kind":
            new[position] = replace(each, kind=draw(st.sampled_from(KINDS)))
        elif action == "form":
            new[position] = replace(each, form=draw(st.sampled_from(["plain", "optional", "repeated", "x", "y"])))
        elif action == "name":
            new[position] = replace(each, name=f"{each.name}_")
        elif action == "number":
            new[position] = replace(each, number=each.number + 30)
        else:
            new[position] = replace(
                each, **{action: max(0 if action == "least" else 1, getattr(each, action) + draw(st.integers(-2, 2)))}
            )
    return new, sorted(set(reserved) - {each.number for each in new})


def written(draw: Any, made: Any, old: list[Field]) -> Any:
    """A message as a sender of hostmesh's may send it: within its own bounds."""
    message = made()
    for each in old:
        least = each.least if each.kind in ("string", "bytes") else 0
        value = values(each.kind, least, max(least, each.most))
        if each.form == "repeated":
            getattr(message, each.name).extend(draw(st.lists(value, max_size=each.items)))
        elif each.form == "plain" or draw(st.booleans()):
            setattr(message, each.name, draw(value))
    return message


def understood(data: st.DataObject, writer: list[Field], reader: list[Field], classes: tuple[Any, Any]) -> None:
    sent = written(data.draw, classes[0], writer)
    try:
        check_bounds(sent)
    except MalformedMessageError:
        return  # its own side would not send it: least above most
    read = parse(classes[1], sent.SerializeToString(), MAX)
    by_number = {each.number: each for each in reader}
    for each in writer:
        other = by_number.get(each.number)
        if other is None:
            continue
        was, now = getattr(sent, each.name), getattr(read, other.name)
        if each.form == "repeated":
            was, now = list(was), list(now)
            assert [plain(value) for value in was] == [plain(value) for value in now]
        else:
            assert plain(was) == plain(now)


def plain(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


@given(messages(), st.data())
def test_old_writers_and_new_readers(old: list[Field], data: st.DataObject) -> None:
    new, reserved = data.draw(changed(old))
    before, after = file_of(old, []), file_of(new, reserved)
    if any(each.is_breaking for each in compare(before, after)):
        return
    understood(data, old, new, (class_of(before), class_of(after)))


ORDER = {"LIMIT_WIDENED", "FIELD_TYPE_WIDENED", "FIELD_NO_LONGER_NEEDED"}
"""Warnings that say who must be updated first: until then old readers may refuse what new writers send."""


@given(messages(), st.data())
def test_new_writers_and_old_readers(old: list[Field], data: st.DataObject) -> None:
    new, reserved = data.draw(changed(old))
    before, after = file_of(old, []), file_of(new, reserved)
    changes = compare(before, after)
    if any(each.is_breaking or each.kind in ORDER for each in changes):
        return
    understood(data, new, old, (class_of(after), class_of(before)))


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("bytes a = 1 [(max_bytes) = 9];", "bytes a = 1 [(max_bytes) = 8];", {"a": b"x" * 9}),
    ("bytes a = 1 [(max_bytes) = 9];", "bytes a = 1 [(max_bytes) = 9, (min_bytes) = 2];", {}),
    ("repeated int32 a = 1 [(max_items) = 3];", "repeated int32 a = 1 [(max_items) = 2];", {"a": [1, 2, 3]}),
    ("", "bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];", {}),
    ("optional bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];", "bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];", {}),
    ("bytes a = 1 [(max_bytes) = 9];", "string a = 1 [(max_bytes) = 9];", {"a": b"\xff"}),
]
"""What an old peer may send, and a new one refuses."""


@pytest.mark.parametrize(("old", "new", "sent"), REFUSED)
def test_what_is_refused_for_being_narrower_is_really_refused(old: str, new: str, sent: dict[str, Any]) -> None:
    def breaking(changes: list[Change]) -> list[Change]:
        return [each for each in changes if each.is_breaking]

    for make in (message, answer):
        before, after = files_of(make(old)), files_of(make(new))
        assert len(breaking(compare(before, after))) == 1
        said = class_of(before)(**sent)
        check_bounds(said)
        with pytest.raises(MalformedMessageError):
            parse(class_of(after), said.SerializeToString(), MAX)
