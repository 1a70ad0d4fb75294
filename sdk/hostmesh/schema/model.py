"""A set of .proto files as plain values, which is what two of are compared. Pure.

Built by protobuf's own descriptor pool, so that what the language leaves to its version (presence, packing, editions)
is resolved as every implementation resolves it, and a set that is none is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool

from hostmesh.errors import SchemaError
from hostmesh.rpc.limits import CallLimits, RpcLimits, with_stated
from hostmesh.rpc.method import spoken_versions
from hostmesh.schema.descriptor_set import WELL_KNOWN, checked_files
from hostmesh.v1 import options_pb2

KINDS = MappingProxyType(
    {
        number: name.removeprefix("TYPE_").lower()
        for name, number in FieldDescriptorProto.Type.items()  # TYPE_SINT32 -> sint32
    }
)

_LEVELS = MappingProxyType(
    {
        MethodOptions.IDEMPOTENCY_UNKNOWN: "",
        MethodOptions.NO_SIDE_EFFECTS: "NO_SIDE_EFFECTS",
        MethodOptions.IDEMPOTENT: "IDEMPOTENT",
    }
)

SERVER_LIMITS = RpcLimits()
"""Of a server that was told nothing else: what holds where a service states no limits."""

Ranges = tuple[tuple[int, int], ...]
"""Numbers from first to last, both included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a message, or an extension of one."""

    full_name: str
    name: str
    number: int
    kind: str
    """``int32``, ``string``, ``message``, ``enum``, ..."""
    type_name: str
    """Full name of the message or enum, else empty."""
    is_repeated: bool
    is_map: bool
    is_packed: bool
    has_presence: bool
    """Whether absent is told from empty."""
    is_label_required: bool
    """proto2's ``required``."""
    oneof: str
    json_name: str
    default: str
    max_bytes: int | None
    min_bytes: int | None
    max_items: int | None

    @property
    def is_needed(self) -> bool:
        """Whether a reader refuses a message without it: ``required``, or empty where a least size is asked."""
        return self.is_label_required or (self.min_bytes is not None and not self.has_presence and not self.is_repeated)

    @property
    def type_text(self) -> str:
        """The type as in the .proto: ``repeated string``, ``hostmesh.v1.Price``."""
        text = self.type_name or self.kind
        return f"map entry {text}" if self.is_map else f"repeated {text}" if self.is_repeated else text


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageType:
    """A message with what it reserves."""

    full_name: str
    file: str
    fields: tuple[Field, ...]
    reserved: Ranges
    reserved_names: tuple[str, ...]
    is_map_entry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumType:
    """An enum with what it reserves; ``values`` are names and numbers in their order."""

    full_name: str
    file: str
    values: tuple[tuple[str, int], ...]
    reserved: Ranges
    reserved_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodType:
    """A method of a service."""

    full_name: str
    name: str
    request: str
    response: str
    is_client_streaming: bool
    is_server_streaming: bool
    max_request_bytes: int | None
    max_response_bytes: int | None
    default_timeout_ms: int | None
    idempotency_level: str
    """protobuf's own option: ``IDEMPOTENT``, ``NO_SIDE_EFFECTS``, or empty."""

    @property
    def is_unary(self) -> bool:
        """Whether it has one request and one response, so that its calls may have an idempotency key."""
        return not self.is_client_streaming and not self.is_server_streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, with its protocol where hostmesh's options name it, else empty."""

    full_name: str
    file: str
    protocol: str
    versions: tuple[str, ...]
    """Those that are spoken, the highest first; an empty one where none is stated."""
    calls_per_peer: CallLimits
    """What is stated of one peer's calls, and of the rest what a server has by default."""
    calls_of_all: CallLimits
    methods: tuple[MethodType, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What is said of a whole file."""

    name: str
    package: str
    syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Everything of a set of files but protobuf's own, by full name."""

    files: dict[str, File]
    messages: dict[str, MessageType]
    enums: dict[str, EnumType]
    services: dict[str, Service]
    extensions: dict[str, tuple[str, str, Field]]
    """Extensions by full name: file, message extended, field."""


def read_schema(files: FileDescriptorSet, *, source: str = "the descriptor set") -> Schema:
    """Check a set of files and return what it says.

    Args:
        files: as protoc writes it. protobuf's own files and hostmesh's options may be missing.
        source: names the set in errors.

    Raises:
        SchemaError: too large, a file is missing or there twice, a file is not valid, or the versions or limits of a
            service are none.
    """
    pool = DescriptorPool()
    for file in checked_files(files, source):
        try:
            pool.Add(file)
        except TypeError as error:
            raise SchemaError(
                f"{source}: {file.name} is not valid: {_one_line(error)}",
                path=source,
                remedy="make it again with protoc",
            ) from error
    schema = Schema(files={}, messages={}, enums={}, services={}, extensions={})
    for file in files.file:
        if not file.name.startswith(WELL_KNOWN):
            _Reader(pool, file.name, schema, source).read(file)
    return schema


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Reader:
    """Reads one file into a schema: structure from its descriptor, what the language resolves from the pool."""

    def __init__(self, pool: DescriptorPool, file: str, schema: Schema, source: str) -> None:
        self._pool: Any = pool
        self._file = file
        self._schema = schema
        self._source = source

    def read(self, file: FileDescriptorProto) -> None:
        edition = f"edition {file.edition}" if file.syntax == "editions" else file.syntax or "proto2"
        self._schema.files[file.name] = File(name=file.name, package=file.package, syntax=edition)
        for message in file.message_type:
            self._message(message, file.package)
        for enum in file.enum_type:
            self._enum(enum, file.package)
        for service in file.service:
            self._service(service, file.package)
        self._extensions(file.extension, file.package)

    def _message(self, message: DescriptorProto, scope: str) -> None:
        full_name = _join(scope, message.name)
        resolved = self._pool.FindMessageTypeByName(full_name).fields_by_number
        self._schema.messages[full_name] = MessageType(
            full_name=full_name,
            file=self._file,
            fields=tuple(_field(each, resolved[each.number], _join(full_name, each.name)) for each in message.field),
            reserved=tuple(sorted((each.start, each.end - 1) for each in message.reserved_range)),
            reserved_names=tuple(sorted(message.reserved_name)),
            is_map_entry=message.options.map_entry,
        )
        for inner in message.nested_type:
            self._message(inner, full_name)
        for enum in message.enum_type:
            self._enum(enum, full_name)
        self._extensions(message.extension, full_name)

    def _enum(self, enum: EnumDescriptorProto, scope: str) -> None:
        full_name = _join(scope, enum.name)
        self._schema.enums[full_name] = EnumType(
            full_name=full_name,
            file=self._file,
            values=tuple((value.name, value.number) for value in enum.value),
            reserved=tuple(sorted((each.start, each.end) for each in enum.reserved_range)),
            reserved_names=tuple(sorted(enum.reserved_name)),
        )

    def _service(self, service: ServiceDescriptorProto, scope: str) -> None:
        full_name = _join(scope, service.name)
        options = _extensions_of(service)
        try:
            versions = spoken_versions(options[options_pb2.version], options[options_pb2.min_version])
            of_peer = with_stated(options[options_pb2.calls_per_peer], SERVER_LIMITS.per_peer)
            of_all = with_stated(options[options_pb2.calls_of_all], SERVER_LIMITS.per_service)
        except ValueError as error:
            raise SchemaError(
                f"{self._source}: {full_name}: {error}",
                path=self._source,
                remedy="state what protoc-gen-hostmesh takes",
            ) from error
        self._schema.services[full_name] = Service(
            full_name=full_name,
            file=self._file,
            protocol=options[options_pb2.protocol],
            versions=versions,
            calls_per_peer=of_peer,
            calls_of_all=of_all,
            methods=tuple(_method(each, full_name) for each in service.method),
        )

    def _extensions(self, extensions: Iterable[FieldDescriptorProto], scope: str) -> None:
        for each in extensions:
            full_name = _join(scope, each.name)
            field = _field(each, self._pool.FindExtensionByName(full_name), full_name)
            self._schema.extensions[full_name] = (self._file, each.extendee.removeprefix("."), field)


def _method(method: MethodDescriptorProto, scope: str) -> MethodType:
    options = _extensions_of(method)
    return MethodType(
        full_name=_join(scope, method.name),
        name=method.name,
        request=method.input_type.removeprefix("."),
        response=method.output_type.removeprefix("."),
        is_client_streaming=method.client_streaming,
        is_server_streaming=method.server_streaming,
        max_request_bytes=options[options_pb2.max_request_bytes] or None,
        max_response_bytes=options[options_pb2.max_response_bytes] or None,
        default_timeout_ms=options[options_pb2.default_timeout_ms] or None,
        idempotency_level=_LEVELS[method.options.idempotency_level],
    )


def _extensions_of(described: Any) -> Any:
    # The stubs know an extension as a plain field.
    return described.options.Extensions


def _field(field: FieldDescriptorProto, resolved: Any, full_name: str) -> Field:
    options = _extensions_of(field)
    oneof = resolved.containing_oneof
    message = resolved.message_type
    is_sized = resolved.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return Field(
        full_name=full_name,
        name=field.name,
        number=field.number,
        kind=KINDS[resolved.type],
        type_name=field.type_name.removeprefix("."),
        is_repeated=resolved.is_repeated,
        is_map=bool(
            resolved.type == FieldDescriptor.TYPE_MESSAGE and resolved.is_repeated and message.GetOptions().map_entry
        ),
        is_packed=resolved.is_packed,
        has_presence=resolved.has_presence,
        is_label_required=resolved.is_required,
        # proto3 tells the absence of an `optional` field by a oneof of its own, which nobody wrote.
        oneof="" if oneof is None or field.proto3_optional else oneof.name,
        json_name=resolved.json_name,
        default=field.default_value,
        # 0 says what absent says: no bound. A bound of what a field cannot have binds nobody.
        max_bytes=(is_sized and options[options_pb2.max_bytes]) or None,
        min_bytes=(is_sized and options[options_pb2.min_bytes]) or None,
        max_items=(resolved.is_repeated and options[options_pb2.max_items]) or None,
    )


def _join(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def references(message: MessageType) -> Iterator[str]:
    """Yield the full names of the messages that a message has as fields."""
    return (field.type_name for field in message.fields if field.kind in ("message", "group"))
