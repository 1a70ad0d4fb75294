"""Files of descriptors as a peer may send them: a sound one, and ways to make it unsound."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from hostmesh.v1 import options_pb2

NAME = "acme.v1.EchoService"
_OPTIONS: Any = options_pb2  # its stubs know nothing of extensions' types


def add_service(
    file: FileDescriptorProto,
    name: str = "EchoService",
    *,
    message: str = ".acme.v1.Word",
    methods: int = 1,
    protocol: str = "echo",
    version: str = "1.0.0",
) -> None:
    """Add a service with methods ``Say0``, ``Say1``, ..."""
    service = file.service.add(name=name)
    service.options.Extensions[_OPTIONS.protocol] = protocol
    service.options.Extensions[_OPTIONS.version] = version
    for number in range(methods):
        method = service.method.add(name=f"Say{number}", input_type=message, output_type=message)
        method.options.Extensions[_OPTIONS.max_request_bytes] = 1024
        method.options.Extensions[_OPTIONS.max_response_bytes] = 2048


def add_text(message: DescriptorProto, name: str = "text", *, number: int = 1, max_bytes: int = 64) -> None:
    """Add a string field; ``max_bytes`` of 0 leaves it without a bound."""
    field = message.field.add(
        name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL, type=FieldDescriptorProto.TYPE_STRING
    )
    if max_bytes:
        field.options.Extensions[_OPTIONS.max_bytes] = max_bytes


def add_inner(message: DescriptorProto, type_name: str, name: str = "inner", *, number: int = 2) -> None:
    """Add a field that holds another message."""
    message.field.add(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=type_name,
    )


def bare_file(name: str = "acme/v1/echo.proto", package: str = "acme.v1") -> FileDescriptorProto:
    """Return a file with nothing in it."""
    return FileDescriptorProto(name=name, package=package, syntax="proto3")


def echo_file() -> FileDescriptorProto:
    """Return a file with the service :data:`NAME`, of one method on a message with one string."""
    file = bare_file()
    add_text(file.message_type.add(name="Word"))
    add_service(file)
    return file
