"""A stream: sending and its back-pressure, receiving. The other end is a peer by hand on a simulated line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from tests.support.wire_peer import proposal
from tests.support.yamux_wire import ACK, DATA, FIN, RST, WINDOW, WINDOW_UPDATE, Frame, FrameReader, data, update
from tests.unit.net.conftest import Rig
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError
from hostmesh.net.muxer import CONGESTED_BYTES
from hostmesh.net.node_stream import NodeStream
from hostmesh.wire.yamux import MAX_FRAME_BYTES

ECHO = "/test/echo/1"
BIG = bytes(range(256)) * 8192
STREAM = 1

Open = Callable[..., Awaitable[tuple[Rig, NodeStream]]]


@pytest.fixture
def open_stream(start_connection) -> Open:
    """Open a stream whose protocol is agreed on; its id is STREAM, and nothing was sent on it but the agreement."""

    async def open_(**settings) -> tuple[Rig, NodeStream]:
        rig = await start_connection(spoken=(ECHO,), **settings)
        return rig, await open_sibling(rig, STREAM)

    return open_


async def open_sibling(rig: Rig, stream_id: int) -> NodeStream:
    stream = await rig.connection.open_stream(ECHO)
    stream.send_prefix()
    await rig.peer.send(data(stream_id, proposal(ECHO), ACK))
    await rig.settle()
    return stream


def payload(frames: list[Frame], stream_id: int = STREAM) -> bytes:
    return b"".join(frame.body for frame in frames if frame.stream_id == stream_id)


# --- sending ---


async def test_a_send_with_room_takes_no_pass_of_the_scheduler(autojump_clock, open_stream, nursery):
    _, stream = await open_stream()
    has_run = trio.Event()

    async def other() -> None:
        has_run.set()

    nursery.start_soon(other)
    for _ in range(10):
        await stream.send(b"x" * 100)
    assert not has_run.is_set()


@pytest.mark.parametrize(("size", "most"), [(1, 128), (1000, 66), (65536, 1)])
async def test_a_loop_of_sends_starves_nobody(autojump_clock, open_stream, nursery, size, most):
    rig, stream = await open_stream(buffer_bytes=1 << 30)
    await rig.peer.send(update(STREAM, 1 << 30))
    await rig.settle()
    sends_between = [0]

    async def other() -> None:
        while True:
            sends_between.append(0)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    for _ in range(300):
        await stream.send(b"x" * size)
        sends_between[-1] += 1
    # Within a pass trio runs tasks in random order: the other may come first in one pass and last in the next.
    assert most <= max(sends_between) <= 2 * most


async def test_sends_of_one_pass_are_few_writes(autojump_clock, open_stream):
    rig, stream = await open_stream()
    await trio.sleep(1)
    for number in range(100):
        await stream.send(b"%02d" % number)
    frames = await rig.peer.arrived()
    assert payload(frames) == b"".join(b"%02d" % number for number in range(100))
    assert len(rig.link.writes) == 2, "the first at once, the others together"


async def test_the_end_goes_out_with_the_last_bytes_and_in_a_frame_of_its_own(autojump_clock, open_stream):
    rig, stream = await open_stream()
    await trio.sleep(1)
    await stream.send(b"last", end=True)
    last, end = await rig.peer.arrived()
    assert (last.kind, last.flags, last.body) == (DATA, 0, b"last")
    assert (end.kind, end.flags, end.length) == (WINDOW_UPDATE, FIN, 0)
    assert len(rig.link.writes) == 1
    with pytest.raises(ConnectionLostError):
        await stream.send(b"more")
    await stream.close_write()
    assert await rig.peer.arrived() == []


async def test_a_frame_fits_one_message_of_the_channel(autojump_clock, open_stream):
    rig, stream = await open_stream()
    await stream.send(BIG[:200_000])
    frames = await rig.peer.arrived()
    assert payload(frames) == BIG[:200_000]
    assert max(frame.length for frame in frames) <= MAX_FRAME_BYTES


async def test_a_sender_waits_for_the_peers_window_as_long_as_it_takes(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    done = trio.Event()

    async def send() -> None:
        await stream.send(BIG)
        done.set()

    nursery.start_soon(send)
    sent = payload(await rig.peer.arrived())
    assert len(sent) == WINDOW - len(proposal(ECHO))
    await trio.sleep(30)
    assert await rig.peer.arrived() == []
    for credit in (1, 1000, WINDOW):
        await rig.peer.send(update(STREAM, credit))
        came = payload(await rig.peer.arrived())
        assert len(came) == credit
        sent += came
        await trio.sleep(10)
    assert not done.is_set()
    await rig.peer.send(update(STREAM, len(BIG)))
    sent += payload(await rig.peer.arrived())
    assert sent == BIG
    assert done.is_set()


async def test_a_sender_waits_while_the_line_takes_nothing(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    await rig.peer.send(update(STREAM, len(BIG)))
    await rig.settle()
    rig.link.stall(True)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for at in range(0, len(BIG), 1024):
            await stream.send(BIG[at : at + 1024])
            sent += 1024

    nursery.start_soon(send)
    await trio.sleep(20)
    # What the socket was offered last, and the queue behind it.
    assert CONGESTED_BYTES < sent <= 2 * CONGESTED_BYTES
    assert rig.connection.muxer.unsent_bytes < 2 * CONGESTED_BYTES + 2048
    rig.link.stall(False)
    assert payload(await rig.peer.arrived()) == BIG


async def test_many_senders_put_no_more_than_a_piece_on_top_of_a_full_queue(autojump_clock, open_stream, nursery):
    rig, _ = await open_stream()
    streams = [await open_sibling(rig, 3 + 2 * number) for number in range(50)]
    rig.link.stall(True)
    most = 0
    for stream in streams:
        nursery.start_soon(stream.send, BIG[:200_000])
        await wait_all_tasks_blocked()
        most = max(most, rig.connection.muxer.unsent_bytes)
    assert most < 1_000_000, "of ten millions"
    rig.link.stall(False)
    frames = await rig.peer.arrived()
    for number in range(50):
        assert payload(frames, 3 + 2 * number) == BIG[:200_000]


async def test_who_comes_later_does_not_keep_a_waiting_sender_waiting(autojump_clock, open_stream, nursery):
    """The line takes a little at a time, and another stream puts in more as soon as there is room."""
    rig, patient = await open_stream(buffer_bytes=16_384)
    pushy = await open_sibling(rig, 3)
    await rig.peer.send(update(3, 1 << 30))
    await rig.settle()

    def push() -> None:
        while pushy.send_nowait(bytes(32_768)):
            pass

    push()
    nursery.start_soon(patient.send, b"my turn")
    await wait_all_tasks_blocked()
    assert rig.connection.muxer.is_congested
    reader, came = FrameReader(), b""
    for _ in range(0, 4 * CONGESTED_BYTES, 16_384):
        for text in rig.peer.channel.open(rig.peer.link.receive_nowait()):
            came += payload([*reader.feed(text)])
        await wait_all_tasks_blocked()
        push()
    assert came == b"my turn"


async def test_a_send_that_is_cancelled_on_entry_sends_nothing_and_resets(autojump_clock, open_stream):
    rig, stream = await open_stream()
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.send(b"x")
    assert scope.cancelled_caught
    (frame,) = await rig.peer.arrived()
    assert frame.flags & RST
    with pytest.raises(ConnectionLostError):
        await stream.send(b"more")
    assert rig.connection.streams == set()


@pytest.mark.parametrize("why", ["window", "line"])
@pytest.mark.parametrize("buffer_bytes", [1 << 20, 777])
async def test_a_cancelled_send_leaves_the_connection_whole(autojump_clock, open_stream, why, buffer_bytes):
    rig, stream = await open_stream(buffer_bytes=buffer_bytes)
    sibling = await open_sibling(rig, 3)
    for number in range(10):
        if why == "line":
            rig.link.stall(number % 2 == 0)
        with trio.move_on_after(1) as scope:
            await stream.send(BIG)
        assert scope.cancelled_caught
        rig.link.stall(False)
        frames = await rig.peer.arrived()
        stream_id = STREAM if number == 0 else 3 + 2 * number
        said = payload(frames, stream_id)
        assert BIG.startswith(said)
        assert [frame for frame in frames if frame.stream_id == stream_id][-1].flags & RST
        with pytest.raises(ConnectionLostError):
            await stream.send(b"more")
        stream = await open_sibling(rig, 5 + 2 * number)
    await sibling.send(b"still whole")
    assert payload(await rig.peer.arrived(), 3) == b"still whole"


async def test_a_send_that_waits_ends_with_the_peers_reset(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    failed = trio.Event()

    async def send() -> None:
        with pytest.raises(ConnectionLostError):
            await stream.send(BIG)
        failed.set()

    nursery.start_soon(send)
    await rig.peer.arrived()
    await rig.peer.send(update(STREAM, 0, RST))
    await wait_all_tasks_blocked()
    assert failed.is_set()
    assert rig.connection.streams == set()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_send_that_waits_ends_when_another_task_ends_the_stream(autojump_clock, open_stream, nursery, how):
    rig, stream = await open_stream()
    failed = trio.Event()

    async def send() -> None:
        with pytest.raises(ConnectionLostError):
            await stream.send(BIG)
        failed.set()

    nursery.start_soon(send)
    await rig.peer.arrived()
    await getattr(stream, how)()
    await wait_all_tasks_blocked()
    assert failed.is_set()


# --- receiving ---


async def test_a_receive_of_what_is_there_takes_no_pass_of_the_scheduler(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    await rig.peer.send(data(STREAM, b"hello"))
    await wait_all_tasks_blocked()
    has_run = trio.Event()

    async def other() -> None:
        has_run.set()

    nursery.start_soon(other)
    assert await stream.receive(3) == b"hel"
    assert await stream.receive() == b"lo"
    assert not has_run.is_set()


@pytest.mark.parametrize("max_bytes", [1, 7, 4096, 1 << 20])
async def test_no_more_is_given_than_asked_for_and_all_in_order(autojump_clock, open_stream, max_bytes):
    rig, stream = await open_stream()
    expected = BIG[:10_000]
    await rig.peer.send(data(STREAM, expected[:1]), data(STREAM, expected[1:5000]))
    await rig.peer.send(*(data(STREAM, expected[at : at + 1]) for at in range(5000, 5100)))
    await rig.peer.send(data(STREAM, expected[5100:]), update(STREAM, 0, FIN))
    received = b""
    while piece := await stream.receive(max_bytes):
        assert len(piece) <= max_bytes
        received += piece
    assert received == expected
    assert await stream.receive() == b""


async def test_at_least_a_byte_must_be_asked_for(autojump_clock, open_stream):
    _, stream = await open_stream()
    with pytest.raises(ValueError, match="at least 1"):
        await stream.receive(0)


async def test_a_cancelled_receive_loses_nothing(autojump_clock, open_stream):
    rig, stream = await open_stream()
    received = b""
    for number in range(50):
        with trio.move_on_after(1):
            received += await stream.receive(3)
        await rig.peer.send(data(STREAM, b"%04d" % number))
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive(3)
        assert scope.cancelled_caught
    await rig.peer.send(update(STREAM, 0, FIN))
    while piece := await stream.receive(3):
        received += piece
    assert received == b"".join(b"%04d" % number for number in range(50))


async def test_bytes_one_by_one_are_put_together(autojump_clock, open_stream):
    rig, stream = await open_stream()
    for number in range(2000):
        await rig.peer.send(data(STREAM, bytes((number % 256,))))
    await wait_all_tasks_blocked()
    pieces = [await stream.receive()]
    while sum(map(len, pieces)) < 2000:
        pieces.append(await stream.receive())
    assert b"".join(pieces) == bytes(number % 256 for number in range(2000))
    assert len(pieces) <= 2


async def test_two_readers_are_a_mistake_that_is_told(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    first = []

    async def read() -> None:
        first.append(await stream.receive())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError):
        await stream.receive()
    await rig.peer.send(data(STREAM, b"for the first"))
    await wait_all_tasks_blocked()
    assert first == [b"for the first"]


async def test_window_is_given_back_once_half_of_it_was_read_and_grows(autojump_clock, open_stream):
    rig, stream = await open_stream()
    granted = []
    left = WINDOW - len(proposal(ECHO))
    for _ in range(5):
        await rig.peer.send(data(STREAM, bytes(left)))
        await wait_all_tasks_blocked()
        assert await rig.peer.arrived() == [], "nothing was read, nothing is given"
        read = 0
        while read < left:
            read += len(await stream.receive(10_000))
        credits_ = [frame.length for frame in await rig.peer.arrived() if frame.kind == WINDOW_UPDATE]
        granted.append(sum(credits_))
        # What was sent and read beyond the last grant is not given back yet.
        left = sum(credits_)
    assert granted[0] > WINDOW, "a stream that moves much gets a larger window"
    assert max(granted) <= 4 * 1024 * 1024 + 1024
    assert len(granted) == 5


async def test_a_slow_reader_holds_back_its_own_stream_alone(autojump_clock, open_stream):
    rig, slow = await open_stream()
    quick = await open_sibling(rig, 3)
    await rig.peer.send(data(STREAM, BIG[: WINDOW - len(proposal(ECHO))]))
    await rig.settle()
    received = 0
    for _ in range(20):
        await rig.peer.send(data(3, BIG[:100_000]))
        await wait_all_tasks_blocked()
        while rig.connection.muxer.yamux.unread_bytes > WINDOW - len(proposal(ECHO)):
            received += len(await quick.receive())
    assert received == 2_000_000
    credits_ = {frame.stream_id for frame in await rig.peer.arrived()}
    assert credits_ == {3}, "the slow one's sender is given nothing"
    assert rig.connection.muxer.yamux.unread_bytes == WINDOW - len(proposal(ECHO))
    # It is all still there.
    read = b""
    while len(read) < WINDOW - len(proposal(ECHO)):
        read += await slow.receive()
    assert read == BIG[: len(read)]
    assert {frame.stream_id for frame in await rig.peer.arrived()} == {STREAM}
