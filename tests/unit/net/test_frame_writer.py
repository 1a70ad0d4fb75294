from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.frame_writer import MAX_QUEUED_FRAMES, FrameWriter


class Line:
    """Takes bytes when the test lets it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.gate = trio.Event()
        self.gate.set()

    async def write(self, data: bytes) -> None:
        await self.gate.wait()
        await trio.lowlevel.checkpoint()
        self.written.append(data)


@pytest.fixture
def line():
    return Line()


async def test_frames_go_out_whole_and_in_order_whoever_is_cancelled(line, nursery):
    writer = FrameWriter(line.write, batch_bytes=1)
    line.gate = trio.Event()
    nursery.start_soon(writer.run)

    async def send(data: bytes) -> None:
        await writer.put(data).settled.wait()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as senders:
            for index in range(10):
                senders.start_soon(send, b"%d" % index)
            await wait_all_tasks_blocked()
            scope.cancel()
    last = writer.put(b"last")
    line.gate.set()
    await last.settled.wait()
    assert sorted(line.written[:-1]) == [b"%d" % index for index in range(10)]
    assert line.written[-1] == b"last"


async def test_waiting_frames_are_written_together_up_to_the_batch(line, nursery):
    writer = FrameWriter(line.write, batch_bytes=8)
    frames = [writer.put(data) for data in (b"aaaa", b"bbbb", b"cc", b"dddddddddddd", b"e")]
    nursery.start_soon(writer.run)
    await frames[-1].settled.wait()
    assert line.written == [b"aaaabbbb", b"cc", b"dddddddddddd", b"e"]
    assert all(frame.is_sent for frame in frames)


async def test_withdrawn_frames_are_not_sent(line, nursery):
    writer = FrameWriter(line.write, batch_bytes=100)
    first, second, third = (writer.put(data) for data in (b"1", b"2", b"3"))
    second.withdraw()
    nursery.start_soon(writer.run)
    await third.settled.wait()
    assert b"".join(line.written) == b"13"
    assert first.is_sent


async def test_a_failed_write_settles_everything_as_not_sent():
    async def broken(data: bytes) -> None:
        raise OSError("broken")

    writer = FrameWriter(broken, batch_bytes=1)
    frames = [writer.put(b"a"), writer.put(b"b")]
    with pytest.raises(OSError, match="broken"):
        await writer.run()
    frames.append(writer.put(b"c"))
    assert [(frame.settled.is_set(), frame.is_sent) for frame in frames] == [(True, False)] * 3


async def test_queue_says_when_it_is_overfull(line):
    writer = FrameWriter(line.write, batch_bytes=1)
    for _ in range(MAX_QUEUED_FRAMES):
        assert not writer.is_overfull
        writer.put(b"x")
    assert writer.is_overfull
    writer.stop()
    assert not writer.is_overfull
