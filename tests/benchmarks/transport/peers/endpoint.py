"""What a stack must do to be measured; :mod:`.client` and :mod:`.server` do the rest, the same for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

import anyio
from tests.benchmarks.transport.peers.payload import FRAME, MESSAGE, REQUEST, RESPONSE, decode_count, stamped_message

PACE_S = 0.01
CALL_TIMEOUT_S = 60.0
"""Of every call, on the stacks whose calls have deadlines."""


class Call(Enum):
    """The calls that a server answers. Values are one byte each, for stacks that name calls in a byte."""

    UNARY = b"u"
    BURST = b"b"
    PACED = b"p"
    BULK = b"k"
    HOLD = b"h"


class Endpoint(Protocol):
    """A client of its own identity, connected to at most one server."""

    async def dial(self, address: str) -> None:
        """Connect."""
        ...

    async def settle(self) -> None:
        """Return once what a new connection sets off (identify) is over."""
        ...

    async def unary(self, request: bytes) -> bytes:
        """Make one call, on a new stream."""
        ...

    def stream(self, call: Call, count: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Make one call with many responses; leaving the block early cancels it."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    address: str
    settings: dict[str, object]
    """Versions, and everything that was tuned."""


class Stack(Protocol):
    """Makes servers and clients of one kind."""

    backend: Literal["trio", "asyncio"]

    def serve(self) -> AbstractAsyncContextManager[Served]:
        """Run a server."""
        ...

    def endpoint(self) -> AbstractAsyncContextManager[Endpoint]:
        """Make a client; leaving closes it."""
        ...


async def respond(call: Call, count: int, send: Callable[[bytes], Awaitable[object]]) -> None:
    """Send the responses of a call with many."""
    if call is Call.BURST:
        for _ in range(count):
            await send(MESSAGE)
    elif call is Call.BULK:
        for _ in range(count):
            await send(FRAME)
    elif call is Call.PACED:
        start = anyio.current_time()
        for number in range(count):
            await anyio.sleep_until(start + number * PACE_S)
            await send(stamped_message())
    else:
        await send(MESSAGE)
        await anyio.sleep_forever()


def check_request(request: bytes) -> bytes:
    """Return the response to a unary request.

    Raises:
        ValueError: the request did not arrive as it was sent.
    """
    if request != REQUEST:
        raise ValueError("the request is not the benchmark's")
    return RESPONSE


async def respond_to_frame(call: Call, request: bytes, send: Callable[[bytes], Awaitable[object]]) -> None:
    """Answer a request that came as a frame."""
    if call is Call.UNARY:
        await send(check_request(request))
    else:
        await respond(call, decode_count(request), send)
