"""What stands around every call: authentication, metrics, traces, rate limits. An async context manager a call.

The first interceptor is the outermost. A client's is entered before anything is sent, once an attempt, and may add
metadata or refuse; a server's is entered when the header and the first request are there, before the handler, and may
refuse with :class:`~hostmesh.errors.RpcError`. When they are left, ``call.status`` says how the call ended. They see no
messages. A context variable that one sets is there for the handler, and for the calls that the handler makes.

What is refused at admission (too many calls, no such method, a malformed request) meets no server's interceptor: such
calls are counted in :class:`hostmesh.rpc.server.RpcCounters`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hostmesh.errors import StatusCode, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.method import AnyMethod

CallT = TypeVar("CallT", "OutgoingCall", "IncomingCall", contravariant=True)


@dataclass(slots=True, kw_only=True)
class OutgoingCall:
    """A call that is about to be made, as a client's interceptors see it."""

    peer_id: PeerId
    """Whom it is for; perhaps not dialled yet."""
    method: AnyMethod
    timeout_s: float | None
    """None = no deadline."""
    session_id: bytes = b""
    idempotency_key: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    """What travels with it. To be added to before the call is made: at most 16 entries of 64 and 1024 bytes."""
    status: StatusCode | None = None
    """How it ended, for its caller: what the peer said; else UNAVAILABLE where nobody was reached or the connection was
    lost, DEADLINE_EXCEEDED, UNIMPLEMENTED where the peer lacks the protocol, CANCELLED where its caller left. None
    until then."""


@dataclass(slots=True, kw_only=True)
class IncomingCall:
    """A call that a handler is about to serve, as a server's interceptors see it."""

    context: CallContext
    method: AnyMethod
    status: StatusCode | None = None
    """How it ended: OK, the handler's error, INTERNAL for what is no answer, CANCELLED where its caller left,
    DEADLINE_EXCEEDED. None until then."""


class _Interceptor(Protocol[CallT]):
    def intercept(self, call: CallT, /) -> AbstractAsyncContextManager[None]: ...


class ClientInterceptor(Protocol):
    """Stands around the calls of a client."""

    def intercept(self, call: OutgoingCall, /) -> AbstractAsyncContextManager[None]:
        """Return what is entered before the call is made, and left when it has ended.

        Entering may raise a :class:`~hostmesh.errors.HostmeshError`, which the caller gets: nothing was sent then.

        Example::

            class Tenant:
                @asynccontextmanager
                async def intercept(self, call):
                    call.metadata["tenant"] = "blue"
                    yield
        """
        ...


class ServerInterceptor(Protocol):
    """Stands around the handlers of a server."""

    def intercept(self, call: IncomingCall, /) -> AbstractAsyncContextManager[None]:
        """Return what is entered before the handler is called, and left when it has returned.

        Entering may raise :class:`~hostmesh.errors.RpcError`: it is the answer then, and the handler is not called.
        What else it raises ends the call with INTERNAL. It may wait on entering and leaving, within the call's
        deadline.
        """
        ...


@asynccontextmanager
async def intercepted(
    interceptors: Sequence[_Interceptor[CallT]], call: CallT, ending: Callable[[BaseException | None], StatusCode]
) -> AsyncIterator[None]:
    """Stand around a call that is made or handled in the block.

    Args:
        interceptors: the outermost first.
        call: its status is set when the block ends, unless the block does it.
        ending: tells the status from what the block, or an interceptor inside, raised.
    """

    def note(_type: object, error: BaseException | None, _traceback: object) -> None:
        if call.status is None:
            call.status = ending(error)

    async with AsyncExitStack() as stack:
        for each in interceptors:
            await stack.enter_async_context(each.intercept(call))
            # Run before that interceptor is left: it knows then how the call ended, also where the next one refused it.
            stack.push(note)
        yield


def ended_with(call: OutgoingCall | IncomingCall) -> StatusCode:
    """Return how a call ended that has ended."""
    return StatusCode.UNKNOWN if call.status is None else call.status


def swallowed(method: AnyMethod) -> UsageError:
    """Return what a call ends with whose interceptor took its error away: there is no result to give instead."""
    return UsageError(
        f"an interceptor of {method.full_name} swallowed the error of its call", remedy="let what is raised pass"
    )
