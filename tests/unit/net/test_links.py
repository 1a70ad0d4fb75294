"""Links: bytes over sockets and trio streams."""

from __future__ import annotations

import socket

import pytest
import trio
from tests.support.links import REMOTE, receive_exactly, socket_pair, stream_pair
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from hostmesh.net.links import LinkBrokenError, SocketLink, StreamLink, link_over
from hostmesh.testing import SimNetwork, run_sim
from hostmesh.testing.congestion import INITIAL_WINDOW_BYTES

BIG = bytes(range(256)) * 4096


@pytest.fixture
def streams():
    return memory_stream_pair()


def lockstep_pair() -> tuple[StreamLink, trio.abc.Stream]:
    ours, theirs = lockstep_stream_pair()
    return StreamLink(ours, REMOTE), theirs


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
async def pair(request: pytest.FixtureRequest):
    """A link and the raw stream at its other end."""
    link, theirs = request.param()
    yield link, theirs
    await link.close()
    await trio.aclose_forcefully(theirs)


async def test_bytes_come_as_they_were_sent_and_the_end_is_empty(pair):
    link, theirs = pair
    assert link.remote == REMOTE
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await theirs.send_all(BIG)
            await theirs.aclose()

        nursery.start_soon(send)
        assert await receive_exactly(link, len(BIG)) == BIG
        assert await link.receive() == b""


async def test_send_waits_until_all_is_taken(pair):
    link, theirs = pair
    received = bytearray()

    async def read() -> None:
        while len(received) < len(BIG):
            received.extend(await theirs.receive_some(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await link.send(memoryview(BIG))
    assert received == BIG


async def test_a_cancelled_receive_loses_nothing(pair):
    link, theirs = pair
    for number in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.receive)
                await wait_all_tasks_blocked()
                scope.cancel()
        await theirs.send_all(b"%d" % number)
        assert await receive_exactly(link, len(b"%d" % number)) == b"%d" % number


async def test_receive_yields_though_bytes_are_there(pair):
    link, theirs = pair
    await theirs.send_all(b"x")
    await wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.receive()
    assert scope.cancelled_caught
    assert await link.receive() == b"x"


async def test_a_link_closed_here_fails_both_ways(pair):
    link, _ = pair
    await link.close()
    await link.close()
    with pytest.raises(LinkBrokenError):
        await link.receive()
    with pytest.raises(LinkBrokenError):
        await link.send(b"x")


async def test_closing_ends_a_receive_that_waits(pair):
    link, _ = pair
    async with trio.open_nursery() as nursery:

        async def expect() -> None:
            with pytest.raises(LinkBrokenError):
                await link.receive()

        nursery.start_soon(expect)
        await wait_all_tasks_blocked()
        await link.close()


@pytest.mark.parametrize("make", [socket_pair, lockstep_pair], ids=["socket", "stream"])
async def test_closing_ends_a_send_that_waits(make):
    link, theirs = make()
    async with trio.open_nursery() as nursery:

        async def expect() -> None:
            with pytest.raises(LinkBrokenError):
                await link.send(bytes(50_000_000))

        nursery.start_soon(expect)
        await wait_all_tasks_blocked()
        await link.close()
    await trio.aclose_forcefully(theirs)


async def test_the_other_end_sees_a_close(pair):
    link, theirs = pair
    await link.close()
    assert await theirs.receive_some() == b""


async def test_sending_to_one_that_is_gone_fails(pair):
    link, theirs = pair
    await trio.aclose_forcefully(theirs)
    with pytest.raises(LinkBrokenError):
        await link.send(bytes(50_000_000))


@pytest.mark.parametrize("make", [socket_pair, stream_pair])
async def test_when_bytes_came_last_is_noted(autojump_clock, make):
    link, theirs = make()
    began = trio.current_time()
    assert link.last_heard_s == began
    await trio.sleep(5)
    await theirs.send_all(b"x")
    await trio.sleep(5)
    await link.receive()
    assert link.last_heard_s == began + 10
    await link.close()
    await trio.aclose_forcefully(theirs)


async def test_a_stream_takes_nothing_without_a_wait(streams):
    ours, theirs = streams
    link = StreamLink(ours, None)
    assert link.send_nowait(b"abc") == 0
    await link.send(b"abc")
    assert await theirs.receive_some() == b"abc"


async def test_a_socket_takes_what_fits_without_a_wait_and_then_nothing():
    link, theirs = socket_pair()
    assert link.send_nowait(b"abc") == 3
    taken = b"abc"
    while sent := link.send_nowait(BIG):
        taken += BIG[:sent]
    assert link.send_nowait(b"more") == 0
    received = bytearray()
    while len(received) < len(taken):
        received += await theirs.receive_some()
    assert received == taken
    assert link.send_nowait(b"again") == 5
    await link.close()
    with pytest.raises(LinkBrokenError):
        link.send_nowait(b"x")
    await theirs.aclose()


async def test_a_socket_reads_more_at_a_time_while_much_comes():
    link, theirs = socket_pair()
    sizes = []

    async def send() -> None:
        for _ in range(20):
            await theirs.send_all(BIG)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await link.receive():
            sizes.append(len(data))
            # So that more is there than one read takes.
            await wait_all_tasks_blocked()
    assert sum(sizes) == 20 * len(BIG)
    assert sizes[0] <= 65536
    assert 65536 < max(sizes) <= 262144
    await link.close()


async def test_link_over_takes_the_socket_out_of_a_socket_stream():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    theirs = await trio.testing.open_stream_to_socket_listener(listeners[0])
    ours = await listeners[0].accept()
    number = ours.socket.fileno()
    link = link_over(ours, REMOTE)
    assert isinstance(link, SocketLink)
    assert ours.socket.fileno() == -1, "one owner"
    await theirs.send_all(b"to us")
    assert await link.receive() == b"to us"
    assert link.send_nowait(b"to them") == 7
    assert await theirs.receive_some() == b"to them"
    await link.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM)
    await theirs.aclose()
    await listeners[0].aclose()


async def test_link_over_wraps_any_other_stream(streams):
    link = link_over(streams[0], None)
    assert isinstance(link, StreamLink)
    assert link.remote is None


def test_a_stream_that_can_send_without_waiting_is_used_like_a_socket():
    async def main(network: SimNetwork) -> None:
        near, far = network.machine("near"), network.machine("far")
        listener = (await far.network.listen("0.0.0.0", 1)).listener
        link = link_over(await near.network.dial(far.address, 1), None)
        theirs = await listener.accept()
        assert link.send_nowait(b"ab", b"cd") == 4
        assert await theirs.receive_some(10) == b"abcd"
        taken = link.send_nowait(bytes(INITIAL_WINDOW_BYTES + 1))
        assert taken == INITIAL_WINDOW_BYTES - len(b"abcd"), "what fits"
        assert link.send_nowait(b"x") == 0
        theirs.reset()
        await trio.sleep(1)
        with pytest.raises(LinkBrokenError):
            link.send_nowait(b"x")

    run_sim(main)
