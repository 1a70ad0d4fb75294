"""What a .proto file must say before a protocol can be made of it. Pure."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from hostmesh.protoc.names import module_aliases
from hostmesh.protoc.schema import MessageType, MethodModel, Schema, ServiceFile, ServiceModel
from hostmesh.rpc.limits import RpcLimits, with_stated
from hostmesh.rpc.method import MAX_MESSAGE_BYTES, spoken_versions
from hostmesh.schema.descriptor_set import MESSAGE_ATTRIBUTES
from hostmesh.v1 import options_pb2

MAX_PROTOCOL_BYTES = 40
MAX_VERSION_BYTES = 12
"""With these a protocol id fits into the 64 bytes that records and identify give one."""
OWN_PROTOCOLS = frozenset({"discovery", "job", "kad", "message", "reflection", "session", "status"})
OWN_PACKAGE = "hostmesh.v1"

_PROTOCOL = re.compile(r"[a-z][a-z0-9]*([-._/][a-z0-9]+)*")
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}")
_IMPORT = 'import "hostmesh/v1/options.proto" (its folder: protoc-gen-hostmesh --include)'
_NEEDED_NAMES = frozenset({"abstractmethod", "bytes", "float", "hostmesh", "str"})
"""What a generated class says among its methods: one of these names would hide it there."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what helps."""

    where: str
    what: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.text}; {self.remedy}"


def check(schema: Schema, files: Sequence[ServiceFile]) -> list[Problem]:
    """Return everything that is wrong with these files, in the order of the files."""
    problems: list[Problem] = []
    seen: set[str] = set()
    served: dict[tuple[str, str], str] = {}
    for file in files:
        problems += _check_modules(file)
        problems += _check_constants(file)
        for service in file.services:
            problems += _check_protocol(file, service)
            problems += _check_versions(file, service, served)
            problems += _check_call_limits(service)
            problems += _check_names(file, service)
            for method in service.methods:
                problems += _check_sizes(file, method)
                problems += _check_timeout(method)
                for message in (method.request, method.response):
                    problems += _check_type(method, message)
                    problems += _check_bounds(schema, message, seen)
    return problems


def _check_modules(file: ServiceFile) -> Iterator[Problem]:
    for module in file.modules:
        for part in module.split("."):
            if not part.isidentifier() or keyword.iskeyword(part):
                yield Problem(
                    file.name, module, f"{part!r} can be no part of a module's name", "rename the folder or file"
                )


def _check_constants(file: ServiceFile) -> Iterator[Problem]:
    by_constant: dict[str, str] = {}
    for service in file.services:
        if service.name.startswith("_"):
            yield Problem(service.where, service.name, "a service's name starts with a letter", "rename the service")
        other = by_constant.setdefault(service.constant, service.name)
        if other != service.name:
            text = f"in Python its constant has the name of {other}'s, {service.constant}"
            yield Problem(service.where, service.name, text, "rename one of the two")


def _check_protocol(file: ServiceFile, service: ServiceModel) -> Iterator[Problem]:
    first = "" if file.imports_options else f"{_IMPORT} and "
    if not service.protocol:
        remedy = f'{first}add: option (hostmesh.v1.protocol) = "chat";'
        yield Problem(service.where, service.name, "no protocol option", remedy)
    elif not _PROTOCOL.fullmatch(service.protocol) or len(service.protocol) > MAX_PROTOCOL_BYTES:
        yield Problem(
            service.where,
            service.name,
            f"{service.protocol!r} is no name of a protocol",
            f"use lower-case letters and digits, with - . _ / between them, {MAX_PROTOCOL_BYTES} at most",
        )
    elif service.protocol in OWN_PROTOCOLS and file.package != OWN_PACKAGE:
        text = f"{service.protocol!r} is a protocol of hostmesh itself"
        yield Problem(service.where, service.name, text, "choose another name")


def _check_versions(file: ServiceFile, service: ServiceModel, served: dict[tuple[str, str], str]) -> Iterator[Problem]:
    first = "" if file.imports_options else f"{_IMPORT} and "
    if not service.version:
        remedy = f'{first}add: option (hostmesh.v1.version) = "1.0.0";'
        yield Problem(service.where, service.name, "no version option", remedy)
    elif not _VERSION.fullmatch(service.version) or len(service.version) > MAX_VERSION_BYTES:
        text = f"{service.version!r} is no version"
        remedy = f"use three numbers, as in 1.0.0, of {MAX_VERSION_BYTES} characters at most"
        yield Problem(service.where, service.name, text, remedy)
    else:
        try:
            versions = spoken_versions(service.version, service.min_version)
        except ValueError as error:
            text = f"min_version {service.min_version!r} and version {service.version!r} are no range: {error}"
            remedy = "state the lowest version that is still spoken, as in 1.0.0, or leave min_version out"
            yield Problem(service.where, service.name, text, remedy)
            return
        others = {served.setdefault((service.protocol, each), service.full_name) for each in versions}
        if service.protocol and (others := others - {service.full_name}):
            text = f"{', '.join(sorted(others))} has the same protocol and version"
            yield Problem(service.where, service.name, text, "give each service a protocol of its own")


def _check_call_limits(service: ServiceModel) -> Iterator[Problem]:
    for option, stated in service.call_limits:
        try:
            # Which limits a server has of its own makes no difference to whether these are any.
            with_stated(stated, RpcLimits().per_peer)
        except ValueError as error:
            remedy = "state a positive number, or leave it out for the server's own limit"
            yield Problem(service.where, service.name, f"{option}: {error}", remedy)


def _check_names(file: ServiceFile, service: ServiceModel) -> Iterator[Problem]:
    needed = _NEEDED_NAMES | set(module_aliases(file.modules).values())
    services = {each.constant for each in file.services}
    by_name: dict[str, str] = {}
    by_constant: dict[str, str] = {}
    for method in service.methods:
        name = method.python_name
        if name.startswith("_"):
            yield Problem(method.where, method.full_name, "a method's name starts with a letter", "rename the method")
        elif name in needed or method.constant in services:
            hiding = name if name in needed else method.constant
            text = f"in Python it is {hiding}, which hides what the generated class needs"
            yield Problem(method.where, method.full_name, text, "rename the method")
        for names, python_name in ((by_name, name), (by_constant, method.constant)):
            other = names.setdefault(python_name, method.proto.name)
            if other != method.proto.name:
                text = f"in Python it has the name of {other}, {python_name}"
                yield Problem(method.where, method.full_name, text, "rename one of the two")
                break


def _check_sizes(file: ServiceFile, method: MethodModel) -> Iterator[Problem]:
    first = "" if file.imports_options else f"{_IMPORT} and "
    for option, size in (
        ("max_request_bytes", method.max_request_bytes),
        ("max_response_bytes", method.max_response_bytes),
    ):
        if not size:
            remedy = f"{first}add: option (hostmesh.v1.{option}) = 4096;"
            yield Problem(method.where, method.full_name, f"no {option}", remedy)
        elif size > MAX_MESSAGE_BYTES:
            text = f"{option} of {size} is over 1 MiB ({MAX_MESSAGE_BYTES})"
            yield Problem(method.where, method.full_name, text, "send what is larger in parts, by a stream")


def _check_timeout(method: MethodModel) -> Iterator[Problem]:
    if method.default_timeout_ms == 0:
        remedy = "state how many milliseconds a call has, or leave it out for calls without a deadline"
        yield Problem(method.where, method.full_name, "default_timeout_ms of 0 lets no call through", remedy)


def _check_type(method: MethodModel, message: MessageType) -> Iterator[Problem]:
    for part in message.python_name.split("."):
        if keyword.iskeyword(part):
            text = f"the name of its message {message.full_name} is a word of Python's"
            yield Problem(method.where, method.full_name, text, f"rename the message {part}")
        elif part == "DESCRIPTOR" or part.startswith("__"):
            # Modules and messages have one of their own; two underscores are mangled inside a class.
            text = f"in Python the name of its message {message.full_name} is another's"
            yield Problem(method.where, method.full_name, text, f"rename the message {part}")


def _check_bounds(schema: Schema, message: MessageType, seen: set[str]) -> Iterable[Problem]:
    """Check the fields of a message and of those inside it, as :mod:`hostmesh.wire.bounds` needs them."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    inner: list[MessageType] = []
    for field, where in message.fields():
        name = f"{message.full_name}.{field.name}"
        if field.type in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_GROUP):
            held = schema.message(field.type_name)
            if held.proto.options.map_entry:
                yield Problem(where, name, "a map, which has no bounds", "use a repeated message of key and value")
                continue
            inner.append(held)
        yield from _check_field(message, field, name, where)
    for held in inner:
        yield from _check_bounds(schema, held, seen)


def _check_field(message: MessageType, field: FieldDescriptorProto, name: str, where: str) -> Iterator[Problem]:
    options: Any = field.options.Extensions
    is_foreign = message.file.proto.package.startswith("google.protobuf")
    if field.name in MESSAGE_ATTRIBUTES:
        yield Problem(where, name, "the field hides what a message of Python needs", "rename the field")
    most, least = options[options_pb2.max_bytes], options[options_pb2.min_bytes]
    if field.type in (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES):
        if not most:
            remedy = "add [(hostmesh.v1.max_bytes) = 64]"
            yield Problem(where, name, "no max_bytes", "use a message of your own" if is_foreign else remedy)
        elif most > MAX_MESSAGE_BYTES:
            yield Problem(where, name, f"max_bytes of {most} is over 1 MiB ({MAX_MESSAGE_BYTES})", "lower it")
        elif least > most:
            yield Problem(where, name, f"min_bytes of {least} is over max_bytes of {most}", "lower it")
    if field.label == FieldDescriptorProto.LABEL_REPEATED and not options[options_pb2.max_items]:
        remedy = "add [(hostmesh.v1.max_items) = 64]"
        yield Problem(where, name, "no max_items", "use a message of your own" if is_foreign else remedy)
