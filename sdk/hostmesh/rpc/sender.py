"""Sends the messages of a stream of requests or responses: one after the other, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import HEARTBEAT_FRAME


class MessageSender:
    """Sends messages on the stream of a call.

    Args:
        stream: of the call.
        encode: gives the head and the body of a message's frame, or raises what :meth:`send` then raises.

    Cost: where nobody else is sending, that of the stream; no scheduler pass of its own.
    """

    __slots__ = ("_busy", "_encode", "_has_spoken", "_stream", "_waiting", "broken")

    def __init__(self, stream: Stream, encode: Callable[[Any], tuple[bytes, bytes]]) -> None:
        self._stream = stream
        self._encode = encode
        self._busy = False
        self._has_spoken = False
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

    def was_silent(self) -> bool:
        """Tell whether nothing was sent since this was asked last, and nothing is being sent."""
        was_silent, self._has_spoken = not self._has_spoken and not self._busy, False
        return was_silent

    async def beat(self) -> None:
        """Send a heartbeat, if the other side is still there."""
        with suppress(ConnectionLostError):
            await self._send(HEARTBEAT_FRAME, b"")

    @property
    def is_busy(self) -> bool:
        """Whether something is being sent."""
        return self._busy

    async def wait_idle(self) -> None:
        """Return once nothing is being sent."""
        while self._busy:
            await self._take_turn()
            self._end_turn()

    async def _take_turn(self) -> None:
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        # Whoever is done hands its turn to the first in line.
        await self._waiting.park()

    def _end_turn(self) -> None:
        if self._waiting:
            self._waiting.unpark()
        else:
            self._busy = False

    async def _send(self, data: bytes, head: bytes) -> None:
        if self._busy:
            await self._take_turn()
        self._busy = self._has_spoken = True
        try:
            if self.broken:
                raise ConnectionLostError("an earlier message was cut off", remedy="the call cannot go on: let it end")
            self.broken = True
            await self._stream.send(data, head=head)
            self.broken = False
        finally:
            self._end_turn()
