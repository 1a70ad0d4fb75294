"""Ping, on streams in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from tests.support.memory_stream import WINDOW_BYTES, MemoryStream, memory_stream_pair, peer_number
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError
from hostmesh.net.ping import IDLE_STREAM_S, MAX_STREAMS_PER_PEER, PING_BYTES, PING_ID, Ping

US = peer_number(0)
BLOCK = bytes(range(PING_BYTES))

Open = Callable[..., tuple[MemoryStream, MemoryStream]]


@pytest.fixture
def open_stream(nursery: trio.Nursery) -> Open:
    """Open a ping stream of a peer to one Ping; both ends are returned."""
    ping = Ping()

    def open_(peer: int = 1) -> tuple[MemoryStream, MemoryStream]:
        near, far = memory_stream_pair(peer_number(peer), US, PING_ID)
        nursery.start_soon(ping.answer, far)
        return near, far

    return open_


async def receive_exactly(stream: MemoryStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive(size - len(data))
        assert piece, f"the end after {data!r}"
        data += piece
    return data


async def test_blocks_come_back_until_the_peer_closes(open_stream: Open) -> None:
    near, far = open_stream()
    for number in range(10):
        block = bytes([number]) * PING_BYTES
        await near.send(block)
        assert await receive_exactly(near, PING_BYTES) == block
    await near.close_write()
    assert await near.receive() == b""
    assert far.was_closed


async def test_a_block_in_pieces_comes_back_when_it_is_whole(open_stream: Open) -> None:
    near, far = open_stream()
    for at in range(PING_BYTES):
        await wait_all_tasks_blocked()
        assert far.sent_bytes == 0
        await near.send(BLOCK[at : at + 1])
    assert await receive_exactly(near, PING_BYTES) == BLOCK


async def test_blocks_that_come_together_all_come_back(open_stream: Open) -> None:
    near, _ = open_stream()
    await near.send(BLOCK + BLOCK[::-1] + BLOCK)
    await near.close_write()
    assert await receive_exactly(near, 3 * PING_BYTES) == BLOCK + BLOCK[::-1] + BLOCK
    assert await near.receive() == b""


async def test_a_block_that_is_cut_short_is_not_answered(open_stream: Open) -> None:
    near, far = open_stream()
    await near.send(BLOCK[:-1])
    await near.close_write()
    assert await near.receive() == b""
    assert far.sent_bytes == 0


async def test_a_third_stream_of_one_peer_is_reset_and_the_others_go_on(open_stream: Open) -> None:
    streams = [open_stream()[0] for _ in range(MAX_STREAMS_PER_PEER)]
    await wait_all_tasks_blocked()
    third, _ = open_stream()
    with pytest.raises(ConnectionLostError):
        await third.receive()
    other_peers, _ = open_stream(peer=2)
    for stream in (*streams, other_peers):
        await stream.send(BLOCK)
        assert await receive_exactly(stream, PING_BYTES) == BLOCK


@pytest.mark.parametrize("end", ["close_write", "reset"])
async def test_a_stream_that_ended_makes_room(open_stream: Open, end: str) -> None:
    for _ in range(3 * MAX_STREAMS_PER_PEER):
        near, far = open_stream()
        await near.send(BLOCK)
        assert await receive_exactly(near, PING_BYTES) == BLOCK
        await getattr(near, end)()
        await wait_all_tasks_blocked()
        assert far.is_over


async def test_a_silent_stream_is_reset(open_stream: Open, autojump_clock: trio.testing.MockClock) -> None:
    near, _ = open_stream()
    started = trio.current_time()
    with pytest.raises(ConnectionLostError):
        await near.receive()
    assert trio.current_time() - started == pytest.approx(IDLE_STREAM_S)


async def test_only_whole_blocks_keep_a_stream_open(open_stream: Open, autojump_clock: trio.testing.MockClock) -> None:
    near, _ = open_stream()
    for _ in range(3):
        await trio.sleep(IDLE_STREAM_S - 1)
        await near.send(BLOCK)
        assert await receive_exactly(near, PING_BYTES) == BLOCK
    await trio.sleep(IDLE_STREAM_S - 1)
    await near.send(BLOCK[:1])
    await trio.sleep(2)
    with pytest.raises(ConnectionLostError):
        await near.receive()


async def test_a_peer_that_does_not_read_is_reset(open_stream: Open, autojump_clock: trio.testing.MockClock) -> None:
    near, far = open_stream()
    with pytest.raises(ConnectionLostError):
        await near.send(BLOCK * (4 * WINDOW_BYTES // PING_BYTES))
    assert far.was_reset
