"""Streams that a peer opens on one connection: how they find their handler, and limits."""

from __future__ import annotations

import pytest
import trio
from tests.support.wire_peer import line, proposal
from tests.support.yamux_wire import ACK, DATA, FIN, RST, SYN, data, update
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.connection import NEGOTIATION_TIMEOUT_S
from hostmesh.net.ledger import Ledger
from hostmesh.net.stream import Stream
from hostmesh.wire.yamux import YamuxLimits

ECHO = "/test/echo/1"
OTHER = "/test/other/1"
LINGER_S = 30.0


async def echo(stream: Stream) -> None:
    while received := await stream.receive():
        await stream.send(received)


async def never_read(stream: Stream) -> None:
    await trio.sleep_forever()


async def test_a_dialer_that_waits_gets_the_answer_at_once(autojump_clock, start_connection):
    rig = await start_connection(is_initiator=False, protocols={ECHO: never_read})
    await rig.peer.send(data(1, proposal(ECHO), SYN))
    (answer,) = await rig.peer.arrived()
    assert (answer.kind, answer.flags, answer.body) == (DATA, ACK, proposal(ECHO))


async def test_a_dialer_that_sent_its_payload_gets_the_answer_with_the_first_response(autojump_clock, start_connection):
    respond = trio.Event()

    async def respond_later(stream: Stream) -> None:
        assert await stream.receive() == b"hello"
        await respond.wait()
        await stream.send(b"response")
        await stream.send(b", more")

    rig = await start_connection(is_initiator=False, protocols={ECHO: respond_later})
    await rig.peer.send(data(1, proposal(ECHO) + b"hello", SYN))
    assert await rig.peer.arrived() == []
    respond.set()
    frames = await rig.peer.arrived()
    assert frames[0].flags == ACK
    assert frames[0].body.startswith(proposal(ECHO) + b"response")
    assert b"".join(frame.body for frame in frames) == proposal(ECHO) + b"response, more"


async def test_a_handler_that_only_reads_still_gives_the_answer(autojump_clock, start_connection):
    received = []

    async def read(stream: Stream) -> None:
        while piece := await stream.receive():
            received.append(piece)

    rig = await start_connection(is_initiator=False, protocols={ECHO: read})
    await rig.peer.send(data(1, proposal(ECHO) + b"one", SYN))
    frames = await rig.peer.arrived()
    assert [frame.body for frame in frames] == [proposal(ECHO)], "given when it waits for more"
    await rig.peer.send(data(1, b"two"), update(1, 0, FIN))
    frames = await rig.peer.arrived()
    assert received == [b"one", b"two"]
    assert [(frame.body, frame.flags) for frame in frames] == [(b"", FIN)]
    assert rig.connection.muxer.yamux.streams == {}


async def test_a_handler_that_does_nothing_gives_the_answer_when_it_closes(autojump_clock, start_connection):
    async def nothing(stream: Stream) -> None:
        pass

    rig = await start_connection(is_initiator=False, protocols={ECHO: nothing})
    await rig.peer.send(data(1, proposal(ECHO) + b"hello", SYN))
    frames = await rig.peer.arrived()
    assert b"".join(frame.body for frame in frames) == proposal(ECHO)
    assert frames[-1].flags & FIN


@pytest.mark.parametrize("pieces", [1, 3, 100])
async def test_a_proposal_may_come_in_pieces(autojump_clock, start_connection, pieces):
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo})
    said = proposal(ECHO) + b"hello"
    size = -(-len(said) // pieces)
    await rig.peer.send(update(1, 0, SYN))
    for at in range(0, len(said), size):
        await rig.peer.send(data(1, said[at : at + size]))
        await wait_all_tasks_blocked()
    frames = await rig.peer.arrived()
    assert b"".join(frame.body for frame in frames) == proposal(ECHO) + b"hello"


async def test_a_dialer_may_ask_for_one_protocol_after_another(autojump_clock, start_connection):
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo})
    await rig.peer.send(data(1, line("/multistream/1.0.0") + line("/unknown/1"), SYN))
    (answer,) = await rig.peer.arrived()
    assert answer.body == line("/multistream/1.0.0") + line("na")
    await rig.peer.send(data(1, line(ECHO)))
    (answer,) = await rig.peer.arrived()
    assert answer.body == line(ECHO)


async def test_a_handler_that_fails_resets_its_stream_alone(autojump_clock, start_connection, caplog):
    async def fail(stream: Stream) -> None:
        await stream.receive()
        raise RuntimeError("a bug")

    rig = await start_connection(is_initiator=False, protocols={ECHO: echo, OTHER: fail})
    await rig.peer.send(data(1, proposal(ECHO) + b"a", SYN), data(3, proposal(OTHER) + b"x", SYN))
    frames = await rig.peer.arrived()
    assert [frame.flags & RST for frame in frames if frame.stream_id == 3][-1] == RST
    await rig.peer.send(data(1, b"b"))
    assert [frame.body for frame in await rig.peer.arrived()] == [b"b"]
    assert "a handler of /test/other/1 failed" in caplog.text


async def test_a_proposal_that_comes_with_its_reset_is_nothing(autojump_clock, start_connection, caplog):
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo})
    for number, said in enumerate([proposal(ECHO), proposal(ECHO) + b"x", line("/multistream/1.0.0"), b"\x00"]):
        await rig.peer.send(data(2 * number + 1, said, SYN), update(2 * number + 1, 0, RST))
    assert await rig.peer.arrived() == []
    await rig.peer.send(data(101, proposal(ECHO) + b"fine", SYN))
    assert b"".join(frame.body for frame in await rig.peer.arrived()) == proposal(ECHO) + b"fine"
    assert not caplog.records


@pytest.mark.parametrize(
    "refused", [b"\x00", line("/multistream/1.0.0") + b"\x00", line("/multistream/1.0.0") + line("/x") + b"\x00"]
)
async def test_what_comes_in_one_piece_with_refused_nonsense_is_dropped(
    autojump_clock, start_connection, caplog, refused
):
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo})
    await rig.peer.send(data(1, refused, SYN), data(1, line(ECHO)), data(1, line("/y")), data(1, b"\x00"))
    await rig.peer.send(data(3, proposal(ECHO) + b"fine", SYN))
    frames = await rig.peer.arrived()
    assert b"".join(frame.body for frame in frames if frame.stream_id == 3) == proposal(ECHO) + b"fine"
    assert not caplog.records
    assert rig.connection.muxer.yamux.unread_bytes == 0


async def test_a_stream_that_names_no_protocol_is_reset_in_time(autojump_clock, start_connection):
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo})
    await rig.peer.send(update(1, 0, SYN), data(3, line("/multistream/1.0.0"), SYN))
    await trio.sleep(NEGOTIATION_TIMEOUT_S)
    rig.connection.tick(trio.current_time())
    assert [frame for frame in await rig.peer.arrived() if frame.flags & RST] == []
    await trio.sleep(0.1)
    rig.connection.tick(trio.current_time())
    assert {frame.stream_id for frame in await rig.peer.arrived() if frame.flags & RST} == {1, 3}
    assert rig.connection.muxer.yamux.streams == {}


async def test_a_stream_that_the_peer_never_closes_after_us_is_reset_in_time(autojump_clock, start_connection):
    async def leave(stream: Stream) -> None:
        await stream.receive()

    rig = await start_connection(is_initiator=False, protocols={ECHO: leave})
    await rig.peer.send(data(1, proposal(ECHO) + b"x", SYN))
    assert [frame.flags & FIN for frame in await rig.peer.arrived()][-1] == FIN
    assert rig.connection.streams == set()
    await rig.peer.send(data(1, b"what nobody reads"))
    await wait_all_tasks_blocked()
    assert rig.connection.muxer.yamux.unread_bytes == 0
    await trio.sleep(LINGER_S)
    rig.connection.tick(trio.current_time())
    assert rig.connection.muxer.yamux.inbound_streams == 1
    await trio.sleep(0.1)
    rig.connection.tick(trio.current_time())
    assert rig.connection.muxer.yamux.inbound_streams == 0
    assert [frame.stream_id for frame in await rig.peer.arrived() if frame.flags & RST] == [1]


# --- limits ---


async def test_streams_of_one_peer_with_one_protocol_are_limited_and_counted(autojump_clock, start_connection):
    ledger = Ledger(max_streams_per_protocol=2)
    rig = await start_connection(is_initiator=False, protocols={ECHO: echo, OTHER: echo}, ledger=ledger)
    for number, protocol_id in ((1, ECHO), (3, ECHO), (5, ECHO), (7, OTHER)):
        await rig.peer.send(data(number, proposal(protocol_id) + b"x", SYN))
    frames = await rig.peer.arrived()
    assert {frame.stream_id for frame in frames if frame.flags & RST} == {5}
    assert ledger.inbound_streams() == {ECHO: 2, OTHER: 1}
    assert ledger.refused_streams == 1
    await rig.peer.send(update(1, 0, RST))
    await wait_all_tasks_blocked()  # the handler leaves
    await rig.peer.send(data(9, proposal(ECHO) + b"x", SYN))
    frames = await rig.peer.arrived()
    assert b"".join(frame.body for frame in frames if frame.stream_id == 9) == proposal(ECHO) + b"x"
    assert ledger.refused_streams == 1


async def test_streams_of_the_peer_over_the_connections_limit_are_refused(autojump_clock, start_connection):
    rig = await start_connection(
        is_initiator=False, protocols={ECHO: never_read}, limits=YamuxLimits(max_inbound_streams=2)
    )
    for number in (1, 3, 5):
        await rig.peer.send(data(number, proposal(ECHO) + b"x", SYN))
    assert [(frame.stream_id, frame.flags) for frame in await rig.peer.arrived()] == [(5, RST)]
    assert rig.ledger.refused_streams == 1
    assert rig.ledger.inbound_streams() == {ECHO: 2}


async def test_the_end_of_a_connection_gives_all_places_back(autojump_clock, start_connection):
    rig = await start_connection(is_initiator=False, protocols={ECHO: never_read})
    for number in (1, 3, 5):
        await rig.peer.send(data(number, proposal(ECHO) + bytes(1000), SYN))
    await wait_all_tasks_blocked()
    assert rig.ledger.inbound_streams() == {ECHO: 3}
    assert rig.ledger.unread_bytes == 3000
    await rig.peer.link.close()
    await wait_all_tasks_blocked()
    assert rig.ledger.inbound_streams() == {}
    assert rig.ledger.unread_bytes == 0
    assert rig.connection.streams == set()
