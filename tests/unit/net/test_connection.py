"""One connection: streams of ours, how their protocols are agreed on, and the connection's life."""

from __future__ import annotations

import pytest
import trio
from tests.support.wire_peer import line, proposal
from tests.support.yamux_wire import ACK, DATA, FIN, RST, SYN, data, go_away, update
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError, DialError, ProtocolNotSupportedError
from hostmesh.net.muxer import SILENCE_S
from hostmesh.wire.yamux import YamuxLimits

ECHO = "/test/echo/1"
OTHER = "/test/other/1"


async def test_a_protocol_that_the_peer_told_is_not_waited_for(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,))
    with trio.CancelScope() as scope:
        scope.cancel()
        stream = await rig.connection.open_stream(ECHO)
    assert not scope.cancelled_caught, "nothing was waited for"
    assert rig.link.writes == [], "and the peer is not told before there is something to say"
    await trio.sleep(1)
    await stream.send(b"hello")
    (frame,) = await rig.peer.arrived()
    assert len(rig.link.writes) == 1
    assert (frame.kind, frame.flags, frame.body) == (DATA, SYN, proposal(ECHO) + b"hello")
    await rig.peer.send(data(frame.stream_id, proposal(ECHO) + b"hello too", ACK))
    assert await stream.receive() == b"hello too"
    await stream.send(b"again")
    (frame,) = await rig.peer.arrived()
    assert frame.body == b"again"


async def test_any_other_protocol_is_agreed_on_first(autojump_clock, start_connection, nursery):
    rig = await start_connection(spoken=(OTHER,))
    opened = []

    async def open_() -> None:
        opened.append(await rig.connection.open_stream(ECHO))

    nursery.start_soon(open_)
    (frame,) = await rig.peer.arrived()
    assert (frame.kind, frame.flags, frame.body) == (DATA, SYN, proposal(ECHO))
    await rig.peer.send(data(frame.stream_id, line("/multistream/1.0.0"), ACK))
    await wait_all_tasks_blocked()
    assert opened == []
    await rig.peer.send(data(frame.stream_id, line(ECHO) + b"and more"))
    await wait_all_tasks_blocked()
    (stream,) = opened
    assert stream.protocol_id == ECHO
    assert await stream.receive() == b"and more"
    await stream.send(b"x")
    assert [each.body for each in await rig.peer.arrived()] == [b"x"]


async def test_a_peer_that_says_no_is_believed(autojump_clock, start_connection, nursery):
    rig = await start_connection()
    caught = []

    async def open_() -> None:
        with pytest.raises(ProtocolNotSupportedError) as error:
            await rig.connection.open_stream(ECHO)
        caught.append(error.value)

    nursery.start_soon(open_)
    (frame,) = await rig.peer.arrived()
    await rig.peer.send(data(frame.stream_id, line("/multistream/1.0.0") + line("na"), ACK))
    refusal = await rig.peer.arrived()
    assert [error.needed for error in caught] == [ECHO]
    assert not caught[0].may_have_executed
    assert [each.flags & RST for each in refusal] == [RST], "so that nothing of the stream stays"
    assert rig.connection.streams == set()
    assert not rig.connection.is_closed


async def test_a_peer_that_told_a_protocol_and_does_not_speak_it_fails_the_stream_and_is_asked_next_time(
    autojump_clock, start_connection, nursery
):
    rig = await start_connection(spoken=(ECHO, OTHER))
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"hello")
    (frame,) = await rig.peer.arrived()
    await rig.peer.send(data(frame.stream_id, line("/multistream/1.0.0") + line("na"), ACK))
    for use in (stream.receive, lambda: stream.send(b"more"), stream.receive, stream.close_write):
        with pytest.raises(ProtocolNotSupportedError) as caught:
            await use()
        assert caught.value.needed == ECHO
        assert not caught.value.may_have_executed
    assert rig.connection.spoken == {OTHER}
    assert rig.connection.streams == set()
    await rig.settle()

    opened = []

    async def open_() -> None:
        opened.append(await rig.connection.open_stream(ECHO))

    nursery.start_soon(open_)
    (frame,) = await rig.peer.arrived()
    assert frame.body == proposal(ECHO)
    assert opened == [], "it is waited for now"
    await rig.peer.send(data(frame.stream_id, proposal(ECHO), ACK))
    await wait_all_tasks_blocked()
    assert len(opened) == 1


async def test_an_early_reader_has_the_proposal_sent(autojump_clock, start_connection, nursery):
    """A protocol in which the other side speaks first."""
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    received = []

    async def read() -> None:
        received.append(await stream.receive())

    nursery.start_soon(read)
    (frame,) = await rig.peer.arrived()
    assert frame.body == proposal(ECHO)
    await rig.peer.send(data(frame.stream_id, proposal(ECHO) + b"hello", ACK))
    await wait_all_tasks_blocked()
    assert received == [b"hello"]


@pytest.mark.parametrize("answer", [b"\x13/multistream/9.0.0\n", b"\x00", b"\xff\xff\xff", proposal(OTHER)])
async def test_nonsense_for_an_answer_ends_the_stream_alone(autojump_clock, start_connection, nursery, answer):
    rig = await start_connection(spoken=(OTHER,))
    sibling = await rig.connection.open_stream(OTHER)
    await sibling.send(b"x")
    failures = []

    async def open_() -> None:
        with pytest.raises(ConnectionLostError) as caught:
            await rig.connection.open_stream(ECHO)
        failures.append(caught.value)

    nursery.start_soon(open_)
    frame = (await rig.peer.arrived())[-1]
    await rig.peer.send(data(frame.stream_id, answer, ACK))
    assert [each.flags & RST for each in await rig.peer.arrived()] == [RST]
    assert len(failures) == 1
    assert not failures[0].may_have_executed
    await rig.peer.send(data(1, proposal(OTHER) + b"fine", ACK))
    assert await sibling.receive() == b"fine"


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_stream_that_ends_before_the_agreement_sent_nothing_of_the_callers(
    autojump_clock, start_connection, nursery, how
):
    rig = await start_connection()
    failures = []

    async def open_() -> None:
        with pytest.raises(ConnectionLostError) as caught:
            await rig.connection.open_stream(ECHO)
        failures.append(caught.value)

    nursery.start_soon(open_)
    (frame,) = await rig.peer.arrived()
    await rig.peer.send(update(frame.stream_id, 0, ACK | {"end": FIN, "reset": RST}[how]))
    await wait_all_tasks_blocked()
    assert [failure.may_have_executed for failure in failures] == [False]
    assert rig.connection.streams == set()
    assert rig.connection.muxer.yamux.streams == {}


async def test_a_cancelled_open_leaves_the_connection_whole(autojump_clock, start_connection):
    rig = await start_connection(spoken=(OTHER,), limits=YamuxLimits(max_outbound_streams=4))
    for _ in range(20):
        with trio.move_on_after(1) as scope:
            await rig.connection.open_stream(ECHO)
        assert scope.cancelled_caught
        opened, dropped = [frame for frame in await rig.peer.arrived() if frame.stream_id]
        assert (opened.body, dropped.flags & RST, dropped.stream_id) == (proposal(ECHO), RST, opened.stream_id)
        # The answer was on its way.
        await rig.peer.send(data(opened.stream_id, proposal(ECHO), ACK))
    stream = await rig.connection.open_stream(OTHER)
    await stream.send(b"x")
    assert [frame.body for frame in await rig.peer.arrived()] == [proposal(OTHER) + b"x"]
    assert rig.connection.streams == {stream}
    assert not rig.connection.is_closed


async def test_a_stream_that_said_nothing_leaves_nothing(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,), limits=YamuxLimits(max_outbound_streams=2))
    for _ in range(10):
        stream = await rig.connection.open_stream(ECHO)
        await stream.reset()
    assert await rig.peer.arrived() == [], "the peer never heard of them"
    assert rig.connection.streams == set()
    assert rig.connection.muxer.yamux.streams == {}


async def test_streams_of_ours_over_the_limit_are_refused_with_a_remedy(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,), limits=YamuxLimits(max_outbound_streams=3))
    streams = [await rig.connection.open_stream(ECHO) for _ in range(3)]
    with pytest.raises(DialError) as caught:
        await rig.connection.open_stream(ECHO)
    assert caught.value.stage == "limit"
    assert "max_streams" in caught.value.remedy
    assert rig.connection.outbound_streams() == {ECHO: 3}
    await streams[0].reset()
    await rig.connection.open_stream(ECHO)


async def test_no_stream_is_opened_on_a_connection_that_ended(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,))
    await rig.peer.link.close()
    await wait_all_tasks_blocked()
    assert rig.connection.is_closed
    with pytest.raises(ConnectionLostError) as caught:
        await rig.connection.open_stream(ECHO)
    assert not caught.value.may_have_executed
    assert caught.value.retry_safe


async def test_no_stream_is_opened_to_a_peer_that_goes_away(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"x")
    await rig.peer.send(go_away(0))
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectionLostError) as caught:
        await rig.connection.open_stream(ECHO)
    assert not caught.value.may_have_executed
    await rig.peer.send(data(1, proposal(ECHO) + b"still here", ACK))
    assert await stream.receive() == b"still here"


# --- life ---


async def test_the_round_trip_is_measured_from_the_start(autojump_clock, start_connection):
    rig = await start_connection(delay_s=0.04)
    assert rig.connection.rtt_s is None
    asked = await rig.peer.next()
    await rig.peer.send(bytes((0, 2, 0, ACK)) + bytes(4) + asked.length.to_bytes(4, "big"))
    await trio.sleep(0.041)
    assert rig.connection.rtt_s == pytest.approx(0.08)


async def test_a_silent_peer_loses_its_connection(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO,))
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"x")
    await trio.sleep(SILENCE_S + 1)
    rig.connection.tick(trio.current_time())
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    assert rig.connection.is_closed


async def test_only_streams_of_others_make_a_connection_busy(autojump_clock, start_connection):
    rig = await start_connection(spoken=(ECHO, "/ipfs/id/1.0.0"))
    assert rig.connection.is_idle
    await rig.connection.open_stream("/ipfs/id/1.0.0")
    assert rig.connection.is_idle
    stream = await rig.connection.open_stream(ECHO)
    assert not rig.connection.is_idle
    await trio.sleep(5)
    await stream.reset()
    assert rig.connection.is_idle
    assert rig.connection.used_at_s == trio.current_time()
