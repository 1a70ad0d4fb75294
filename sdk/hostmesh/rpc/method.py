"""Methods as the ``service`` blocks of the .proto files state them: one typed constant for client and server. Pure."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from hostmesh.v1 import options_pb2, rpc_pb2

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

MAX_MESSAGE_BYTES = 1024 * 1024
"""Most that any method may allow one message; the bound of ``Frame.message``."""
MAX_VERSIONS = 8
"""Most versions of one protocol that a node speaks: each has an id, of which identify and records carry few."""
_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


class Cardinality(Enum):
    """How many requests and responses a call has."""

    UNARY = "unary"
    SERVER_STREAM = "server stream"
    CLIENT_STREAM = "client stream"
    BIDI_STREAM = "bidirectional stream"


_STREAMS = {
    Cardinality.UNARY: (False, False),
    Cardinality.SERVER_STREAM: (False, True),
    Cardinality.CLIENT_STREAM: (True, False),
    Cardinality.BIDI_STREAM: (True, True),
}
"""Whether the requests and the responses are streams."""
_CARDINALITIES = {streams: cardinality for cardinality, streams in _STREAMS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[RequestT, ResponseT]):
    """One remote procedure."""

    service: str
    """The service's name in its .proto: ``JobService``."""
    protocol: str
    """The protocol's name in its id: ``job``."""
    versions: tuple[str, ...]
    """The protocol's versions that are spoken, the highest first: ``1.1.0``, ``1.0.0``."""
    name: str
    """The method's name in its .proto: ``Quote``."""
    cardinality: Cardinality
    request_type: type[RequestT]
    response_type: type[ResponseT]
    max_request_bytes: int
    max_response_bytes: int
    default_timeout_s: float | None = None
    """Time that a call has when its caller names none; None = no end."""
    is_idempotent: bool = False
    """Whether running it twice does no harm: its ``idempotency_level`` is IDEMPOTENT or NO_SIDE_EFFECTS."""
    full_name: str = field(init=False, compare=False, repr=False)
    """``JobService.Quote``, as in logs and counters."""
    header: bytes = field(init=False, compare=False, repr=False)
    """The serialised ``CallHeader`` of a call with nothing but the method."""
    _ids: dict[str, tuple[str, ...]] = field(init=False, compare=False, repr=False, default_factory=dict)
    takes_stream: bool = field(init=False, compare=False, repr=False)
    """Whether there are any number of requests, and not one."""
    gives_stream: bool = field(init=False, compare=False, repr=False)
    """Whether there are any number of responses, and not one."""

    def __post_init__(self) -> None:
        """Make what every call of the method needs, once."""
        object.__setattr__(self, "full_name", f"{self.service}.{self.name}")
        object.__setattr__(self, "header", rpc_pb2.CallHeader(method=self.name).SerializeToString())
        streams = _STREAMS[self.cardinality]
        object.__setattr__(self, "takes_stream", streams[0])
        object.__setattr__(self, "gives_stream", streams[1])

    def ids(self, prefix: str) -> tuple[str, ...]:
        """Return the libp2p protocol ids of the method, that of the highest version first; made once a prefix."""
        ids = self._ids.get(prefix)
        if ids is None:
            ids = self._ids[prefix] = protocol_ids(prefix, self)
        return ids

    @property
    def is_unary(self) -> bool:
        """Whether there is one request and one response."""
        return self.cardinality is Cardinality.UNARY


AnyMethod = Method[Any, Any]


def method(
    service: ServiceDescriptor, name: str, request_type: type[RequestT], response_type: type[ResponseT]
) -> Method[RequestT, ResponseT]:
    """Return a method of a service, with the types that its messages have.

    Args:
        service: ``xxx_pb2.DESCRIPTOR.services_by_name["XxxService"]``.
        name: as in the .proto.
        request_type: the generated class; given so that the type checker knows it.
        response_type: likewise.

    Raises:
        TypeError: no such method, other types, no size options, or options that mean nothing: a bug where the constant
            stands.

    >>> from hostmesh.v1 import status_pb2
    >>> ping = method(
    ...     status_pb2.DESCRIPTOR.services_by_name["StatusService"],
    ...     "Ping",
    ...     status_pb2.PingRequest,
    ...     status_pb2.PingResponse,
    ... )
    >>> ping.full_name, ping.cardinality.value, ping.max_request_bytes
    ('StatusService.Ping', 'unary', 64)
    """
    descriptor = service.methods_by_name.get(name)
    if descriptor is None:
        raise TypeError(f"{service.full_name} has no method {name}")
    if descriptor.input_type is not request_type.DESCRIPTOR or descriptor.output_type is not response_type.DESCRIPTOR:
        raise TypeError(
            f"{descriptor.full_name} takes {descriptor.input_type.name} and gives {descriptor.output_type.name}"
        )
    return _method(service, descriptor, request_type, response_type)


def methods_of(service: ServiceDescriptor) -> dict[str, AnyMethod]:
    """Return every method of a service by its name.

    Raises:
        TypeError: as :func:`method`, or two methods have one name, which protobuf's pool lets pass.
    """
    methods = {
        descriptor.name: _method(
            service,
            descriptor,
            message_factory.GetMessageClass(descriptor.input_type),
            message_factory.GetMessageClass(descriptor.output_type),
        )
        for descriptor in service.methods
    }
    if len(methods) != len(service.methods):
        raise TypeError(f"{service.full_name} has two methods of one name")
    return methods


def protocol_ids(prefix: str, what: AnyMethod | ServiceDescriptor) -> tuple[str, ...]:
    """Return the libp2p protocol ids of a method or service, that of the highest version first.

    >>> from hostmesh.v1 import job_pb2
    >>> protocol_ids("/hostmesh", job_pb2.DESCRIPTOR.services_by_name["JobService"])
    ('/hostmesh/job/1.0.0',)
    """
    protocol, versions = (what.protocol, what.versions) if isinstance(what, Method) else _protocol(what)
    return _protocol_ids(prefix, protocol, versions)


@lru_cache(maxsize=1024)
def _protocol_ids(prefix: str, protocol: str, versions: tuple[str, ...]) -> tuple[str, ...]:
    # Every call needs them.
    return tuple(f"{prefix}/{protocol}/{version}" for version in versions)


def spoken_versions(version: str, min_version: str = "") -> tuple[str, ...]:
    """Return every version of a range, the highest first.

    Args:
        version: the highest one, MAJOR.MINOR.PATCH.
        min_version: the lowest one, which may differ in its minor number only; empty for ``version`` alone.

    Raises:
        ValueError: these make no range, or one of more than :data:`MAX_VERSIONS`.

    >>> spoken_versions("1.2.0", "1.0.0")
    ('1.2.0', '1.1.0', '1.0.0')
    """
    if not min_version or min_version == version:
        return (version,)
    highest, lowest = (_VERSION.fullmatch(each) for each in (version, min_version))
    if highest is None or lowest is None or highest[1] != lowest[1] or {highest[3], lowest[3]} != {"0"}:
        raise ValueError("the versions of a range are as 1.2.0 and 1.0.0, of one major number and patch 0")
    first, last = int(highest[2]), int(lowest[2])
    if not 0 <= first - last < MAX_VERSIONS:
        raise ValueError(f"a range goes up from min_version to version, over {MAX_VERSIONS} versions at most")
    return tuple(f"{highest[1]}.{minor}.0" for minor in range(first, last - 1, -1))


def handler_name(name: str) -> str:
    """Return the Python name of a method; a keyword gets an underscore.

    >>> handler_name("GetRecord"), handler_name("Import")
    ('get_record', 'import_')
    """
    python_name = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return f"{python_name}_" if keyword.iskeyword(python_name) else python_name


def _protocol(service: ServiceDescriptor) -> tuple[str, tuple[str, ...]]:
    # The stubs know an extension as a plain field.
    extensions: Any = service.GetOptions().Extensions
    protocol, version = extensions[options_pb2.protocol], extensions[options_pb2.version]
    if not protocol or not version:
        raise TypeError(f"{service.full_name} has no protocol or version option")
    try:
        return protocol, spoken_versions(version, extensions[options_pb2.min_version])
    except ValueError as error:
        raise TypeError(f"{service.full_name}: {error}") from error


def _method(
    service: ServiceDescriptor,
    descriptor: MethodDescriptor,
    request_type: type[RequestT],
    response_type: type[ResponseT],
) -> Method[RequestT, ResponseT]:
    extensions: Any = descriptor.GetOptions().Extensions
    sizes = (extensions[options_pb2.max_request_bytes], extensions[options_pb2.max_response_bytes])
    if not all(0 < size <= MAX_MESSAGE_BYTES for size in sizes):
        raise TypeError(f"{descriptor.full_name} needs max_request_bytes and max_response_bytes up to 1 MiB")
    protocol, versions = _protocol(service)
    timeout_ms = extensions[options_pb2.default_timeout_ms]
    if not timeout_ms and options_pb2.default_timeout_ms in extensions:
        raise TypeError(f"{descriptor.full_name} has a default_timeout_ms of 0: no call could be made")
    return Method(
        service=service.name,
        protocol=protocol,
        versions=versions,
        name=descriptor.name,
        cardinality=_CARDINALITIES[descriptor.client_streaming, descriptor.server_streaming],
        request_type=request_type,
        response_type=response_type,
        max_request_bytes=sizes[0],
        max_response_bytes=sizes[1],
        default_timeout_s=timeout_ms / 1000 if timeout_ms else None,
        is_idempotent=descriptor.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
    )
