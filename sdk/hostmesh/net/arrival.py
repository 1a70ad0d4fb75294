"""An inbound stream until its protocol is agreed on."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import MalformedMessageError
from hostmesh.wire.multistream import Responder, parse_proposal
from hostmesh.wire.yamux import YamuxStream

if TYPE_CHECKING:
    from hostmesh.net.connection import Connection

_log = logging.getLogger("hostmesh.net")


class Arrival:
    """An inbound stream until its protocol is agreed on: no task, and little memory."""

    __slots__ = ("_connection", "_responder", "_yamux_stream", "came_at_s")

    def __init__(self, yamux_stream: YamuxStream, connection: Connection) -> None:
        self._yamux_stream = yamux_stream
        self._connection = connection
        self._responder: Responder | None = None
        self.came_at_s = trio.current_time()

    def take_data(self, data: bytes | memoryview) -> None:
        """Read on what the peer proposes."""
        if self._yamux_stream.is_reset or self._yamux_stream.is_write_closed:
            return  # what came in one piece with the stream's end, or after we gave it up
        connection = self._connection
        data = bytes(data)
        if self._responder is None:
            proposed = parse_proposal(data)
            if proposed is not None and connection.serves(proposed[0]):
                name, size = sys.intern(proposed[0]), proposed[1]
                connection.muxer.yamux.consume(self._yamux_stream, size)
                connection.start_serving(self._yamux_stream, name, data[:size], data[size:])
                return
            self._responder = Responder(connection.serves)
        responder = self._responder
        try:
            protocol_id = responder.receive(data)
        except MalformedMessageError as error:
            self._give_up(error.message)
            return
        muxer = connection.muxer
        muxer.yamux.consume(self._yamux_stream, len(data) - len(responder.rest))
        answer = responder.data_to_send()
        if protocol_id is not None:
            connection.start_serving(self._yamux_stream, protocol_id, answer, responder.rest)
        elif answer:
            # A few lines at most, as many as the peer proposed.
            muxer.yamux.answer(self._yamux_stream, answer)

    def _give_up(self, why: str) -> None:
        """End the stream; a peer that sent its payload along with a protocol that is not served here still hears so."""
        answer = b"" if self._responder is None else self._responder.data_to_send()
        if not answer:
            self.refuse(why)
            return
        yamux = self._connection.muxer.yamux
        yamux.answer(self._yamux_stream, answer)
        yamux.close_write(self._yamux_stream)
        yamux.discard(self._yamux_stream)

    def refuse(self, why: str) -> None:
        """Reset the stream."""
        _log.debug("a stream from %s came to nothing: %s", self._connection.peer_id, why)
        self._connection.muxer.yamux.reset(self._yamux_stream)

    def take_end(self) -> None:
        """Give up: nobody will name a protocol any more."""
        if self._yamux_stream.is_write_closed:
            return
        if self._responder is not None and self._responder.was_answered:
            self._connection.muxer.yamux.close_write(self._yamux_stream)
        else:
            self.refuse("it ended before it named a protocol")

    def take_reset(self, *, is_overflow: bool) -> None:
        """Forget it."""
        self._connection.muxer.yamux.discard(self._yamux_stream)

    def take_window(self) -> None:
        """Nothing waits."""

    def take_connection_end(self) -> None:
        """Forget it."""
