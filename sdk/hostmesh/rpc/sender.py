"""Sends the messages of a stream of requests or responses: one after the other, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream


class MessageSender:
    """Sends messages on the stream of a call.

    Args:
        stream: of the call.
        encode: gives the head and the body of a message's frame, or raises what :meth:`send` then raises.

    Cost: where nobody else is sending, that of the stream; no scheduler pass of its own.
    """

    __slots__ = ("_busy", "_encode", "_stream", "_waiting", "broken")

    def __init__(self, stream: Stream, encode: Callable[[Any], tuple[bytes, bytes]]) -> None:
        self._stream = stream
        self._encode = encode
        self._busy = False
        self._waiting: trio.lowlevel.ParkingLot | None = None
        self.broken = False
        """A message was sent in part, so that nothing may follow it."""

    async def send(self, message: Any) -> None:
        """Send one message; several tasks may do so, each in its turn.

        Raises:
            UsageError: the message is not of the method's type or breaks a bound; nothing was sent.
            ConnectionLostError: the other side has left, or an earlier message was cut off.
        """
        head, data = self._encode(message)
        await self._send(data, head)

    async def send_frame(self, frame: bytes) -> None:
        """Send a whole frame in its turn; see :meth:`send`."""
        await self._send(frame, b"")

    async def _send(self, data: bytes, head: bytes) -> None:
        if self._busy:
            if self._waiting is None:
                self._waiting = trio.lowlevel.ParkingLot()
            # Whoever is done hands its turn to the first in line.
            await self._waiting.park()
        self._busy = True
        try:
            if self.broken:
                raise ConnectionLostError("an earlier message was cut off", remedy="the call cannot go on: let it end")
            self.broken = True
            await self._stream.send(data, head=head)
            self.broken = False
        finally:
            if self._waiting:
                self._waiting.unpark()
            else:
                self._busy = False
