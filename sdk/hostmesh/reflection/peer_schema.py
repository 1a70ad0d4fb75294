"""The services of a peer, built from descriptors that it sent. Pure.

Descriptors of a stranger are code's raw material, so nothing of them reaches the process's own pool, and everything is
checked before it is used:

- files: complete, each once, none importing another in a circle, bounded in number, bytes and definitions; those that
  everybody has (``google/protobuf/*``, hostmesh's options) are taken from this process and never from a peer;
- names: nothing may define what ``google.protobuf`` does, which protobuf's JSON treats by name, and no field may hide a
  method of Python's messages;
- services: hostmesh's options on each, and bounds on every field that a method reaches.

Options are extensions, known by number: protobuf reads those of any pool with the extensions of this process, so that a
peer's own ``options.proto`` is not needed and cannot give them another meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from hostmesh.errors import MalformedMessageError, SchemaError
from hostmesh.reflection.limits import MAX_FILES, MAX_FILES_BYTES, MAX_TYPE_DEPTH
from hostmesh.reflection.served import is_known
from hostmesh.rpc.method import AnyMethod, methods_of
from hostmesh.schema.descriptor_set import MESSAGE_ATTRIBUTES, checked_files
from hostmesh.schema.model import Schema, read_schema
from hostmesh.wire.bounds import check_bounds

_REMEDY = "the peer describes what no node of hostmesh can serve; tell who runs it"
_PROTOCOL = re.compile(r"[A-Za-z0-9]+([-._/][A-Za-z0-9]+)*", re.ASCII)
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}", re.ASCII)
_MAX_PROTOCOL_CHARS = 64
_MAX_SAID_CHARS = 400
_SOURCE = "it"
"""What errors call the peer's set of files."""
_TREATED_BY_NAME = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
"""In every pool before a peer's files, so that these cannot define the same names."""


def malformed(text: str, *, field: str = "", remedy: str = _REMEDY) -> MalformedMessageError:
    """Return the error of a description that cannot be used; cut, as what is said may be the peer's own words."""
    said = " ".join(text.split())
    return MalformedMessageError(
        f"the peer's answer: {said[:_MAX_SAID_CHARS]}", field=field[:_MAX_SAID_CHARS], remedy=remedy
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSchema:
    """Services of a peer, with the files that describe them."""

    files: tuple[FileDescriptorProto, ...]
    """What the peer sent, each after its imports."""
    pool: DescriptorPool
    services: Mapping[str, ServiceDescriptor]
    """By full name, as asked for."""
    methods: Mapping[str, Mapping[str, AnyMethod]]
    """Of each service, by name: ready to be called."""

    def file_set(self) -> FileDescriptorSet:
        """Return the files as ``protoc --descriptor_set_out`` writes them; ``hostmesh proto check`` reads it."""
        return FileDescriptorSet(file=self.files)

    def definitions(self) -> Schema:
        """Return everything that the files define, as plain values.

        Raises:
            MalformedMessageError: a service among them, asked for or not, states versions or limits that are none.
        """
        with _blaming_the_peer():
            return read_schema(self.file_set(), source=_SOURCE)


def read_schema_of(sent: Sequence[bytes], names: Collection[str]) -> PeerSchema:
    """Check serialised files of a peer and build the services that they are to describe.

    Args:
        sent: serialised ``FileDescriptorProto`` messages, in any order.
        names: full names of the services wanted.

    Raises:
        MalformedMessageError: anything is wrong with them; ``field`` names the part where one is to blame.

    Cost: linear in the definitions, of which there are 200,000 at most.
    """
    # A name that is no UTF-8 comes as bytes, which checked_files refuses.
    taken = [file for file in _parse(sent) if isinstance(file.name, bytes) or not is_known(file.name)]
    with _blaming_the_peer():
        ordered = checked_files(FileDescriptorSet(file=taken), _SOURCE) if taken else []
    pool = DescriptorPool()
    for module in _TREATED_BY_NAME:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in ordered:
        _add(pool, file)
    services = {name: _service(pool, name) for name in names}
    # Shared: a type is looked at once, however many methods reach it.
    seen: set[Descriptor] = set()
    for service in services.values():
        for descriptor in service.methods:
            _check_types(descriptor.input_type, seen)
            _check_types(descriptor.output_type, seen)
    methods = {name: _methods(service) for name, service in services.items()}
    for each in methods.values():
        for method in each.values():
            _check_bounded(method.request_type)
            _check_bounded(method.response_type)
    return PeerSchema(
        files=tuple(file for file in ordered if not is_known(file.name)),
        pool=pool,
        services=services,
        methods=methods,
    )


@contextmanager
def _blaming_the_peer() -> Iterator[None]:
    """Turn what is wrong with a set of files into an error of who sent them."""
    try:
        yield
    except SchemaError as error:
        raise malformed(error.message.removeprefix(f"{_SOURCE}: "), field="file_descriptor_proto") from error


def _parse(sent: Sequence[bytes]) -> list[FileDescriptorProto]:
    if len(sent) > MAX_FILES:
        raise malformed(f"{len(sent)} files, at most {MAX_FILES} are taken", field="file_descriptor_proto")
    size_bytes = sum(map(len, sent))
    if size_bytes > MAX_FILES_BYTES:
        raise malformed(
            f"files of {size_bytes} bytes, at most {MAX_FILES_BYTES} are taken", field="file_descriptor_proto"
        )
    try:
        return [FileDescriptorProto.FromString(data) for data in sent]
    except DecodeError as error:
        raise malformed("not a FileDescriptorProto", field="file_descriptor_proto") from error


def _add(pool: DescriptorPool, file: FileDescriptorProto) -> None:
    try:
        if is_known(file.name):
            pool.FindFileByName(file.name)
            return
    except KeyError:
        pass
    try:
        pool.AddSerializedFile(file.SerializeToString())
    except TypeError as error:
        raise malformed(f"no valid file, {file.name}: {error}", field=file.name) from error


def _service(pool: DescriptorPool, name: str) -> ServiceDescriptor:
    try:
        found: ServiceDescriptor = pool.FindServiceByName(name)
    except KeyError as error:
        raise malformed(
            f"no file describes {name}", field=name, remedy="ask again: it may have been withdrawn meanwhile"
        ) from error
    return found


def _methods(service: ServiceDescriptor) -> Mapping[str, AnyMethod]:
    try:
        methods = methods_of(service)
    except TypeError as error:
        raise malformed(str(error), field=service.full_name) from error
    if not methods:
        raise malformed(f"{service.full_name} has no method", field=service.full_name)
    for method in methods.values():
        # These become part of a protocol id, which is sent.
        if not _PROTOCOL.fullmatch(method.protocol) or len(method.protocol) > _MAX_PROTOCOL_CHARS:
            raise malformed(f"{method.protocol[:80]!r} is no name of a protocol", field=service.full_name)
        if not all(map(_VERSION.fullmatch, method.versions)):
            raise malformed(f"{method.versions[0][:80]!r} is no version", field=service.full_name)
    return methods


def _check_types(root: Descriptor, seen: set[Descriptor]) -> None:
    """Refuse types nested so deeply that a walk over them would not end well, and fields with names of Python's.

    Before anything is made of them: protobuf's message factory and :mod:`hostmesh.wire.bounds` walk likewise, and
    recurse.
    """
    stack = [iter((root,))]
    while stack:
        descriptor = next(stack[-1], None)
        if descriptor is None:
            stack.pop()
            continue
        if descriptor in seen:
            continue
        seen.add(descriptor)
        if len(stack) > MAX_TYPE_DEPTH:
            raise malformed(f"types nested deeper than {MAX_TYPE_DEPTH}", field=descriptor.full_name)
        for field in descriptor.fields:
            if field.name in MESSAGE_ATTRIBUTES:
                raise malformed(f"the field {field.name} hides what a message of Python needs", field=field.full_name)
        stack.append(iter([field.message_type for field in descriptor.fields if field.message_type is not None]))


def _check_bounded(message_type: type[Message]) -> None:
    try:
        check_bounds(message_type(), 0)
    except TypeError as error:
        descriptor: Any = message_type.DESCRIPTOR
        raise malformed(str(error), field=descriptor.full_name) from error
    except MalformedMessageError:
        pass  # an empty one may be none; what matters is that every field has a bound
