"""What a stream costs that says nothing."""

from __future__ import annotations

import tracemalloc

from tests.support.wire_peer import proposal
from tests.support.yamux_wire import ACK, data

from hostmesh.net.stream import Stream

ECHO = "/test/echo/1"
COUNT = 200


async def test_a_stream_without_unread_bytes_holds_next_to_nothing(autojump_clock, start_connection):
    """One that reads, was read empty, and waits for more: nearly all streams at nearly all times."""
    rig = await start_connection(spoken=(ECHO,))
    streams: list[Stream] = []

    async def open_and_read(stream_id: int) -> None:
        stream = await rig.connection.open_stream(ECHO)
        await stream.send(b"x")
        await rig.peer.send(data(stream_id, proposal(ECHO) + b"hello", ACK))
        assert await stream.receive() == b"hello"
        streams.append(stream)
        await rig.settle()

    await open_and_read(1)
    tracemalloc.start()
    try:
        for number in range(1, COUNT + 1):
            await open_and_read(2 * number + 1)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = snapshot.filter_traces(
        [tracemalloc.Filter(True, "*/hostmesh/net/*"), tracemalloc.Filter(True, "*/hostmesh/wire/*")]
    )
    assert len(streams) == COUNT + 1
    assert sum(trace.size for trace in ours.traces) / COUNT < 800
