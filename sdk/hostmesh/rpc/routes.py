"""What a server serves: methods with their handlers, by service; and what it counts of their calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from hostmesh.errors import StatusCode, UsageError
from hostmesh.rpc.interceptors import ServerInterceptor
from hostmesh.rpc.limits import ServiceCalls
from hostmesh.rpc.method import AnyMethod, handler_name, methods_of
from hostmesh.rpc.served_call import encode_response, largest_request_frame


@dataclass(slots=True)
class RpcCounters:
    """What the server saw since it was made. Bounded by the methods and status codes."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method (``JobService.Run``; ``JobService`` before the method is known) and status (``OK``)."""
    abandoned: Counter[str] = field(default_factory=Counter)
    """By method: calls whose caller left before the end."""
    violations: Counter[str] = field(default_factory=Counter)
    """By service: streams that broke the protocol."""
    handler_failures: Counter[str] = field(default_factory=Counter)
    """By method: handlers that raised what is no answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and who serves it."""

    method: AnyMethod
    handler: Callable[..., Awaitable[Any]]
    interceptors: Sequence[ServerInterceptor]
    """Around the handler, the outermost first."""
    encode: Callable[[Message], tuple[bytes, bytes]]
    """Encodes one response of a stream: see :func:`hostmesh.rpc.call.encode_response`."""
    counted_ok: tuple[str, str]
    """Under which its calls that end well are counted."""


class Service:
    """A service in one of its versions.

    Args:
        descriptor: as its .proto describes it.
        routes: its methods, by name.
        calls: counts its calls.
        version: of its protocol.
    """

    __slots__ = (
        "calls",
        "descriptor",
        "expects_plain",
        "max_frame_bytes",
        "methods",
        "name",
        "plain",
        "routes",
        "version",
    )

    def __init__(
        self, descriptor: ServiceDescriptor, routes: Mapping[str, Route], calls: ServiceCalls, *, version: str
    ) -> None:
        self.descriptor = descriptor
        self.name = descriptor.name
        self.routes = routes
        self.calls = calls
        self.version = version
        self.expects_plain = False
        """Whether its last call was one of a request and a response that came whole: the next one may be so, too."""
        self.methods = {name: route.method for name, route in routes.items()}
        self.max_frame_bytes = largest_request_frame(self.methods)
        self.plain = {each.method.header: each for each in routes.values() if not each.method.takes_stream}
        """The methods of one request, by their ``header``: that of a call which says nothing else but a deadline."""


def routes_of(
    service: ServiceDescriptor, handler: object, interceptors: Sequence[ServerInterceptor]
) -> dict[str, Route]:
    """Return the methods of a service by name, each with the method of the handler that serves it.

    Raises:
        UsageError: the handler lacks one.
    """
    routes: dict[str, Route] = {}
    for name, method in methods_of(service).items():
        function = getattr(handler, handler_name(name), None)
        if not callable(function):
            raise UsageError(f"{type(handler).__name__} has no {handler_name(name)} for {service.name}.{name}")
        encode = partial(encode_response, method)
        routes[name] = Route(method, function, tuple(interceptors), encode, (method.full_name, StatusCode.OK.name))
    return routes
