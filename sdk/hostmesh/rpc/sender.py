"""Sends the responses of a server stream: one after the other, whole or not at all."""

from __future__ import annotations

import trio
from google.protobuf.message import Message

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import ServerCall


class ResponseSender:
    """The handler's way to send responses of a server stream.

    Args:
        stream: of the call.
        call: encodes the responses.

    Cost: where nobody else is sending, that of the stream; no scheduler pass of its own.
    """

    __slots__ = ("_busy", "_call", "_stream", "_waiting", "broken")

    def __init__(self, stream: Stream, call: ServerCall) -> None:
        self._stream = stream
        self._call = call
        self._busy = False
        self._waiting: trio.lowlevel.ParkingLot | None = None
        self.broken = False
        """A response was sent in part, so that nothing may follow it."""

    async def send(self, response: Message) -> None:
        """Send one response; several tasks of a handler may do so, each in its turn.

        Raises:
            UsageError: the response is not of the method's type or breaks a bound; nothing was sent.
            ConnectionLostError: the caller has left, or an earlier response was cut off.
        """
        head, data = self._call.response(response)
        if self._busy:
            if self._waiting is None:
                self._waiting = trio.lowlevel.ParkingLot()
            # Whoever is done hands its turn to the first in line.
            await self._waiting.park()
        self._busy = True
        try:
            if self.broken:
                raise ConnectionLostError("an earlier response was cut off", remedy="the call cannot go on: let it end")
            self.broken = True
            await self._stream.send(data, head=head)
            self.broken = False
        finally:
            if self._waiting:
                self._waiting.unpark()
            else:
                self._busy = False
