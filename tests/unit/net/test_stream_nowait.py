"""A stream: what is done at once or not at all, and the deadline of its reads. The other end is a peer by hand."""

from __future__ import annotations

import math

import pytest
import trio
from tests.support.wire_peer import proposal
from tests.support.yamux_wire import ACK, DATA, FIN, RST, data
from tests.unit.net.test_node_stream import ECHO, STREAM, Open, open_sibling, open_stream, payload

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, RemoteProtocolError
from hostmesh.net.deadlines import STEP_S
from hostmesh.net.muxer import CONGESTED_BYTES

__all__ = ["open_stream"]

WINDOW_BYTES = 262144


# --- sending ---


async def test_what_has_room_is_sent_in_one_frame_with_the_end(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    assert stream.send_nowait(b"hello", end=True)
    sent, end = await rig.peer.arrived()
    assert (sent.kind, sent.body, end.flags & FIN) == (DATA, b"hello", FIN)
    with pytest.raises(ConnectionLostError):
        stream.send_nowait(b"more")


async def test_the_proposal_of_the_protocol_goes_before(autojump_clock, start_connection) -> None:
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    assert stream.send_nowait(b"hello", end=True)
    frames = await rig.peer.arrived()
    sent = payload(frames)
    assert sent.endswith(b"hello")
    assert ECHO.encode() in sent
    assert len([frame for frame in frames if frame.kind == DATA]) == 1


async def test_a_peer_that_agrees_with_nonsense_may_have_taken_what_came_along(
    autojump_clock, start_connection
) -> None:
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    assert stream.send_nowait(b"do it", end=True)
    await rig.peer.send(data(STREAM, b"\xff\xff\xff\x7f", ACK))
    with pytest.raises(RemoteProtocolError) as caught:
        await stream.receive_chunk()
    assert caught.value.may_have_executed


async def test_more_than_the_window_is_not_sent_at_all(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    assert not stream.send_nowait(bytes(WINDOW_BYTES + 1))
    assert payload(await rig.peer.arrived()) == b""
    assert stream.send_nowait(b"small")
    assert payload(await rig.peer.arrived()) == b"small"


async def test_nothing_is_sent_on_a_congested_connection(autojump_clock, open_stream: Open, nursery) -> None:
    rig, stream = await open_stream()
    others = [await open_sibling(rig, STREAM + 2 * number) for number in range(1, 3 + CONGESTED_BYTES // WINDOW_BYTES)]
    rig.link.stall(True)
    for each in others:
        nursery.start_soon(each.send, bytes(WINDOW_BYTES))
    await trio.testing.wait_all_tasks_blocked()
    assert rig.connection.muxer.is_congested
    assert not stream.send_nowait(b"xy")
    assert stream.send_nowait(b"x"), "a sign of life comes through"
    nursery.cancel_scope.cancel()


async def test_nothing_is_sent_while_another_task_sends(autojump_clock, open_stream: Open, nursery) -> None:
    _, stream = await open_stream()
    nursery.start_soon(stream.send, bytes(WINDOW_BYTES + 1))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError):
        stream.send_nowait(b"x")
    nursery.cancel_scope.cancel()


async def test_a_lost_stream_says_so(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    await rig.peer.send(data(STREAM, b"", RST))
    await rig.settle()
    with pytest.raises(ConnectionLostError):
        stream.send_nowait(b"x")
    assert stream.receive_nowait() is None
    with pytest.raises(ConnectionLostError):
        await stream.receive_chunk()


# --- receiving ---


async def test_what_is_there_is_received(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    assert stream.receive_nowait() is None
    await rig.peer.send(data(STREAM, b"abc"))
    await rig.settle()
    assert bytes(stream.receive_nowait() or b"") == b"abc"
    assert stream.receive_nowait() is None
    await rig.peer.send(data(STREAM, b"de", FIN))
    await rig.settle()
    assert bytes(stream.receive_nowait() or b"") == b"de"
    assert stream.receive_nowait() == b""
    assert stream.receive_nowait() == b""


# --- the deadline of reads ---


async def test_a_read_that_waits_raises_and_the_stream_stays(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    begun_s = trio.current_time()
    stream.set_read_deadline(begun_s + 1)
    with pytest.raises(DeadlineExceededError):
        await stream.receive_chunk()
    assert 1 <= trio.current_time() - begun_s <= 1 + STEP_S
    with pytest.raises(DeadlineExceededError):
        await stream.receive()
    await rig.peer.send(data(STREAM, b"late"))
    await rig.settle()
    assert bytes(await stream.receive_chunk()) == b"late"
    await stream.send(b"still here")
    assert payload(await rig.peer.arrived()) == b"still here"


async def test_it_can_be_moved_both_ways_while_it_runs(autojump_clock, open_stream: Open, nursery) -> None:
    _, stream = await open_stream()
    begun_s = trio.current_time()
    ends: list[float] = []

    async def read() -> None:
        with pytest.raises(DeadlineExceededError):
            await stream.receive_chunk()
        ends.append(trio.current_time() - begun_s)

    stream.set_read_deadline(begun_s + 5)
    nursery.start_soon(read)
    await trio.sleep(1)
    stream.set_read_deadline(begun_s + 9)
    await trio.sleep(6)
    assert ends == []
    stream.set_read_deadline(begun_s + 8)
    await trio.sleep(3)
    assert ends == [pytest.approx(8, abs=STEP_S)]


async def test_without_one_a_read_waits_for_ever(autojump_clock, open_stream: Open) -> None:
    rig, stream = await open_stream()
    stream.set_read_deadline(trio.current_time() + 1)
    await trio.sleep(2)
    stream.set_read_deadline(math.inf)
    with trio.move_on_after(20) as waited:  # well below the time in which a silent peer is given up
        await stream.receive_chunk()
    assert waited.cancelled_caught
    assert not rig.connection.is_closed


@pytest.mark.parametrize("way", ["close", "reset", "lost"])
async def test_no_deadline_is_kept_of_a_stream_that_is_over(autojump_clock, open_stream: Open, way: str) -> None:
    rig, stream = await open_stream()
    stream.set_read_deadline(trio.current_time() + 100)
    assert len(rig.connection.deadlines) == 1
    if way == "lost":
        await rig.peer.send(data(STREAM, b"", RST))
        await rig.settle()
        with pytest.raises(ConnectionLostError):
            await stream.receive_chunk()
    else:
        await getattr(stream, way)()
    assert len(rig.connection.deadlines) == 0
    stream.set_read_deadline(trio.current_time() + 100)
    assert len(rig.connection.deadlines) == 0


async def test_a_stream_that_is_not_agreed_on_waits_no_longer(autojump_clock, start_connection) -> None:
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    stream.set_read_deadline(trio.current_time() + 1)
    with pytest.raises(DeadlineExceededError):
        await stream.receive_chunk()
    await rig.peer.send(data(STREAM, proposal(ECHO), ACK))
    await rig.settle()
    await stream.send(b"goes on")
    assert payload(await rig.peer.arrived()).endswith(b"goes on")
