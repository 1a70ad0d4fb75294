"""What a stream counts for, and how long: bytes that came before a reset, and the place of an inbound stream."""

from __future__ import annotations

import pytest
import trio
from tests.support.wire_peer import proposal
from tests.support.yamux_wire import DATA, FIN, RST, SYN, data, update
from tests.unit.net.conftest import Rig
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError
from hostmesh.net.ledger import Ledger
from hostmesh.net.stream import Stream
from hostmesh.wire.yamux import YamuxLimits

ECHO = "/test/echo/1"
PIECE = 60_000


class Handlers:
    """Keeps the streams that it serves, and reads nothing, until it is told to leave."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.running = 0
        self.leave = trio.Event()

    async def keep(self, stream: Stream) -> None:
        self.streams.append(stream)
        self.running += 1
        try:
            await self.leave.wait()
        finally:
            self.running -= 1


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


async def receive_all(stream: Stream) -> int:
    """Read to the reset, and return how many bytes came."""
    pieces: list[bytes] = []

    async def read() -> None:
        while True:
            pieces.append(await stream.receive(1000))

    with pytest.raises(ConnectionLostError):
        await read()
    assert all(pieces), "there is no end before the reset"
    return sum(map(len, pieces))


async def open_and_reset(rig: Rig, stream_id: int, pieces: int) -> None:
    await rig.peer.send(data(stream_id, proposal(ECHO), SYN))
    for _ in range(pieces):
        await rig.peer.send(data(stream_id, bytes(PIECE)))
    await wait_all_tasks_blocked()
    await rig.peer.send(update(stream_id, 0, RST))
    await rig.settle()


# --- bytes before a reset ---


@pytest.mark.parametrize("is_one_piece", [True, False], ids=["with the reset", "before it"])
async def test_bytes_before_a_reset_count_until_they_are_read(autojump_clock, start_connection, handlers, is_one_piece):
    rig = await start_connection(is_initiator=False, protocols={ECHO: handlers.keep})
    await rig.peer.send(data(1, proposal(ECHO), SYN))
    await wait_all_tasks_blocked()
    frames = [data(1, bytes(5000)), update(1, 0, RST)]
    for each in [b"".join(frames)] if is_one_piece else frames:
        await rig.peer.send(each)
        await wait_all_tasks_blocked()
    (stream,) = handlers.streams
    muxer = rig.connection.muxer
    assert muxer.yamux.streams == {}
    assert muxer.unread_bytes == rig.ledger.unread_bytes == 5000
    assert len(await stream.receive(2000)) == 2000
    assert muxer.unread_bytes == rig.ledger.unread_bytes == 3000
    assert await receive_all(stream) == 3000
    assert muxer.unread_bytes == rig.ledger.unread_bytes == 0


@pytest.mark.parametrize("how", ["reset", "close", "leave", "connection end"])
async def test_bytes_before_a_reset_are_forgotten_with_the_stream(autojump_clock, start_connection, handlers, how):
    rig = await start_connection(is_initiator=False, protocols={ECHO: handlers.keep})
    await open_and_reset(rig, 1, 1)
    assert rig.ledger.unread_bytes == PIECE
    (stream,) = handlers.streams
    if how in ("reset", "close"):
        await getattr(stream, how)()
    elif how == "leave":
        handlers.leave.set()
    else:
        await rig.peer.link.close()
    await wait_all_tasks_blocked()
    assert rig.ledger.unread_bytes == 0


@pytest.mark.parametrize("whose", ["connection", "node"])
async def test_bytes_before_a_reset_are_under_the_limits(autojump_clock, start_connection, handlers, whose):
    """Each stream brings 240,000 bytes and a reset; the limit is a million."""
    ledger = Ledger(max_unread_bytes=1_000_000 if whose == "node" else 1 << 40)
    limits = YamuxLimits(max_unread_bytes=1_000_000 if whose == "connection" else 1 << 40)
    rig = await start_connection(is_initiator=False, protocols={ECHO: handlers.keep}, ledger=ledger, limits=limits)
    for number in range(20):
        await open_and_reset(rig, 2 * number + 1, 4)
        assert ledger.unread_bytes <= 1_000_000
    assert ledger.overflowed_streams == 16
    left = [await receive_all(stream) for stream in handlers.streams]
    assert sorted(left) == [0] * 16 + [4 * PIECE] * 4
    assert ledger.unread_bytes == 0


async def test_bytes_that_come_with_the_reset_of_a_stream_without_a_handler_count_for_nothing(
    autojump_clock, start_connection
):
    rig = await start_connection(is_initiator=False, protocols={})
    for number in range(5):
        await rig.peer.send(data(2 * number + 1, bytes(PIECE), SYN), update(2 * number + 1, 0, RST))
        await rig.peer.send(data(2 * number + 101, proposal(ECHO)[:5], SYN))
        await rig.peer.send(update(2 * number + 101, 0, RST))
    await wait_all_tasks_blocked()
    assert rig.connection.muxer.unread_bytes == rig.ledger.unread_bytes == 0


# --- places ---


@pytest.mark.parametrize("how", ["the peer resets", "both close", "own reset", "a send after the own end"])
async def test_a_handler_keeps_its_place_when_its_stream_is_over(autojump_clock, start_connection, how):
    """Otherwise a peer could have any number of them at work."""
    running = 0
    leave = trio.Event()

    async def outlive(stream: Stream) -> None:
        nonlocal running
        running += 1
        if how == "both close":
            await stream.close()
        elif how == "own reset":
            await stream.reset()
        elif how == "a send after the own end":
            await stream.close_write()
            with pytest.raises(ConnectionLostError):
                await stream.send(b"x")
        await leave.wait()
        running -= 1

    ledger = Ledger(max_streams_per_protocol=2)
    rig = await start_connection(is_initiator=False, protocols={ECHO: outlive}, ledger=ledger)
    end = RST if how == "the peer resets" else FIN
    for number in range(5):
        stream_id = 2 * number + 1
        await rig.peer.send(data(stream_id, proposal(ECHO), SYN))
        await wait_all_tasks_blocked()
        await rig.peer.send(update(stream_id, 0, end))
        await wait_all_tasks_blocked()
    assert running == 2
    assert ledger.inbound_streams() == {ECHO: 2}
    assert ledger.refused_streams == 3
    leave.set()
    await rig.settle()
    assert running == 0
    assert ledger.inbound_streams() == {}
    await rig.peer.send(data(101, proposal(ECHO), SYN))
    frames = await rig.peer.arrived()
    assert [frame.body for frame in frames if frame.kind == DATA] == [proposal(ECHO)]


async def test_a_handler_that_fails_gives_its_place_back(autojump_clock, start_connection, caplog):
    async def fail(stream: Stream) -> None:
        raise RuntimeError("a bug")

    ledger = Ledger(max_streams_per_protocol=1)
    rig = await start_connection(is_initiator=False, protocols={ECHO: fail}, ledger=ledger)
    for number in range(5):
        await rig.peer.send(data(2 * number + 1, proposal(ECHO), SYN))
        await wait_all_tasks_blocked()
    assert ledger.inbound_streams() == {}
    assert ledger.refused_streams == 0
    assert len(caplog.records) == 5
