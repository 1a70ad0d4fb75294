"""What generated clients and server bases are made of: the four shapes of a call, as types. Pure.

=========================  ===========================================  =============================================
in the .proto              client                                       server base
=========================  ===========================================  =============================================
``(A) returns (B)``        ``await client.get(a, ...)``                 ``get(a, context) -> B``
``(A) -> (stream B)``      ``async with client.watch(a, ...) as bs``    ``watch(a, context, send)``
``(stream A) -> (B)``      ``async with client.upload(...) as call``    ``upload(requests, context) -> B``
``(stream A, stream B)``   ``async with client.chat(...) as call``      ``chat(requests, context, send)``
=========================  ===========================================  =============================================
"""

from __future__ import annotations

from abc import ABC
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from hostmesh.errors import UsageError
from hostmesh.rpc.method import Method, RequestT, ResponseT

if TYPE_CHECKING:
    from hostmesh.net.peer_id import PeerId
    from hostmesh.rpc.client import ResponseStream
    from hostmesh.rpc.retry import RetryPolicy

RequestT_co = TypeVar("RequestT_co", bound=Message, covariant=True)
RequestT_contra = TypeVar("RequestT_contra", bound=Message, contravariant=True)
ResponseT_co = TypeVar("ResponseT_co", bound=Message, covariant=True)
ResponseT_contra = TypeVar("ResponseT_contra", bound=Message, contravariant=True)


# --- the server's side ---


class ServiceBase(ABC):
    """What a generated server base is: :meth:`hostmesh.SDK.serve` takes a handler that is one by itself."""

    __slots__ = ()

    SERVICE: ClassVar[ServiceDescriptor]
    """The service, as its .proto describes it."""


def service_of(service: ServiceDescriptor | ServiceBase) -> ServiceDescriptor:
    """Return the service of a handler that is a generated base; a service is returned as it is.

    Raises:
        UsageError: the handler is the base of several services, or of none.
    """
    if not isinstance(service, ServiceBase):
        return service
    own = [vars(base)["SERVICE"] for base in type(service).__mro__ if "SERVICE" in vars(base)]
    found: dict[str, ServiceDescriptor] = {each.full_name: each for each in own}
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "no service"
        raise UsageError(f"{type(service).__name__} serves {names}", remedy="name the service: serve(SERVICE, handler)")
    return next(iter(found.values()))


class SendResponse(Protocol[ResponseT_contra]):
    """Sends one response of a stream: ``await send(response)``.

    Several tasks of a handler may do so at once: each response goes out whole, one after the other.
    """

    async def __call__(self, response: ResponseT_contra, /) -> None:
        """Send; wait while the caller does not read.

        Raises:
            UsageError: the response is not of the method's type or breaks a bound; nothing was sent.
            ConnectionLostError: the caller has left.
        """
        ...


class RequestStream(Protocol[RequestT_co]):
    """The requests of a call, as an async iterator. It ends when the caller has sent its last one.

    Iterating raises :class:`~hostmesh.errors.RemoteProtocolError` where the caller sent what is no request, which ends
    the call. A caller that leaves, or whose time is up, cancels the handler. A handler that does not read holds the
    caller back, and one may return before the last request.
    """

    def __aiter__(self) -> AsyncIterator[RequestT_co]:
        """Return itself."""
        ...

    async def __anext__(self) -> RequestT_co:
        """Wait for the next request. Cancelling it loses none."""
        ...


# --- the caller's side ---


class ClientStreamCall(Protocol[RequestT_contra, ResponseT_co]):
    """A call with any number of requests and one response: send, then :meth:`finish`.

    Leaving its block without :meth:`finish` cancels the call.
    """

    @property
    def peer_id(self) -> PeerId:
        """The peer that is called."""
        ...

    async def send(self, request: RequestT_contra) -> None:
        """Send one request; wait while the peer does not read.

        Raises:
            FrameTooLargeError, UsageError: the request breaks a bound, or the call is finished, or the peer has
                answered already; nothing was sent.
            RpcError: the peer has ended the call with a status other than OK.
            ConnectionLostError, DeadlineExceededError: the path broke, or the call's time is up.
        """
        ...

    async def finish(self) -> ResponseT_co:
        """Say that there are no more requests, and wait for the response. Once a call.

        Raises:
            RpcError: the peer ended the call with a status other than OK.
            ConnectionLostError, DeadlineExceededError: likewise as for :meth:`send`.
            RemoteProtocolError: the peer broke the protocol.
        """
        ...


class BidiStreamCall(Protocol[RequestT_contra, ResponseT_co]):
    """A call with any number of requests and responses: send and iterate, also in different tasks, and :meth:`end`.

    Iterating ends after the last response when the status is OK, and raises what :meth:`hostmesh.RpcClient.unary` lists
    otherwise. Leaving its block before that cancels the call.
    """

    @property
    def peer_id(self) -> PeerId:
        """The peer that is called."""
        ...

    async def send(self, request: RequestT_contra) -> None:
        """Send one request; wait while the peer does not read.

        Raises:
            FrameTooLargeError, UsageError: the request breaks a bound, or the requests have ended, or the peer has
                answered already; nothing was sent.
            RpcError: the peer has ended the call with a status other than OK.
            ConnectionLostError, DeadlineExceededError: the path broke, or the call's time is up.
        """
        ...

    async def end(self) -> None:
        """Say that there are no more requests; responses may still come. Idempotent.

        Raises:
            ConnectionLostError, DeadlineExceededError: as :meth:`send`.
        """
        ...

    def __aiter__(self) -> AsyncIterator[ResponseT_co]:
        """Return itself."""
        ...

    async def __anext__(self) -> ResponseT_co:
        """Wait for the next response. Cancelling it loses none."""
        ...


class RpcCaller(Protocol):
    """Makes calls: what a generated client needs of :class:`hostmesh.RpcClient`."""

    async def unary(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        session_id: bytes = b"",
        idempotency_key: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> ResponseT:
        """Make a call with one response; see :meth:`hostmesh.RpcClient.unary`."""
        ...

    def server_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ResponseStream[ResponseT]]:
        """Make a call with many responses; see :meth:`hostmesh.RpcClient.server_stream`."""
        ...

    def client_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[ClientStreamCall[RequestT, ResponseT]]:
        """Make a call with many requests; see :meth:`hostmesh.RpcClient.client_stream`."""
        ...

    def bidi_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[BidiStreamCall[RequestT, ResponseT]]:
        """Make a call with many of both; see :meth:`hostmesh.RpcClient.bidi_stream`."""
        ...
