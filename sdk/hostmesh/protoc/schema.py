"""What the plugin knows of the .proto files: services with their options, comments and Python names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from hostmesh.protoc.names import method_constant, module_name, service_constant
from hostmesh.rpc.method import handler_name
from hostmesh.v1 import options_pb2

# Field numbers in descriptor.proto, of which the paths in a file's source information are made.
_FILE_MESSAGES = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_FILE_SERVICES = FileDescriptorProto.SERVICE_FIELD_NUMBER
_MESSAGE_FIELDS = DescriptorProto.FIELD_FIELD_NUMBER
_MESSAGE_MESSAGES = DescriptorProto.NESTED_TYPE_FIELD_NUMBER
_SERVICE_METHODS = ServiceDescriptorProto.METHOD_FIELD_NUMBER

Path = tuple[int, ...]


class SourceFile:
    """A .proto file."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        self.proto = proto
        self._locations = {tuple(each.path): each for each in proto.source_code_info.location}

    def where(self, path: Path) -> str:
        """Return where something stands: ``chat.proto:12``, or ``chat.proto`` where that is not known."""
        location = self._locations.get(path)
        return self.proto.name if location is None else f"{self.proto.name}:{location.span[0] + 1}"

    def comment(self, path: Path) -> str:
        """Return the comment before something."""
        location = self._locations.get(path)
        return "" if location is None else location.leading_comments


@dataclass(frozen=True)
class MessageType:
    """A message that a method takes or gives, or a field holds."""

    file: SourceFile
    path: Path
    proto: DescriptorProto
    full_name: str
    python_name: str
    """In its module: ``Outer.Inner``."""

    @property
    def module(self) -> str:
        """The module that protoc writes it to."""
        return module_name(self.file.proto.name, "_pb2")

    def fields(self) -> Iterator[tuple[FieldDescriptorProto, str]]:
        """Return the fields, each with where it stands."""
        for index, proto in enumerate(self.proto.field):
            yield proto, self.file.where((*self.path, _MESSAGE_FIELDS, index))


@dataclass(frozen=True)
class MethodModel:
    """A method of a service."""

    proto: MethodDescriptorProto
    full_name: str
    """``ChatService.Say``."""
    where: str
    comment: str
    python_name: str
    constant: str
    request: MessageType
    response: MessageType
    max_request_bytes: int
    max_response_bytes: int
    default_timeout_ms: int | None
    """None: not stated."""


@dataclass(frozen=True)
class ServiceModel:
    """A service."""

    name: str
    full_name: str
    where: str
    comment: str
    constant: str
    protocol: str
    version: str
    min_version: str
    call_limits: tuple[tuple[str, options_pb2.CallLimits], ...]
    """By the names of the options."""
    methods: tuple[MethodModel, ...]


@dataclass(frozen=True)
class ServiceFile:
    """A file to generate a module for."""

    name: str
    module: str
    """That of its messages."""
    output: str
    """The path to write: ``chat/v1/chat_hostmesh.py``."""
    package: str
    imports_options: bool
    services: tuple[ServiceModel, ...]
    modules: tuple[str, ...] = field(default=())
    """Whose messages the services use, sorted."""


class Schema:
    """All files of a request, by name, and their messages."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._files = {proto.name: SourceFile(proto) for proto in files}
        self._messages: dict[str, MessageType] = {}
        for file in self._files.values():
            prefix = f".{file.proto.package}" if file.proto.package else ""
            for index, proto in enumerate(file.proto.message_type):
                self._add(file, (_FILE_MESSAGES, index), proto, prefix, "")

    def message(self, type_name: str) -> MessageType:
        """Return a message by its name, as fields and methods say it: ``.chat.v1.Line``."""
        return self._messages[type_name]

    def service_file(self, name: str) -> ServiceFile:
        """Return what a file says of services."""
        file = self._files[name]
        services = tuple(self._service(file, index, proto) for index, proto in enumerate(file.proto.service))
        own = module_name(name, "_pb2")
        used = {
            each.module
            for service in services
            for method in service.methods
            for each in (method.request, method.response)
        }
        return ServiceFile(
            name=name,
            module=own,
            output=module_name(name, "_hostmesh").replace(".", "/") + ".py",
            package=file.proto.package,
            imports_options=options_pb2.DESCRIPTOR.name in file.proto.dependency,
            services=services,
            modules=tuple(sorted({own, *used})),
        )

    def _add(self, file: SourceFile, path: Path, proto: DescriptorProto, prefix: str, outer: str) -> None:
        full_name = f"{prefix}.{proto.name}"
        message = MessageType(file, path, proto, full_name.removeprefix("."), f"{outer}{proto.name}")
        self._messages[full_name] = message
        for index, nested in enumerate(proto.nested_type):
            self._add(file, (*path, _MESSAGE_MESSAGES, index), nested, full_name, f"{message.python_name}.")

    def _service(self, file: SourceFile, index: int, proto: ServiceDescriptorProto) -> ServiceModel:
        path = (_FILE_SERVICES, index)
        options: Any = proto.options.Extensions
        return ServiceModel(
            name=proto.name,
            full_name=f"{file.proto.package}.{proto.name}".removeprefix("."),
            where=file.where(path),
            comment=file.comment(path),
            constant=service_constant(proto.name),
            protocol=options[options_pb2.protocol],
            version=options[options_pb2.version],
            min_version=options[options_pb2.min_version],
            call_limits=(
                ("calls_per_peer", options[options_pb2.calls_per_peer]),
                ("calls_of_all", options[options_pb2.calls_of_all]),
            ),
            methods=tuple(
                self._method(file, (*path, _SERVICE_METHODS, number), proto.name, method)
                for number, method in enumerate(proto.method)
            ),
        )

    def _method(self, file: SourceFile, path: Path, service: str, proto: MethodDescriptorProto) -> MethodModel:
        options: Any = proto.options.Extensions
        has_timeout = options_pb2.default_timeout_ms in options
        return MethodModel(
            proto=proto,
            full_name=f"{service}.{proto.name}",
            where=file.where(path),
            comment=file.comment(path),
            python_name=handler_name(proto.name),
            constant=method_constant(proto.name),
            request=self.message(proto.input_type),
            response=self.message(proto.output_type),
            max_request_bytes=options[options_pb2.max_request_bytes],
            max_response_bytes=options[options_pb2.max_response_bytes],
            default_timeout_ms=options[options_pb2.default_timeout_ms] if has_timeout else None,
        )
