"""What a connection does when its peer breaks the protocol or its line breaks while bytes of the peer are taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from tests.support.links import REMOTE, SimulatedLink, simulated_link_pair
from tests.support.wire_peer import WirePeer, line, proposal, secure
from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, RST, SYN, Frame, data, update
from tests.unit.net.conftest import Recorder, Rig, make_line
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError, HostmeshError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import Connection
from hostmesh.net.deadlines import Deadlines
from hostmesh.net.ledger import Ledger
from hostmesh.net.links import Link, LinkBrokenError, StreamLink, WebSocketLink
from hostmesh.net.muxer import Muxer
from hostmesh.net.node_stream import NodeStream
from hostmesh.net.stream import Stream
from hostmesh.wire.yamux import MAX_CONTROL_BYTES, YamuxLimits, YamuxStream

ECHO = "/test/echo/1"
OTHER = "/test/other/1"
VIOLATION = b"\x07" * 12
FAREWELL_S = 0.5


async def note(outcomes: list[object], wait: Callable[[], Awaitable[object]]) -> None:
    """Note what becomes of a task that waits."""
    try:
        outcomes.append(await wait())
    except HostmeshError as error:
        outcomes.append(type(error))


async def sent_request(rig: Rig) -> NodeStream:
    """Open stream 1 and send a request with its end, as every call does."""
    stream = await rig.connection.open_stream(ECHO)
    await stream.send(b"request", end=True)
    await rig.peer.send(data(1, proposal(ECHO), ACK))
    await rig.settle()
    return stream


# --- what came before the violation ---


@pytest.mark.parametrize(
    ("frames", "heard"),
    [
        ([update(1, 0, RST)], [ConnectionLostError]),
        ([update(1, 0, FIN)], [b""]),
        ([data(1, b"answer"), update(1, 0, FIN)], [b"answer", b""]),
        ([data(1, b"answer"), update(1, 0, RST)], [b"answer", ConnectionLostError]),
        ([data(1, b"answer")], [b"answer", ConnectionLostError]),
        ([], [ConnectionLostError]),
    ],
    ids=["reset", "end", "answer and end", "answer and reset", "answer", "nothing"],
)
@pytest.mark.parametrize("is_one_piece", [True, False], ids=["one piece", "apart"])
async def test_a_reader_hears_what_came_before_a_violation(
    autojump_clock, start_connection, nursery, frames, heard, is_one_piece
):
    rig = await start_connection(spoken=(ECHO,))
    stream = await sent_request(rig)
    outcomes: list[object] = []

    async def read() -> None:
        for _ in heard:
            await note(outcomes, stream.receive)

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    for each in [b"".join(frames) + VIOLATION] if is_one_piece else [*frames, VIOLATION]:
        await rig.peer.send(each)
    await trio.sleep(60)
    assert outcomes == heard
    assert rig.connection.is_closed
    await stream.reset()
    assert rig.connection.streams == set()
    assert rig.ledger.unread_bytes == 0


async def test_a_reset_that_comes_with_a_violation_is_told_to_all_that_wait(autojump_clock, start_connection, nursery):
    rig = await start_connection(spoken=(ECHO,))
    stream = await sent_request(rig)
    outcomes: list[object] = []
    lost: list[str] = []
    nursery.start_soon(note, outcomes, stream.wait_reset)
    stream.on_lost(partial(lost.append, "lost"))
    await rig.peer.send(update(1, 0, RST), VIOLATION)
    await trio.sleep(60)
    assert outcomes == [None]
    assert lost == ["lost"]


@pytest.mark.parametrize("end", [RST, FIN], ids=["reset", "end"])
async def test_an_opener_hears_that_its_stream_ended_with_a_violation(autojump_clock, start_connection, nursery, end):
    rig = await start_connection()
    failures: list[ConnectionLostError] = []

    async def open_() -> None:
        with pytest.raises(ConnectionLostError) as caught:
            await rig.connection.open_stream(ECHO)
        failures.append(caught.value)

    nursery.start_soon(open_)
    await rig.settle()
    await rig.peer.send(update(1, 0, ACK | end), VIOLATION)
    await trio.sleep(60)
    assert [failure.may_have_executed for failure in failures] == [False]
    assert rig.connection.streams == set()


async def test_the_muxer_tells_in_order_what_came_with_a_violation(autojump_clock, start_muxer):
    rig = await start_muxer()
    ended, lost, other = rig.open(), rig.open(), rig.open()
    for each in (ended, lost, other):
        rig.send(each, b"x")
    await wait_all_tasks_blocked()
    await rig.peer.send(
        data(ended.id, b"answer"),
        update(ended.id, 0, FIN),
        update(lost.id, 7, RST),
        data(2, b"hello", SYN),
        VIOLATION,
    )
    await trio.sleep(1)
    assert rig.is_over
    (inbound,) = rig.accepted
    assert (ended.owner.received, inbound.owner.received) == (b"answer", b"hello")
    assert [word for word in ended.owner.told if word != "window"] == ["end", "connection end"]
    assert [word for word in lost.owner.told if word != "window"] == ["reset"]
    for each in (other, inbound):
        assert each.owner.told[-1] == "connection end"
    assert rig.ledger.unread_bytes == 0


# --- a line that breaks while a piece is taken ---


@pytest.mark.parametrize("first", [proposal(ECHO), proposal(OTHER) + b"x"], ids=["agreed", "refused"])
async def test_a_write_error_while_a_piece_is_taken_ends_the_connection_in_order(
    autojump_clock, start_connection, nursery, caplog, first
):
    """The answer to the first stream finds the line broken, and nobody was told of those behind it."""
    ended = trio.Event()

    async def hang(stream: Stream) -> None:
        try:
            await stream.wait_reset()
        finally:
            ended.set()

    rig = await start_connection(is_initiator=False, protocols={ECHO: hang})
    # One that is served already, and holds bytes.
    await rig.peer.send(data(1, proposal(ECHO), SYN), data(1, bytes(20_000)))
    await rig.settle()
    await trio.sleep(1)  # a quiet connection writes at once

    def broken(*_: bytes) -> int:
        raise LinkBrokenError("the socket says so")

    rig.link.send_nowait = broken
    await rig.peer.send(data(3, first, SYN), data(5, bytes(50_000), SYN), data(7, proposal(ECHO), SYN))
    await trio.sleep(10)
    assert rig.connection.is_closed
    assert ended.is_set()
    assert not rig.ledger._holders
    assert rig.ledger.unread_bytes == 0
    assert rig.ledger.inbound_streams() == {}
    assert rig.connection.streams == set()
    assert not caplog.records


async def test_a_fault_of_ours_leaves_nothing_in_the_nodes_accounts(autojump_clock):
    wire = await make_line()
    ledger = Ledger()

    def accept(stream: YamuxStream) -> None:
        raise RuntimeError("a bug")

    muxer = Muxer(wire.ours, limits=YamuxLimits(), ledger=ledger, accept=accept)
    stream = muxer.yamux.open_stream()
    stream.owner = Recorder()

    async def run_into_it() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxer.run)
            await wire.peer.send(data(stream.id, bytes(5000)))
            await wait_all_tasks_blocked()
            assert ledger.unread_bytes == 5000
            await wire.peer.send(data(2, b"x", SYN), data(4, b"x", SYN))

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug"), flatten_subgroups=True):
        await run_into_it()
    assert not ledger._holders
    assert ledger.unread_bytes == 0
    assert stream.owner.told[-1] == "connection end"


# --- answers that the peer does not read ---


def refused(stream_id: int) -> tuple[bytes, bytes]:
    return data(stream_id, line("/multistream/1.0.0") + line("x") * 16, SYN), update(stream_id, 0, RST)


def agreed(stream_id: int) -> tuple[bytes, bytes]:
    return data(stream_id, proposal(ECHO), SYN), update(stream_id, 0, RST)


def given_up(stream_id: int) -> tuple[bytes, bytes]:
    said = line("/multistream/1.0.0") + line("/unknown/1") + b"\x00 is no line"
    return data(stream_id, said, SYN), update(stream_id, 0, FIN)


def opened_and_closed(stream_id: int) -> tuple[bytes, bytes]:
    return data(stream_id, proposal(ECHO) + b"x", SYN), update(stream_id, 0, FIN)


async def read_to_the_end(stream: Stream) -> None:
    while await stream.receive():
        pass


@pytest.mark.parametrize("said", [refused, agreed, given_up, opened_and_closed])
@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads"])
async def test_answers_that_a_peer_does_not_read_are_bounded(autojump_clock, start_connection, said, reads):
    """Each stream is over before the next ones come, so that no limit of streams holds the peer back."""
    rig = await start_connection(is_initiator=False, protocols={ECHO: read_to_the_end}, buffer_bytes=1 << 16)
    if not reads:
        rig.link.stall(True)
    most = 0
    for start in range(1, 15_000, 400):
        for frames in zip(*map(said, range(start, start + 400, 2)), strict=True):
            try:
                await rig.peer.send(*frames)
            except LinkBrokenError:
                break
            if reads:
                await rig.settle()
            await wait_all_tasks_blocked()
            most = max(most, rig.connection.muxer.unsent_bytes)
        if rig.connection.is_closed:
            break
    assert rig.connection.is_closed is not reads
    assert most < MAX_CONTROL_BYTES + 100_000


# --- the last word ---


async def websocket_pair() -> tuple[Link, Link]:
    ours, theirs = memory_stream_pair()
    server = WebSocketLink(StreamLink(ours, REMOTE), is_client=False)
    client = WebSocketLink(StreamLink(theirs, REMOTE), is_client=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.accept)
        nursery.start_soon(client.open, "host.example")
    return server, client


async def stream_link_pair() -> tuple[Link, Link]:
    ours, theirs = memory_stream_pair()
    return StreamLink(ours, REMOTE), StreamLink(theirs, REMOTE)


async def line_pair() -> tuple[Link, Link]:
    return simulated_link_pair()


async def start(nursery: trio.Nursery, pair: tuple[Link, Link]) -> tuple[Connection, WirePeer]:
    theirs, ours = await secure(*reversed(pair))
    connection = Connection(
        ours, {}, Ledger(), deadlines=Deadlines(), limits=YamuxLimits(), address=None, origin=AddressOrigin.REMOTE
    )

    async def greet(_: Connection) -> None:
        pass

    await nursery.start(connection.run, greet)
    await wait_all_tasks_blocked()
    return connection, WirePeer(theirs)


@pytest.mark.parametrize("make_pair", [line_pair, stream_link_pair, websocket_pair])
async def test_a_violation_is_answered_with_goaway_on_every_link(autojump_clock, nursery, caplog, make_pair):
    connection, peer = await start(nursery, await make_pair())
    await peer.send(VIOLATION)
    with trio.fail_after(1):
        frames = await peer.rest()
    assert (frames[-1].kind, frames[-1].length) == (GO_AWAY, 1)
    assert connection.is_closed
    assert "broke the protocol" in caplog.text


@pytest.mark.parametrize("opens_after_s", [0.2, None])
async def test_goaway_waits_for_a_full_line_half_a_second(autojump_clock, nursery, opens_after_s):
    pair = simulated_link_pair()
    connection, peer = await start(nursery, pair)
    ours: SimulatedLink = pair[0]
    ours.stall(True)
    stream = connection.start_stream(ECHO)
    await stream.send(bytes(5000))
    began = trio.current_time()
    await peer.send(VIOLATION)
    if opens_after_s is not None:
        await trio.sleep(opens_after_s)
        assert not connection.is_closed
        ours.stall(False)
    frames: list[Frame] = await peer.rest()
    if opens_after_s is None:
        assert trio.current_time() - began == pytest.approx(FAREWELL_S)
        assert GO_AWAY not in [frame.kind for frame in frames]
    else:
        assert trio.current_time() - began == pytest.approx(opens_after_s)
        assert [frame.kind for frame in frames[-2:]] == [DATA, GO_AWAY]
    assert connection.is_closed
