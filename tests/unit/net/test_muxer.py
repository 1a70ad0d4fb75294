"""What leaves and comes on one connection: a simulated line in virtual time, and a peer by hand at its other end."""

from __future__ import annotations

import pytest
import trio
from tests.support.yamux_wire import ACK, DATA, PING, RST, SYN, data, ping, update
from tests.unit.net.conftest import Recorder, make_line
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.ledger import Ledger
from hostmesh.net.muxer import CONGESTED_BYTES, Muxer
from hostmesh.wire.yamux import YamuxLimits, YamuxStream

BIG = bytes(range(256)) * 1024


# --- what leaves, and in how many writes ---


async def test_a_first_send_on_a_quiet_line_leaves_in_the_senders_own_step(autojump_clock, start_muxer):
    rig = await start_muxer()
    for _ in range(3):
        await trio.sleep(1)
        rig.link.writes.clear()
        stream = rig.open()
        rig.send(stream, b"hello")
        assert len(rig.link.writes) == 1, "no pass of the scheduler was needed"
        (frame,) = await rig.peer.arrived()
        assert (frame.kind, frame.flags, frame.stream_id, frame.body) == (DATA, SYN, stream.id, b"hello")
        assert len(rig.link.writes) == 1, "and nothing came after it"


async def test_small_sends_of_one_pass_are_one_write(autojump_clock, start_muxer):
    rig = await start_muxer()
    streams = [rig.open() for _ in range(50)]
    rig.send(streams[0], b"the line is not quiet now")
    rig.link.writes.clear()

    async def say(stream: YamuxStream) -> None:
        rig.send(stream, b"stream %d" % stream.id)

    async with trio.open_nursery() as nursery:
        for stream in streams[1:]:
            nursery.start_soon(say, stream)
    frames = await rig.peer.arrived()
    assert len(rig.link.writes) == 1
    assert {frame.stream_id: frame.body for frame in frames[1:]} == {
        stream.id: b"stream %d" % stream.id for stream in streams[1:]
    }


async def test_small_sends_of_one_stream_are_one_frame(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.send(stream, b"first")
    for number in range(100):
        rig.send(stream, b"%02d" % number)
    first, second = await rig.peer.arrived()
    assert first.body == b"first"
    assert second.body == b"".join(b"%02d" % number for number in range(100))
    assert len(rig.link.writes) == 2


async def test_much_leaves_at_once_though_the_line_is_not_quiet(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.send(stream, b"first")
    rig.send(stream, BIG[:CONGESTED_BYTES])
    assert len(rig.link.writes) == 2
    assert len(rig.link.writes[1]) >= CONGESTED_BYTES


async def test_a_line_that_takes_little_at_a_time_gets_every_byte_in_order(autojump_clock, start_muxer):
    rig = await start_muxer(buffer_bytes=1000)
    streams = [rig.open() for _ in range(3)]
    for at in range(0, len(BIG), 4096):
        for stream in streams:
            rig.send(stream, BIG[at : at + 4096])
    frames = await rig.peer.arrived()
    for stream in streams:
        assert b"".join(frame.body for frame in frames if frame.stream_id == stream.id) == BIG
    assert rig.muxer.unsent_bytes == 0


# --- congestion ---


async def test_a_line_that_takes_nothing_makes_senders_wait(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.link.stall(True)
    rig.send(stream, b"in the socket's place")
    assert not rig.muxer.is_congested
    passed = trio.Event()

    async def wait() -> None:
        await rig.muxer.wait_uncongested()
        passed.set()

    async with trio.open_nursery() as nursery:
        rig.send(stream, BIG[:CONGESTED_BYTES])
        assert rig.muxer.is_congested
        assert rig.muxer.unsent_bytes > CONGESTED_BYTES
        nursery.start_soon(wait)
        await trio.sleep(20)
        assert not passed.is_set()
        rig.link.stall(False)
    assert passed.is_set()
    assert not rig.muxer.is_congested
    assert b"".join(frame.body for frame in await rig.peer.arrived())[21:] == BIG[:CONGESTED_BYTES]


async def test_less_than_the_bound_makes_nobody_wait(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.link.stall(True)
    rig.send(stream, b"x")
    rig.send(stream, bytes(CONGESTED_BYTES - 100))
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.muxer.wait_uncongested()
    assert not scope.cancelled_caught


async def test_waiting_senders_are_let_go_when_the_connection_ends(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.link.stall(True)
    rig.send(stream, b"x")
    rig.send(stream, BIG[:CONGESTED_BYTES])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.muxer.wait_uncongested)
        await wait_all_tasks_blocked()
        rig.muxer.abort()
    assert rig.muxer.is_closed


async def test_a_sender_that_is_cancelled_while_it_waits_leaves_the_rest_to_go_on(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.link.stall(True)
    rig.send(stream, b"x")
    rig.send(stream, BIG[:CONGESTED_BYTES])
    with trio.move_on_after(1) as scope:
        await rig.muxer.wait_uncongested()
    assert scope.cancelled_caught
    rig.link.stall(False)
    assert b"".join(frame.body for frame in await rig.peer.arrived())[1:] == BIG[:CONGESTED_BYTES]


# --- what comes ---


async def test_what_the_peer_opens_says_and_ends_is_told_in_order(autojump_clock, start_muxer):
    rig = await start_muxer()
    await rig.peer.send(data(2, b"hel", SYN), data(2, b"lo"), update(2, 0, 4))
    await wait_all_tasks_blocked()
    (stream,) = rig.accepted
    assert stream.owner.received == b"hello"
    assert stream.owner.told == ["end"]


async def test_frames_that_came_with_the_handshake_are_not_lost(autojump_clock, nursery):
    line = await make_line(is_initiator=False)
    early = data(1, b"early", SYN)
    object.__setattr__(line.ours.secured, "plaintexts", (early[:5], early[5:]))
    accepted = []

    def accept(stream: YamuxStream) -> None:
        stream.owner = Recorder()
        accepted.append(stream)

    muxer = Muxer(line.ours, limits=YamuxLimits(), ledger=Ledger(), accept=accept)
    nursery.start_soon(muxer.run)
    await wait_all_tasks_blocked()
    assert [stream.owner.received for stream in accepted] == [b"early"]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
async def test_messages_may_come_in_any_pieces(autojump_clock, start_muxer, piece_bytes):
    rig = await start_muxer()
    sealed = rig.peer.channel.seal(data(2, BIG[:2000], SYN)) + rig.peer.channel.seal(data(2, BIG[2000:4000]))
    for at in range(0, len(sealed), piece_bytes):
        await rig.peer.link.send(sealed[at : at + piece_bytes])
        await wait_all_tasks_blocked()
    (stream,) = rig.accepted
    assert stream.owner.received == BIG[:4000]


async def test_pings_of_the_peer_are_answered_with_their_number(autojump_clock, start_muxer):
    rig = await start_muxer()
    await rig.peer.send(ping(7), ping(0xFFFFFFFF))
    answers = await rig.peer.arrived()
    assert [(frame.kind, frame.flags, frame.length) for frame in answers] == [(PING, ACK, 7), (PING, ACK, 0xFFFFFFFF)]


async def test_streams_over_the_limit_are_refused_and_counted(autojump_clock, start_muxer):
    ledger = Ledger()
    rig = await start_muxer(limits=YamuxLimits(max_inbound_streams=3), ledger=ledger)
    await rig.peer.send(*(data(number, b"x", SYN) for number in range(2, 12, 2)))
    refused = await rig.peer.arrived()
    assert [(frame.stream_id, frame.flags & RST) for frame in refused] == [(8, RST), (10, RST)]
    assert len(rig.accepted) == 3
    assert ledger.refused_streams == 2


# --- unread bytes ---


async def test_unread_bytes_are_told_to_the_node_as_they_come_and_go(autojump_clock, start_muxer):
    ledger = Ledger()
    rig = await start_muxer(ledger=ledger)
    await rig.peer.send(data(2, bytes(3000), SYN))
    await wait_all_tasks_blocked()
    assert ledger.unread_bytes == 3000
    rig.muxer.yamux.consume(rig.accepted[0], 1000)
    assert ledger.unread_bytes == 2000
    rig.muxer.abort()
    await wait_all_tasks_blocked()
    assert ledger.unread_bytes == 0, "of a connection that is over nothing is unread"


async def test_over_the_nodes_limit_the_fullest_stream_is_reset_and_the_others_stay(autojump_clock, start_muxer):
    ledger = Ledger(max_unread_bytes=100_000)
    rig = await start_muxer(ledger=ledger)
    await rig.peer.send(data(2, bytes(30_000), SYN))
    await rig.peer.send(data(4, bytes(50_000), SYN))
    await rig.peer.send(data(6, bytes(25_000), SYN))
    (refusal,) = await rig.peer.arrived()
    assert (refusal.stream_id, refusal.flags & RST) == (4, RST)
    assert [stream.owner.told for stream in rig.accepted] == [[], ["overflow"], []]
    assert (ledger.unread_bytes, ledger.overflowed_streams) == (55_000, 1)


async def test_the_nodes_limit_counts_all_connections_and_the_fullest_pays(autojump_clock, start_muxer):
    ledger = Ledger(max_unread_bytes=100_000)
    one, two = await start_muxer(ledger=ledger), await start_muxer(ledger=ledger)
    await one.peer.send(data(2, bytes(60_000), SYN))
    await wait_all_tasks_blocked()
    await two.peer.send(data(2, bytes(45_000), SYN))
    assert [frame.flags & RST for frame in await one.peer.arrived()] == [RST]
    assert await two.peer.arrived() == []
    assert (one.accepted[0].owner.told, two.accepted[0].owner.told) == (["overflow"], [])
    assert (ledger.unread_bytes, ledger.overflowed_streams) == (45_000, 1)


async def test_a_connections_own_limit_resets_its_fullest_stream(autojump_clock, start_muxer):
    rig = await start_muxer(limits=YamuxLimits(max_unread_bytes=100_000))
    await rig.peer.send(data(2, bytes(60_000), SYN))
    await rig.peer.send(data(4, bytes(50_000), SYN))
    (refusal,) = await rig.peer.arrived()
    assert (refusal.stream_id, refusal.flags & RST) == (2, RST)
    assert rig.ledger.overflowed_streams == 1
