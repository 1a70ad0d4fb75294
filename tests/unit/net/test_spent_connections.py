"""Connections on which no stream can be opened any more, those that wait to be written, and when each is ended."""

from __future__ import annotations

import pytest
import trio
from tests.support.wire_peer import proposal
from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, data, go_away, ping, update
from tests.unit.net.conftest import Rig
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError
from hostmesh.net.connection import FAREWELL_S
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.events import CloseCause
from hostmesh.net.muxer import SILENCE_S, STUCK_S
from hostmesh.net.pinger import MEASURE_S
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stream import Stream

ECHO = "/test/echo/1"
BIG = bytes(range(256)) * 800
LAST_ID = 0xFFFFFFFF

SPENT = pytest.mark.parametrize("why", ["goaway", "ids"])


async def spend(rig: Rig, why: str) -> None:
    """Make it so that no stream can be opened."""
    if why == "goaway":
        await rig.peer.send(go_away(0))
        await wait_all_tasks_blocked()
    else:
        yamux = rig.connection.muxer.yamux
        yamux._next_id = LAST_ID + (1 if yamux._next_id % 2 == 0 else 2)


async def tick(rig: Rig, seconds: float = 0.0) -> None:
    """Look after the connection as its keeper does, for some time, in which the peer is not silent."""
    end_s = trio.current_time() + seconds
    await wait_all_tasks_blocked()
    while not rig.connection.is_closed:
        rig.connection.tick(trio.current_time())
        await wait_all_tasks_blocked()
        if trio.current_time() >= end_s or rig.connection.is_closed:
            break
        await rig.peer.send(ping(7))
        await trio.sleep(TICK_S)


# --- taken no more for streams ---


@SPENT
async def test_the_pool_gives_a_connection_that_takes_streams(autojump_clock, start_connection, why):
    first, second = await start_connection(spoken=(ECHO,)), await start_connection(spoken=(ECHO,))
    second.connection.peer_id = peer_id = first.connection.peer_id
    pool = ConnectionPool(10)
    assert pool.add(first.connection)
    assert pool.get(peer_id) is first.connection
    await spend(first, why)
    assert not first.connection.takes_streams
    assert not first.connection.is_closed
    assert (pool.get(peer_id), pool.peers()) == (None, ())
    assert pool.add(second.connection)
    assert pool.get(peer_id) is second.connection
    assert pool.of(peer_id) == (first.connection, second.connection)


async def test_the_last_stream_id_is_used(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,))
    rig.connection.muxer.yamux._next_id = LAST_ID
    assert rig.connection.takes_streams
    stream = await rig.connection.open_stream(ECHO)
    assert not rig.connection.takes_streams
    await stream.send(b"x")
    await rig.peer.send(data(LAST_ID, proposal(ECHO) + b"hello", ACK))
    assert await stream.receive() == b"hello"


# --- what is under way goes on, and then the connection ends ---


@SPENT
async def test_streams_in_progress_go_on_and_the_last_one_ends_the_connection(autojump_clock, start_connection, why):
    rig = await start_connection(spoken=(ECHO,))
    streams = [await rig.connection.open_stream(ECHO) for _ in range(2)]
    for number, stream in enumerate(streams):
        await stream.send(b"x")
        await rig.peer.send(data(2 * number + 1, proposal(ECHO), ACK))
    await spend(rig, why)
    await tick(rig, 100.0)
    for number, stream in enumerate(streams):
        assert not rig.connection.is_closed
        await rig.peer.send(data(2 * number + 1, b"still here"), update(2 * number + 1, 0, FIN))
        assert await stream.receive() == b"still here"
        await stream.close()
        await tick(rig)
    assert rig.connection.is_closed
    assert await rig.peer.rest() is not None


@SPENT
async def test_streams_of_the_peer_hold_the_connection_too(autojump_clock, start_connection, why):
    served = trio.Event()

    async def answer(stream: Stream) -> None:
        assert await stream.receive() == b"later"
        served.set()

    rig = await start_connection(is_initiator=False, protocols={ECHO: answer})
    await rig.peer.send(data(1, proposal(ECHO), SYN))
    await spend(rig, why)
    await tick(rig, 100.0)
    assert not rig.connection.is_closed
    await rig.peer.send(data(1, b"later"), update(1, 0, FIN))
    await wait_all_tasks_blocked()
    assert served.is_set()
    await tick(rig)
    assert rig.connection.is_closed


async def test_a_retired_connection_says_goodbye_serves_what_crossed_it_and_ends(autojump_clock, start_connection):
    served = trio.Event()

    async def answer(stream: Stream) -> None:
        assert await stream.receive() == b"crossed"
        served.set()

    rig = await start_connection(is_initiator=False, protocols={ECHO: answer})
    await rig.settle()
    rig.connection.retire(trio.current_time())
    assert not rig.connection.takes_streams
    assert [(frame.kind, frame.length) for frame in await rig.peer.arrived()] == [(GO_AWAY, 0)]
    await rig.peer.send(data(1, proposal(ECHO), SYN))  # before it heard of it
    await tick(rig, 10 * FAREWELL_S)
    assert not rig.connection.is_closed
    await rig.peer.send(data(1, b"crossed"), update(1, 0, FIN))
    await wait_all_tasks_blocked()
    assert served.is_set()
    await tick(rig)
    assert rig.connection.muxer.close_cause is CloseCause.CLOSED


async def test_streams_in_the_background_do_not_keep_a_connection_that_is_retired(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,), background=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"x")
    await wait_all_tasks_blocked()
    assert rig.connection.is_idle
    await tick(rig, 10 * FAREWELL_S)
    assert not rig.connection.is_closed
    rig.connection.retire(trio.current_time())
    await tick(rig, 2 * FAREWELL_S)
    assert rig.connection.is_closed
    with pytest.raises(ConnectionLostError):
        await stream.receive()


async def test_a_retired_connection_waits_for_streams_that_cross_it(autojump_clock, start_connection):
    rig = await start_connection()
    rig.connection.retire(trio.current_time())
    await tick(rig, FAREWELL_S - TICK_S)
    assert not rig.connection.is_closed
    await tick(rig, 2 * TICK_S)
    assert rig.connection.is_closed


async def test_a_connection_that_takes_streams_is_not_ended_for_having_none(autojump_clock, start_connection):
    rig = await start_connection()
    await tick(rig, 1000.0)
    assert not rig.connection.is_closed


async def test_a_peer_that_goes_away_still_gets_the_answer_that_waits(autojump_clock, start_connection, nursery):
    async def answer(stream: Stream) -> None:
        while await stream.receive():
            pass
        await stream.send(BIG, end=True)

    rig = await start_connection(is_initiator=False, protocols={ECHO: answer}, buffer_bytes=20_000)
    await rig.peer.send(data(1, proposal(ECHO), SYN), update(1, 0, FIN), go_away(0))
    await wait_all_tasks_blocked()
    assert rig.connection.streams == set()
    assert rig.connection.muxer.yamux.streams == {}
    assert rig.connection.muxer.unsent_bytes > 100_000
    await tick(rig, 60.0)
    received = b"".join(frame.body for frame in await rig.peer.arrived() if frame.kind == DATA)
    assert received == proposal(ECHO) + BIG
    assert not rig.connection.is_closed
    await tick(rig)
    assert rig.connection.is_closed


@pytest.mark.parametrize("end", [FIN, RST], ids=["end", "reset"])
async def test_a_handler_reads_to_the_end_what_came_before_the_peer_went_away(autojump_clock, start_connection, end):
    """Nothing of the stream is left but what the handler has not read."""
    received: list[bytes] = []
    ended: list[str] = []

    async def read_slowly(stream: Stream) -> None:
        await stream.close_write()
        try:
            while piece := await stream.receive(1000):
                received.append(piece)
                await trio.sleep(1)
            ended.append("end")
        except ConnectionLostError:
            ended.append("reset")

    rig = await start_connection(is_initiator=False, protocols={ECHO: read_slowly})
    await rig.peer.send(data(1, proposal(ECHO), SYN))
    await wait_all_tasks_blocked()
    await rig.peer.send(data(1, BIG[:20_000]), update(1, 0, end), go_away(0))
    await tick(rig, 30.0)
    assert b"".join(received) == BIG[:20_000]
    assert ended == [{FIN: "end", RST: "reset"}[end]]
    assert rig.connection.is_closed


# --- waiting to be written ---


async def test_a_connection_whose_answer_waits_for_the_socket_is_not_idle(autojump_clock, start_connection):
    async def answer(stream: Stream) -> None:
        await stream.send(BIG, end=True)

    rig = await start_connection(is_initiator=False, protocols={ECHO: answer}, buffer_bytes=20_000)
    assert rig.connection.is_idle
    await rig.peer.send(data(1, proposal(ECHO), SYN), update(1, 0, FIN))
    await wait_all_tasks_blocked()
    assert rig.connection.streams == set()
    assert not rig.connection.is_idle, "it would be trimmed, and the peer lose the rest"
    received = b"".join(frame.body for frame in await rig.peer.arrived() if frame.kind == DATA)
    assert received == proposal(ECHO) + BIG
    assert rig.connection.is_idle


@pytest.mark.parametrize("waits", ["to send", "to receive"])
async def test_a_peer_that_talks_and_reads_nothing_ends_what_waits(autojump_clock, start_connection, nursery, waits):
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"x")
    await rig.peer.send(data(1, proposal(ECHO), ACK), update(1, 1 << 30))
    await rig.settle()
    failed_s: list[float] = []

    async def wait() -> None:
        with pytest.raises(ConnectionLostError):
            await (stream.send(BIG * 10) if waits == "to send" else stream.receive())
        failed_s.append(trio.current_time())

    rig.link.stall(True)
    began_s = trio.current_time()
    nursery.start_soon(wait)
    await tick(rig, 600.0)
    await wait_all_tasks_blocked()
    assert len(failed_s) == 1
    # A ping of ours is what finds the line full, where nothing else is sent.
    assert STUCK_S < failed_s[0] - began_s <= STUCK_S + 3 * TICK_S + SILENCE_S


async def test_a_slow_reader_is_not_taken_for_one_that_reads_nothing(autojump_clock, start_connection, nursery):
    rig = await start_connection(spoken=(ECHO,), buffer_bytes=20_000)
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"x")
    await rig.peer.send(data(1, proposal(ECHO), ACK), update(1, 1 << 30))
    await rig.settle()
    nursery.start_soon(stream.send, BIG)
    await wait_all_tasks_blocked()
    reads = 0
    while rig.connection.muxer.unsent_bytes:
        await tick(rig, STUCK_S - 2 * TICK_S)
        assert not rig.connection.is_closed
        rig.peer.link.receive_nowait()
        reads += 1
        await wait_all_tasks_blocked()
    assert reads >= 10


async def test_pings_go_on_for_a_peer_that_answers_none(autojump_clock, start_connection):
    """Its data says that it is there."""
    rig = await start_connection()
    await tick(rig, 600.0)
    assert not rig.connection.is_closed
    pings = [frame for frame in await rig.peer.arrived() if (frame.kind, frame.flags) == (PING, SYN)]
    assert len(pings) == 600 // MEASURE_S
