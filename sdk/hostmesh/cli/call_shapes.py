"""One call of any shape, from JSON to JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO, TypedDict

import trio
from google.protobuf.message import Message

from hostmesh.cli.boundary import print_json
from hostmesh.cli.call_messages import InputLines, RequestReader, response_object
from hostmesh.cli.describe import field_text
from hostmesh.cli.terminal import field
from hostmesh.errors import HostmeshError, RemoteProtocolError, RpcError, TransportError, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.reflection.peer_schema import PeerSchema
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.shapes import BidiStreamCall, ClientStreamCall

STDIN = "-"
UNARY_TIMEOUT_S = 60.0
"""Of a unary call whose method names no default and whose caller names none. Chosen here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What travels with a call besides its requests."""

    metadata: Mapping[str, str]
    idempotency_key: bytes
    session_id: bytes
    timeout_s: float | None


class _Sent(TypedDict):
    metadata: Mapping[str, str]
    session_id: bytes


async def make_call(
    rpc: RpcClient, peer_id: PeerId, method: AnyMethod, schema: PeerSchema, argument: str | None, given: CallOptions
) -> None:
    """Call a method and print each response as it comes.

    Args:
        rpc: makes the call.
        peer_id: whom to call.
        method: of the peer.
        schema: in which its messages are.
        argument: the request as JSON; ``-`` reads it from standard input; None is an empty one, or standard input where
            requests are a stream.
        given: what is sent besides.

    Raises:
        UsageError: a request that the method does not take: the call is cancelled; or a key, which a stream has not.
        As :meth:`hostmesh.RpcClient.unary`.
    """
    pool = schema.pool
    reader = RequestReader(method, pool, partial(_fields, schema, method))
    if given.idempotency_key and not method.is_unary:
        raise UsageError(
            f"{method.full_name} is a {method.cardinality.value} method, whose calls have no idempotency key",
            remedy="leave --idempotency-key out",
        )
    sent = _Sent(metadata=given.metadata, session_id=given.session_id)
    timeout_s = method.default_timeout_s if given.timeout_s is None else given.timeout_s

    def show(response: Message) -> None:
        print_json(response_object(response, pool))

    if method.takes_stream:
        requests = _Requests(reader, argument)
        if method.gives_stream:
            async with rpc.bidi_stream(peer_id, method, timeout_s=timeout_s, **sent) as talk:
                await _talk(talk, requests, show)
        else:
            async with rpc.client_stream(peer_id, method, timeout_s=timeout_s, **sent) as upload:
                show(await _upload(upload, requests))
        return
    request = await _one_request(reader, argument)
    if method.gives_stream:
        async with rpc.server_stream(peer_id, method, request, timeout_s=timeout_s, **sent) as responses:
            async for response in responses:
                show(response)
    else:
        key, within_s = given.idempotency_key, timeout_s or UNARY_TIMEOUT_S
        show(await rpc.unary(peer_id, method, request, timeout_s=within_s, idempotency_key=key, **sent))


async def _one_request(reader: RequestReader, argument: str | None) -> Message:
    if argument is None:
        return reader.empty()
    if argument == STDIN:
        return reader.read(await InputLines(sys.stdin.fileno()).read_all(), "standard input")
    return reader.read(argument, "the request")


class _Requests:
    """The requests of a stream: the one of the argument, or each line of standard input as it comes."""

    def __init__(self, reader: RequestReader, argument: str | None) -> None:
        self._reader = reader
        self._left = argument
        self._lines = InputLines(sys.stdin.fileno()) if argument in (None, STDIN) else None

    async def read(self) -> Message | None:
        try:
            return await self._next()
        except UsageError as error:
            # The call has begun: its handler may have done something already.
            error.may_have_executed = True
            raise

    async def _next(self) -> Message | None:
        if self._lines is not None:
            line = await self._lines.read_line()
            return None if line is None else self._reader.read(line, f"line {self._lines.number}")
        argument, self._left = self._left, None
        return None if argument is None else self._reader.read(argument, "the request")


async def _upload(call: ClientStreamCall[Any, Any], requests: _Requests) -> Message:
    """Send requests, and return the response."""
    while (request := await requests.read()) is not None:
        try:
            await call.send(request)
        except UsageError:
            break  # the request is sound, so the peer has answered already
    response: Message = await call.finish()
    return response


async def _talk(call: BidiStreamCall[Any, Any], requests: _Requests, show: Callable[[Message], None]) -> None:
    """Send requests and show responses at once, until the last response."""
    failure: BaseException | None = None
    has_ended = False

    async def send() -> None:
        nonlocal failure
        try:
            while (request := await requests.read()) is not None:
                try:
                    await call.send(request)
                except UsageError:
                    return  # the request is sound, so the peer has ended the call
            await call.end()
        except (TransportError, RpcError):
            return  # the responses tell what became of the call
        except HostmeshError as error:
            failure = error
            nursery.cancel_scope.cancel()

    # Errors are kept aside, so that the caller meets its own and not a group that the nursery makes of it.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            async for response in call:
                show(response)
            has_ended = True
        except (HostmeshError, OSError) as error:  # OSError: nobody reads the output any more
            failure = failure or error
        nursery.cancel_scope.cancel()
    if failure is not None and not has_ended:
        raise failure


def _fields(schema: PeerSchema, method: AnyMethod) -> str:
    message = schema.definitions().messages.get(method.request_type.DESCRIPTOR.full_name)
    return "" if message is None else " ".join(field_text(each).partition("  //")[0] for each in message.fields)


def print_failure(error: HostmeshError, stream: TextIO) -> None:
    """Print what a call's end says besides its message: status, reason, when to try again, details, whether it ran."""
    if isinstance(error, RpcError):
        words = [f"status {error.status.name}"]
        if error.reason:
            words.append(f"reason {field(error.reason)}")
        if error.retry_after_ms is not None:
            words.append(f"retry after {error.retry_after_ms} ms")
        words += [f"{field(name)}: {field(value)}" for name, value in error.details.items()]
        print(", ".join(words), file=stream)
    if isinstance(error, (RpcError, TransportError, RemoteProtocolError)):
        print(f"may have executed: {'yes' if error.may_have_executed else 'no'}", file=stream)
