"""Round trips, silence and the end of a connection: a simulated line in virtual time, and a peer by hand."""

from __future__ import annotations

import pytest
import trio
from tests.support.yamux_wire import ACK, DATA, GO_AWAY, PING, SYN, data, go_away, ping, update
from tests.unit.net.conftest import make_line
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.ledger import Ledger
from hostmesh.net.links import LinkBrokenError
from hostmesh.net.muxer import SILENCE_S, STUCK_S, Muxer
from hostmesh.net.pinger import MEASURE_S, PATIENCE_S, PING_S
from hostmesh.wire.yamux import StreamLimitError, YamuxLimits

BIG = bytes(range(256)) * 1024


# --- round trips and silence ---


@pytest.mark.parametrize("delay_s", [0.0, 0.025, 1.5])
async def test_the_round_trip_is_that_of_the_line(autojump_clock, start_muxer, delay_s):
    rig = await start_muxer(delay_s=delay_s)
    assert rig.muxer.rtt_s is None
    rig.muxer.ping(trio.current_time())
    asked = await rig.peer.next()
    assert (asked.kind, asked.flags) == (PING, SYN)
    await rig.peer.send(ping(asked.length, ACK))
    await trio.sleep(delay_s + 0.001)
    assert rig.muxer.rtt_s == pytest.approx(2 * delay_s)


async def test_an_answer_to_no_question_is_no_measurement(autojump_clock, start_muxer):
    rig = await start_muxer()
    await rig.peer.send(ping(1, ACK))
    await wait_all_tasks_blocked()
    rig.muxer.ping(trio.current_time())
    (asked,) = await rig.peer.arrived()
    await rig.peer.send(ping(asked.length + 1, ACK))
    await wait_all_tasks_blocked()
    assert rig.muxer.rtt_s is None
    await rig.peer.send(ping(asked.length, ACK))
    await wait_all_tasks_blocked()
    assert rig.muxer.rtt_s == 0.0


async def test_a_ping_that_is_not_answered_is_repeated_and_its_first_answer_counts(autojump_clock, start_muxer):
    rig = await start_muxer()
    began = trio.current_time()
    for _ in range(2):
        rig.muxer.tick(trio.current_time())
        await trio.sleep(PING_S)
    frames = await rig.peer.arrived()
    assert len(frames) == 2
    assert len({frame.length for frame in frames}) == 1
    await rig.peer.send(ping(frames[0].length, ACK))
    await wait_all_tasks_blocked()
    assert rig.muxer.rtt_s == pytest.approx(trio.current_time() - began)
    await rig.peer.send(ping(frames[0].length, ACK))
    await wait_all_tasks_blocked()
    assert rig.muxer.rtt_s == pytest.approx(2 * PING_S)
    await trio.sleep(PING_S)
    rig.muxer.tick(trio.current_time())
    (again,) = await rig.peer.arrived()
    assert again.length != frames[0].length


async def test_pings_go_out_no_more_often_than_every_twenty_seconds(autojump_clock, start_muxer):
    rig = await start_muxer()
    for _ in range(int(SILENCE_S)):
        rig.muxer.tick(trio.current_time())
        await trio.sleep(1)
    assert [frame.kind for frame in await rig.peer.arrived()] == [PING, PING]


async def test_the_side_that_was_dialled_gives_the_other_time_to_ask(autojump_clock, start_muxer):
    rig = await start_muxer(is_initiator=False)
    rig.muxer.tick(trio.current_time())
    await trio.sleep(PING_S + PATIENCE_S - 1)
    rig.muxer.tick(trio.current_time())
    assert len(await rig.peer.arrived()) == 1, "the first"
    await trio.sleep(1)
    rig.muxer.tick(trio.current_time())
    (again,) = await rig.peer.arrived()
    assert (again.kind, again.flags) == (PING, SYN)


async def test_a_peer_that_is_heard_is_pinged_for_the_round_trip_only(autojump_clock, start_muxer):
    rig = await start_muxer()
    for _ in range(200):
        await trio.sleep(1)
        await rig.peer.send(ping(0, ACK))
        await wait_all_tasks_blocked()
        rig.muxer.tick(trio.current_time())
    pings_s = 1 + 200 // MEASURE_S
    assert len(await rig.peer.arrived()) == pings_s


async def test_the_answer_to_a_ping_is_life_enough_for_both_sides(autojump_clock, start_muxer):
    """Of an idle connection's two sides one pings: the other hears the ping."""
    rig = await start_muxer()
    rig.muxer.tick(trio.current_time())
    for value in range(4):
        await trio.sleep(PING_S - 1)
        await rig.peer.send(ping(value))
        await wait_all_tasks_blocked()
        rig.muxer.tick(trio.current_time())
    frames = await rig.peer.arrived()
    assert [frame.flags for frame in frames] == [SYN, ACK, ACK, ACK, ACK]


async def test_silence_ends_the_connection(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    await rig.peer.send(ping(1))
    await wait_all_tasks_blocked()
    heard = trio.current_time()
    while not rig.muxer.is_closed:
        await trio.sleep(1)
        rig.muxer.tick(trio.current_time())
    assert SILENCE_S < trio.current_time() - heard <= SILENCE_S + 1
    await wait_all_tasks_blocked()
    assert rig.is_over
    assert stream.owner.told[-1] == "connection end"


async def test_a_peer_whose_bytes_make_no_message_is_given_up(autojump_clock, start_muxer):
    """As after one flipped bit in the length of a message: what comes counts as life, and nothing is understood."""
    rig = await start_muxer()
    began = trio.current_time()
    while not rig.muxer.is_closed:
        await trio.sleep(1)
        await rig.peer.link.send(b"\xff")
        await wait_all_tasks_blocked()
        rig.muxer.tick(trio.current_time())
    assert STUCK_S < trio.current_time() - began <= STUCK_S + 1


async def test_a_message_that_comes_slowly_is_waited_for(autojump_clock, start_muxer):
    rig = await start_muxer()
    for _ in range(3):
        message = rig.peer.channel.seal(ping(0, ACK))
        for byte in message:
            await trio.sleep((STUCK_S - 10) / len(message))
            await rig.peer.link.send(bytes([byte]))
            await wait_all_tasks_blocked()
            rig.muxer.tick(trio.current_time())
    assert not rig.muxer.is_closed


async def test_a_peer_that_says_anything_is_not_silent(autojump_clock, start_muxer):
    rig = await start_muxer()
    for _ in range(20):
        await trio.sleep(SILENCE_S - 1)
        await rig.peer.send(ping(0, ACK))
        await wait_all_tasks_blocked()
        rig.muxer.tick(trio.current_time())
    assert not rig.muxer.is_closed


async def test_silence_counts_from_when_the_line_took_the_last_of_what_waited(autojump_clock, start_muxer):
    """The answer to a ping comes behind what the line still holds; nothing was heard all the time."""
    rig = await start_muxer(buffer_bytes=60_000)
    rig.send(rig.open(), bytes(250_000))
    began = trio.current_time()
    while sum(map(len, rig.link.writes)) < 250_000:
        await trio.sleep(SILENCE_S - 6)
        rig.peer.link.receive_nowait()
        await wait_all_tasks_blocked()
        rig.muxer.tick(trio.current_time())
        assert not rig.muxer.is_closed
    taken = trio.current_time()
    assert taken - began > 2 * SILENCE_S
    while not rig.muxer.is_closed:
        await trio.sleep(1)
        rig.muxer.tick(trio.current_time())
    assert SILENCE_S < trio.current_time() - taken <= SILENCE_S + 1


# --- the end ---


async def test_a_peer_that_goes_away_gets_no_new_streams_and_the_open_ones_go_on(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.send(stream, b"x")
    await rig.peer.send(go_away(0))
    await wait_all_tasks_blocked()
    with pytest.raises(StreamLimitError):
        rig.open()
    await rig.peer.send(data(stream.id, b"still", ACK))
    await wait_all_tasks_blocked()
    assert stream.owner.received == b"still"
    assert not rig.is_over


@pytest.mark.parametrize(
    "frames",
    [
        b"\x01" + bytes(11),
        bytes([0, 9]) + bytes(10),
        data(5, b"nobody opened this"),
        data(3, b"ours to open", SYN),
        data(2, bytes(300_000), SYN)[:12],
        update(2, 0xFFFFFFFF, SYN) + update(2, 0xFFFFFFFF),
    ],
    ids=["version", "kind", "unopened", "our id", "over the window", "window overflow"],
)
async def test_a_peer_that_breaks_the_protocol_is_told_and_left(autojump_clock, start_muxer, caplog, frames):
    rig = await start_muxer()
    stream = rig.open()
    await rig.peer.send(frames)
    with trio.fail_after(1):
        last = (await rig.peer.rest())[-1]
    assert (last.kind, last.length) == (GO_AWAY, 1)
    await wait_all_tasks_blocked()
    assert rig.is_over
    assert stream.owner.told[-1] == "connection end"
    assert "broke the protocol" in caplog.text


async def test_bytes_that_nobody_sealed_end_the_connection(autojump_clock, start_muxer, caplog):
    rig = await start_muxer()
    await rig.peer.link.send(b"\x00\x20" + bytes(32))
    with trio.fail_after(1):
        await rig.peer.rest()
    assert rig.is_over
    assert "broke the protocol" in caplog.text


async def test_the_end_of_the_line_is_told_to_every_stream(autojump_clock, start_muxer):
    rig = await start_muxer()
    streams = [rig.open() for _ in range(3)]
    await rig.peer.send(data(2, b"last words", SYN))
    await rig.peer.link.close()
    await wait_all_tasks_blocked()
    assert rig.is_over
    assert rig.muxer.is_closed
    (inbound,) = rig.accepted
    assert inbound.owner.received == b"last words"
    for stream in (*streams, inbound):
        assert stream.owner.told[-1] == "connection end"


async def test_what_the_peer_said_before_the_line_broke_is_still_read(autojump_clock, start_muxer):
    """A write fails first; what came before is there for the reader, for a second."""
    rig = await start_muxer(delay_s=0.5)
    await rig.peer.send(data(2, b"last words", SYN))
    rig.link.stall(True)
    stream = rig.open()

    def broken(*_: bytes) -> int:
        raise LinkBrokenError("the socket says so")

    rig.link.send_nowait = broken
    rig.send(stream, b"x")
    assert rig.muxer.is_closed
    assert not rig.is_over
    await trio.sleep(0.6)
    assert [each.owner.received for each in rig.accepted] == [b"last words"]
    await trio.sleep(0.5)
    assert rig.is_over


async def test_close_says_goodbye_and_ends(autojump_clock, start_muxer):
    rig = await start_muxer()
    rig.send(rig.open(), b"x")
    began = trio.current_time()
    await rig.muxer.close()
    assert trio.current_time() == began
    frames = await rig.peer.rest()
    assert [(frame.kind, frame.length) for frame in frames] == [(DATA, 1), (GO_AWAY, 0)]
    await wait_all_tasks_blocked()
    assert rig.is_over


async def test_close_waits_half_a_second_for_a_line_that_takes_nothing(autojump_clock, start_muxer):
    rig = await start_muxer()
    rig.link.stall(True)
    rig.send(rig.open(), b"x")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(rig.muxer.close)
    assert trio.current_time() - began == pytest.approx(0.5)
    await wait_all_tasks_blocked()
    assert rig.is_over
    await rig.muxer.close()


async def test_close_is_shielded_and_what_was_queued_goes_out_before_the_goodbye(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.link.stall(True)
    rig.send(stream, b"x")
    rig.send(stream, BIG[:100_000])

    async def take_again() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
            rig.link.stall(False)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_again)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await rig.muxer.close()
        assert trio.current_time() - began == pytest.approx(0.2)
    frames = await rig.peer.rest()
    assert b"".join(frame.body for frame in frames) == b"x" + BIG[:100_000]
    assert (frames[-1].kind, frames[-1].length) == (GO_AWAY, 0)


async def test_after_the_end_nothing_is_sent(autojump_clock, start_muxer):
    rig = await start_muxer()
    stream = rig.open()
    rig.muxer.abort()
    await wait_all_tasks_blocked()
    rig.link.writes.clear()
    rig.muxer.yamux.send(stream, b"x")
    rig.muxer.flush_soon()
    rig.muxer.tick(trio.current_time() + 1000)
    await wait_all_tasks_blocked()
    assert rig.link.writes == []


async def test_cancelling_the_run_is_an_end(autojump_clock, nursery):
    line = await make_line()
    muxer = Muxer(line.ours, limits=YamuxLimits(), ledger=Ledger(), accept=lambda _: None)
    async with trio.open_nursery() as running:
        running.start_soon(muxer.run)
        await wait_all_tasks_blocked()
        running.cancel_scope.cancel()
    assert muxer.is_closed
    assert await line.peer.link.receive() == b""
