"""A descriptor set as somebody made it: bounded, complete and in order, before anything is made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from hostmesh.errors import SchemaError
from hostmesh.v1 import options_pb2

MAX_FILES = 5_000
MAX_DESCRIPTORS = 200_000
"""Messages, fields, enum values and methods of a set. Chosen here: far above any known API, and compared in seconds."""

WELL_KNOWN = "google/protobuf/"
"""protobuf's own files: not compared, and found where a set lacks them."""
OPTIONS = "hostmesh/v1/options.proto"
MESSAGE_ATTRIBUTES = frozenset(dir(Empty))
"""What a message of Python's has besides its fields: a field of such a name would hide it."""


def checked_files(files: FileDescriptorSet, source: str) -> list[FileDescriptorProto]:
    """Return the files of a set, each after those that it imports, with the known ones that it lacks.

    Args:
        files: as protoc writes it. protobuf's own files and hostmesh's options may be missing.
        source: names the set in errors.

    Raises:
        SchemaError: too large, no text, a file is missing or there twice, or files import each other.
    """
    _check_size(files, source)
    if not all(_is_text(file) for file in files.file):
        raise SchemaError(f"{source} holds text that is no UTF-8", path=source, remedy="make it again with protoc")
    by_name = _with_known_imports(files, source)
    return [by_name[name] for name in _in_order(by_name, source)]


def _check_size(files: FileDescriptorSet, source: str) -> None:
    if not files.file:
        raise SchemaError(f"{source} holds no file", path=source, remedy="name a set or folder with .proto files in it")
    if len(files.file) > MAX_FILES:
        raise SchemaError(
            f"{source} holds {len(files.file)} files, at most {MAX_FILES} are compared",
            path=source,
            remedy="compare it in parts",
        )
    count = sum(_count(file.message_type) + _sizes(file) for file in files.file)
    if count > MAX_DESCRIPTORS:
        raise SchemaError(
            f"{source} holds {count} definitions, at most {MAX_DESCRIPTORS} are compared",
            path=source,
            remedy="compare it in parts",
        )


def _count(messages: Iterable[DescriptorProto]) -> int:
    # protobuf stops at 100 messages inside messages, so this cannot go deep.
    return sum(
        1
        + len(each.field)
        + len(each.extension)
        + sum(1 + len(enum.value) for enum in each.enum_type)
        + len(each.reserved_range)
        + len(each.reserved_name)
        + _count(each.nested_type)
        for each in messages
    )


def _sizes(file: FileDescriptorProto) -> int:
    methods = sum(1 + len(service.method) for service in file.service)
    return methods + sum(1 + len(enum.value) for enum in file.enum_type) + len(file.extension) + len(file.dependency)


def _is_text(message: Message) -> bool:
    """Return whether all strings in a message are text: descriptors are of proto2, where what is no UTF-8 is bytes."""
    for field, value in message.ListFields():
        if field.name == "source_code_info":
            continue
        values = value if field.is_repeated else (value,)
        if field.type == FieldDescriptor.TYPE_STRING and any(isinstance(each, bytes) for each in values):
            return False
        if field.message_type is not None and not all(_is_text(each) for each in values):
            return False
    return True


def _with_known_imports(files: FileDescriptorSet, source: str) -> dict[str, FileDescriptorProto]:
    by_name: dict[str, FileDescriptorProto] = {}
    for file in files.file:
        if by_name.setdefault(file.name, file) is not file:
            raise SchemaError(
                f"{source} holds {file.name} twice", path=source, remedy="make it again with one protoc call"
            )
    wanted = [name for file in files.file for name in file.dependency]
    while wanted:
        name = wanted.pop()
        if name not in by_name:
            known = _known_file(name)
            if known is None:
                raise SchemaError(
                    f"{source} lacks {name}, which a file in it imports",
                    path=source,
                    remedy="make it again with protoc --include_imports",
                )
            by_name[name] = known
            wanted.extend(known.dependency)
    return by_name


def _known_file(name: str) -> FileDescriptorProto | None:
    stem = name.removeprefix(WELL_KNOWN).removesuffix(".proto")
    if name == OPTIONS:
        module: Any = options_pb2
    elif name == f"{WELL_KNOWN}{stem}.proto" and stem.isidentifier():
        try:
            module = import_module(f"google.protobuf.{stem}_pb2")
        except ImportError:
            return None
    else:
        return None
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def known_files() -> FileDescriptorSet:
    """Return hostmesh's options and what they import, for protoc."""
    return FileDescriptorSet(
        file=[file for name in (f"{WELL_KNOWN}descriptor.proto", OPTIONS) if (file := _known_file(name))]
    )


def _in_order(by_name: dict[str, FileDescriptorProto], source: str) -> tuple[str, ...]:
    """Return the names with each file after those that it imports."""
    try:
        return tuple(TopologicalSorter({name: list(file.dependency) for name, file in by_name.items()}).static_order())
    except CycleError as error:
        raise SchemaError(
            f"{source}: files import each other: {', '.join(error.args[1])}", path=source, remedy="break the circle"
        ) from error
