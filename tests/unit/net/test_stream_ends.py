"""How a stream ends for all that wait on it. The other end is a peer by hand on a simulated line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from tests.support.wire_peer import line, proposal
from tests.support.yamux_wire import ACK, DATA, FIN, RST, data, update
from tests.unit.net.conftest import Rig
from trio.testing import wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError, HostmeshError, ProtocolNotSupportedError
from hostmesh.net.node_stream import NodeStream
from hostmesh.wire.yamux import YamuxLimits

ECHO = "/test/echo/1"
OTHER = "/test/other/1"
STREAM = 1
LINGER_S = 30.0

Open = Callable[..., Awaitable[tuple[Rig, NodeStream]]]


@pytest.fixture
def open_stream(start_connection) -> Open:
    """Open a stream, the first of its connection; ``is_agreed`` says whether the peer has agreed to its protocol."""

    async def open_(*, is_agreed: bool = True, **settings: object) -> tuple[Rig, NodeStream]:
        rig = await start_connection(spoken=(ECHO, OTHER), **settings)
        return rig, await open_on(rig, STREAM, is_agreed=is_agreed)

    return open_


async def open_on(rig: Rig, stream_id: int, *, is_agreed: bool = True) -> NodeStream:
    stream = await rig.connection.open_stream(ECHO)
    stream.send_prefix()
    if is_agreed:
        await rig.peer.send(data(stream_id, proposal(ECHO), ACK))
    await rig.settle()
    return stream


async def note(outcomes: list[object], wait: Callable[[], Awaitable[object]]) -> None:
    """Note what becomes of a task that waits."""
    try:
        outcomes.append(await wait())
    except HostmeshError as error:
        outcomes.append(error)


# --- this side closes or resets ---


@pytest.mark.parametrize("is_agreed", [True, False], ids=["agreed", "not agreed"])
async def test_closing_wakes_a_task_that_reads(autojump_clock, open_stream, nursery, is_agreed):
    _, stream = await open_stream(is_agreed=is_agreed)
    outcomes: list[object] = []
    nursery.start_soon(note, outcomes, stream.receive)
    await wait_all_tasks_blocked()
    await stream.close()
    await wait_all_tasks_blocked()
    assert [type(outcome) for outcome in outcomes] == [ConnectionLostError]
    assert "closed here" in str(outcomes[0])


async def test_closing_wakes_a_task_that_waits_for_the_agreement(autojump_clock, start_connection, nursery):
    rig = await start_connection()
    stream = rig.connection.start_stream(ECHO)
    outcomes: list[object] = []
    nursery.start_soon(note, outcomes, stream.agreed)
    await wait_all_tasks_blocked()
    await stream.close()
    await wait_all_tasks_blocked()
    assert [type(outcome) for outcome in outcomes] == [ConnectionLostError]


async def test_nothing_is_waited_for_after_closing(autojump_clock, open_stream):
    _, stream = await open_stream()
    await stream.close()
    with trio.fail_after(1), pytest.raises(ConnectionLostError):
        await stream.receive()
    await stream.close()


@pytest.mark.parametrize("order", ["bytes, end, close", "bytes, close, end", "close, bytes, end"])
async def test_who_reads_beside_a_close_does_not_take_what_was_read_for_the_whole(autojump_clock, open_stream, order):
    """Closing drops what is unread; between two receives of another task as well."""
    rig, stream = await open_stream()
    for step in order.split(", "):
        if step == "close":
            await stream.close()
        else:
            await rig.peer.send(data(STREAM, b"lost") if step == "bytes" else update(STREAM, 0, FIN))
            await wait_all_tasks_blocked()
    with trio.fail_after(1), pytest.raises(ConnectionLostError, match="closed here"):
        await stream.receive()


async def test_an_end_that_was_reached_stays_when_the_stream_is_closed(autojump_clock, open_stream):
    rig, stream = await open_stream()
    await rig.peer.send(data(STREAM, b"all of it"), update(STREAM, 0, FIN))
    assert await stream.receive() == b"all of it"
    await stream.close()
    assert await stream.receive() == b""


@pytest.mark.parametrize("how", ["reset", "close", "the peer's reset"])
@pytest.mark.parametrize("sent", ["at the start", "on the way"])
async def test_a_send_that_waits_for_a_full_line_ends_with_its_stream(autojump_clock, open_stream, nursery, how, sent):
    rig, stream = await open_stream()
    sibling = await open_on(rig, 3)
    for stream_id in (STREAM, 3):
        await rig.peer.send(update(stream_id, 1 << 24))
    await rig.settle()
    rig.link.stall(True)
    big = bytes(1 << 20)
    if sent == "at the start":
        other: list[object] = []
        nursery.start_soon(note, other, partial(sibling.send, big))
        await wait_all_tasks_blocked()
    outcomes: list[object] = []
    nursery.start_soon(note, outcomes, partial(stream.send, big))
    await wait_all_tasks_blocked()
    assert outcomes == []
    if how == "the peer's reset":
        await rig.peer.send(update(STREAM, 0, RST))
    else:
        await getattr(stream, how)()
    await wait_all_tasks_blocked()
    assert [type(outcome) for outcome in outcomes] == [ConnectionLostError]
    rig.link.stall(False)
    frames = await rig.peer.arrived()
    sizes = {
        stream_id: sum(each.length for each in frames if each.stream_id == stream_id and each.kind == DATA)
        for stream_id in (STREAM, 3)
    }
    if sent == "at the start":
        assert sizes == {STREAM: 0, 3: len(big)}, "the others go on when there is room"
        assert other == [None]


@pytest.mark.parametrize("how", ["reset", "cancelled send"])
async def test_a_reset_of_this_side_ends_wait_reset(autojump_clock, open_stream, nursery, how):
    _, stream = await open_stream()
    outcomes: list[object] = []
    lost: list[str] = []
    nursery.start_soon(note, outcomes, stream.wait_reset)
    stream.on_lost(partial(lost.append, "lost"))
    await wait_all_tasks_blocked()
    if how == "reset":
        await stream.reset()
    else:
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send(b"x")
    await wait_all_tasks_blocked()
    assert outcomes == [None]
    assert lost == [], "who resets a stream is not told that it is lost"
    with trio.fail_after(1):
        await stream.wait_reset()


async def test_an_end_in_order_does_not_end_wait_reset(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    outcomes: list[object] = []
    nursery.start_soon(note, outcomes, stream.wait_reset)
    await rig.peer.send(update(STREAM, 0, FIN))
    assert await stream.receive() == b""
    await stream.close()
    await trio.sleep(2 * LINGER_S)
    rig.connection.tick(trio.current_time())
    await wait_all_tasks_blocked()
    assert outcomes == []


async def test_a_stream_that_the_peer_never_closes_after_us_ends_wait_reset(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    outcomes: list[object] = []
    nursery.start_soon(note, outcomes, stream.wait_reset)
    await wait_all_tasks_blocked()
    await stream.close()
    await trio.sleep(LINGER_S + 0.1)
    await rig.peer.send(update(STREAM, 1))  # it is not silent
    await wait_all_tasks_blocked()
    assert outcomes == []
    rig.connection.tick(trio.current_time())
    await wait_all_tasks_blocked()
    assert outcomes == [None]


# --- the peer's end, and what follows it ---


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
async def test_an_end_stays_an_end_when_a_reset_follows(autojump_clock, open_stream, is_read):
    """A peer that has said all, and waited long for our end, resets."""
    rig, stream = await open_stream()
    await rig.peer.send(data(STREAM, b"all of it"), update(STREAM, 0, FIN))
    await wait_all_tasks_blocked()
    received = await stream.receive() if is_read else b""
    await trio.sleep(LINGER_S + 1)
    await rig.peer.send(update(STREAM, 0, RST))
    await wait_all_tasks_blocked()
    with trio.fail_after(1):
        await stream.wait_reset()
        assert received or await stream.receive() == b"all of it"
        assert await stream.receive() == b""
        assert await stream.receive() == b""
    with pytest.raises(ConnectionLostError):
        await stream.send(b"too late")


async def test_there_is_no_end_after_a_reset_of_this_side(autojump_clock, open_stream):
    rig, stream = await open_stream()
    await rig.peer.send(data(STREAM, b"what is thrown away"), update(STREAM, 0, FIN))
    await wait_all_tasks_blocked()
    await stream.reset()
    with pytest.raises(ConnectionLostError, match="reset here"):
        await stream.receive()


async def test_there_is_no_end_where_bytes_before_it_were_dropped(autojump_clock, open_stream):
    rig, stream = await open_stream(limits=YamuxLimits(max_unread_bytes=1000))
    await open_on(rig, 3)
    await rig.peer.send(data(STREAM, bytes(900)), update(STREAM, 0, FIN))
    await rig.peer.send(data(3, bytes(200)))
    await wait_all_tasks_blocked()
    assert rig.ledger.overflowed_streams == 1
    with pytest.raises(ConnectionLostError, match="unread"):
        await stream.receive()


@pytest.mark.parametrize(
    "said", [b"", line("/multistream/1.0.0"), proposal(ECHO)[:-1]], ids=["nothing", "half", "most"]
)
@pytest.mark.parametrize("is_waiting", [True, False], ids=["waiting", "later"])
async def test_an_end_before_the_agreement_is_no_answer(autojump_clock, open_stream, nursery, said, is_waiting):
    rig, stream = await open_stream(is_agreed=False)
    outcomes: list[object] = []
    if is_waiting:
        nursery.start_soon(note, outcomes, stream.receive)
        await wait_all_tasks_blocked()
    await rig.peer.send(data(STREAM, said, ACK), update(STREAM, 0, FIN))
    await wait_all_tasks_blocked()
    if not is_waiting:
        await note(outcomes, stream.receive)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLostError]
    assert "agreed" in str(outcomes[0])


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waiting", "later"])
async def test_a_refusal_with_an_end_is_a_refusal(autojump_clock, open_stream, nursery, is_waiting):
    rig, stream = await open_stream(is_agreed=False)
    outcomes: list[object] = []
    if is_waiting:
        nursery.start_soon(note, outcomes, stream.receive)
        await wait_all_tasks_blocked()
    await rig.peer.send(data(STREAM, line("/multistream/1.0.0") + line("na"), ACK), update(STREAM, 0, FIN))
    await wait_all_tasks_blocked()
    if not is_waiting:
        await note(outcomes, stream.receive)
    assert [type(outcome) for outcome in outcomes] == [ProtocolNotSupportedError]


async def test_a_refusal_says_what_the_peer_claimed_to_speak(autojump_clock, open_stream):
    rig, stream = await open_stream(is_agreed=False)
    await rig.peer.send(data(STREAM, line("/multistream/1.0.0") + line("na"), ACK))
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await stream.receive()
    assert (caught.value.needed, caught.value.offered) == (ECHO, (ECHO, OTHER))


@pytest.mark.parametrize("code", [1, 0x80000000, 0xFFFFFFFF], ids=hex)
async def test_a_reset_with_an_error_code_ends_its_stream_alone(autojump_clock, open_stream, code):
    rig, stream = await open_stream()
    sibling = await open_on(rig, 3)
    await rig.peer.send(update(STREAM, code, RST))
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    await rig.peer.send(data(3, b"still here"))
    assert await sibling.receive() == b"still here"
    assert rig.connection.streams == {sibling}


# --- two tasks at once ---


@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "reset"])
async def test_every_use_of_a_lost_stream_raises_an_error_of_its_own(autojump_clock, open_stream, is_refused):
    """An exception keeps the frames that it went through, and what was sent in them."""
    rig, stream = await open_stream(is_agreed=not is_refused)
    refusal = data(STREAM, line("/multistream/1.0.0") + line("na"), ACK)
    await rig.peer.send(refusal if is_refused else update(STREAM, 0, RST))
    await wait_all_tasks_blocked()
    outcomes: list[object] = []
    for use in (stream.receive, partial(stream.send, b"x"), stream.receive_chunk, stream.close_write, stream.receive):
        await note(outcomes, use)
    assert len({id(error) for error in outcomes}) == 5
    for error in outcomes:
        assert isinstance(error, ProtocolNotSupportedError if is_refused else ConnectionLostError)
        assert vars(error) == vars(outcomes[0])
        assert str(error) == str(outcomes[0])
        depth, trace = 0, error.__traceback__
        while trace is not None:
            depth, trace = depth + 1, trace.tb_next
        assert depth < 8, "no frames of another use"


async def test_a_second_task_that_sends_is_a_mistake_that_is_told(autojump_clock, open_stream, nursery):
    rig, stream = await open_stream()
    outcomes: list[object] = []
    first = bytes(range(256)) * 1200
    nursery.start_soon(note, outcomes, partial(stream.send, first))
    sent = b"".join(frame.body for frame in await rig.peer.arrived())
    for use in (partial(stream.send, b"second"), partial(stream.send, b"", end=True), stream.close_write):
        with trio.fail_after(1), pytest.raises(trio.BusyResourceError):
            await use()
    assert outcomes == []
    await rig.peer.send(update(STREAM, len(first)))
    sent += b"".join(frame.body for frame in await rig.peer.arrived())
    assert outcomes == [None]
    assert sent == first, "nothing of the second is among it"
    await stream.send(b"now", end=True)
    assert [frame.body for frame in await rig.peer.arrived()] == [b"now", b""]


async def test_a_send_after_the_own_end_takes_nothing_from_a_stream_that_is_read(autojump_clock, open_stream):
    rig, stream = await open_stream()
    lost: list[str] = []
    stream.on_lost(partial(lost.append, "lost"))
    await stream.close_write()
    with pytest.raises(ConnectionLostError):
        await stream.send(b"x")
    assert rig.connection.streams == {stream}
    assert not rig.connection.is_idle
    await rig.peer.send(data(STREAM, b"answer"))
    assert await stream.receive() == b"answer"
    await rig.peer.send(update(STREAM, 0, RST))
    await wait_all_tasks_blocked()
    assert lost == ["lost"]
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    assert rig.connection.streams == set()
