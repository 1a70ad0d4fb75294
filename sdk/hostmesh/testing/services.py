"""Protocols made up for a test, without a .proto file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from hostmesh.errors import UsageError
from hostmesh.rpc.method import MAX_MESSAGE_BYTES, spoken_versions
from hostmesh.v1 import options_pb2


def make_service(
    name: str,
    *,
    version: str = "1.0.0",
    min_version: str = "",
    streams: Collection[str] = (),
    request_streams: Collection[str] = (),
    **methods: tuple[type[Message], type[Message]],
) -> ServiceDescriptor:
    """Return a service as a .proto file would describe it: for :meth:`hostmesh.SDK.serve` and :func:`hostmesh.method`.

    Each message may have 1 MiB. Its text, bytes and repeated fields need bounds (``hostmesh/v1/options.proto``); those
    of ``google.protobuf`` have none, so that of these only messages of numbers can be used.

    Args:
        name: of the protocol: a lower-case word.
        version: the highest that is spoken.
        min_version: the lowest, of the same major number; empty: ``version`` alone is spoken.
        streams: the methods with a stream of responses.
        request_streams: the methods with a stream of requests.
        **methods: the types of the request and the response of each.

    Raises:
        UsageError: the name is no such word, there is no method, a stream is none of the methods, or the versions are
            no range.

    >>> from google.protobuf.empty_pb2 import Empty
    >>> make_service("club", Join=(Empty, Empty)).methods_by_name["Join"].input_type.full_name
    'google.protobuf.Empty'
    """
    if not (name.isascii() and name.isalpha() and name.islower()):
        raise UsageError(f"{name!r} names no protocol", remedy="use lower-case letters of ASCII")
    if not methods or not {*streams, *request_streams} <= {*methods}:
        raise UsageError("a service has methods, and streams only among them", remedy="give Name=(Request, Response)")
    try:
        spoken_versions(version, min_version)
    except ValueError as error:
        raise UsageError(str(error), remedy='give version="1.2.0", min_version="1.0.0"') from error
    options: Any = options_pb2  # its stubs know nothing of extensions' types
    file = FileDescriptorProto(syntax="proto3")
    types = [each for pair in methods.values() for each in pair]
    file.dependency.extend(sorted({options_pb2.DESCRIPTOR.name, *(each.DESCRIPTOR.file.name for each in types)}))
    service = file.service.add(name=f"{name.title()}Service")
    service.options.Extensions[options.protocol] = name
    service.options.Extensions[options.version] = version
    if min_version:
        service.options.Extensions[options.min_version] = min_version
    for method_name, (request_type, response_type) in methods.items():
        method = service.method.add(
            name=method_name,
            input_type=f".{request_type.DESCRIPTOR.full_name}",
            output_type=f".{response_type.DESCRIPTOR.full_name}",
            server_streaming=method_name in streams,
            client_streaming=method_name in request_streams,
        )
        method.options.Extensions[options.max_request_bytes] = MAX_MESSAGE_BYTES
        method.options.Extensions[options.max_response_bytes] = MAX_MESSAGE_BYTES
    # The pool is the process's, and keeps what it has: services of one name with other methods are other files there.
    digest = hashlib.sha256(file.SerializeToString(deterministic=True)).hexdigest()[:16]
    file.name, file.package = f"hostmesh_testing/{name}_{digest}.proto", f"hostmesh_testing.{name}_{digest}"
    pool = descriptor_pool.Default()
    try:
        made = pool.FindFileByName(file.name)
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString(deterministic=True))
        made = pool.FindFileByName(file.name)
    return made.services_by_name[service.name]
