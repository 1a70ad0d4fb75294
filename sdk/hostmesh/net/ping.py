"""Ping: a peer sends 32 bytes and gets them back, so it learns that we live and how far away we are.

Participants: every node answers ``/ipfs/ping/1.0.0`` on streams that the peer opens, block by block until the peer
closes its side. Limits: two streams of one peer at once, and a minute to the next whole block; a stream over either is
reset. A block that is cut short is not answered.

Source: libp2p specs, "ping". It names no time limit; a minute is four times the interval at which rust-libp2p pings.
"""

from __future__ import annotations

from collections import Counter

import trio

from hostmesh.errors import ConnectionLostError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream

PING_ID = "/ipfs/ping/1.0.0"
PING_BYTES = 32
MAX_STREAMS_PER_PEER = 2
"""One more than a peer may have: it may open its next before we see it close the last."""
IDLE_STREAM_S = 60.0


class Ping:
    """Answers the pings of a node's peers."""

    def __init__(self) -> None:
        self._streams: Counter[PeerId] = Counter()

    async def answer(self, stream: Stream) -> None:
        """Send back what one inbound stream brings, until the peer closes its side.

        Cancellation: the caller resets the stream.
        """
        peer_id = stream.peer_id
        if self._streams[peer_id] >= MAX_STREAMS_PER_PEER:
            await stream.reset()
            return
        self._streams[peer_id] += 1
        try:
            await _echo_blocks(stream)
        except ConnectionLostError:
            await stream.reset()
        finally:
            self._streams[peer_id] -= 1
            if not self._streams[peer_id]:
                del self._streams[peer_id]


async def _echo_blocks(stream: Stream) -> None:
    block = bytearray()
    with trio.move_on_after(IDLE_STREAM_S) as idle:
        while data := await stream.receive(PING_BYTES - len(block)):
            block += data
            if len(block) == PING_BYTES:
                await stream.send(bytes(block))
                block.clear()
                idle.deadline = trio.current_time() + IDLE_STREAM_S
        await stream.close()
        return
    await stream.reset()
