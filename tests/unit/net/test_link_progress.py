"""When a link's bytes were taken last: what tells a slow reader from one that reads nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from tests.support.links import REMOTE, socket_pair
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from hostmesh.net.links import Link, StreamLink, WebSocketLink

BIG = bytes(8 * 1024 * 1024)

Pair = Callable[[], tuple[Link, trio.abc.Stream]]


def lockstep_pair() -> tuple[Link, trio.abc.Stream]:
    """Return a link over a stream that takes nothing before it is read."""
    ours, theirs = lockstep_stream_pair()
    return StreamLink(ours, REMOTE), theirs


async def read(stream: trio.abc.Stream, size: int) -> None:
    while size > 0:
        size -= len(await stream.receive_some(size))
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("make_pair", [socket_pair, lockstep_pair])
async def test_progress_of_a_large_send_is_told(mock_clock: MockClock, make_pair: Pair):
    link, theirs = make_pair()
    assert link.last_sent_s == trio.current_time()
    async with trio.open_nursery() as sending:
        sending.start_soon(link.send, BIG[: len(BIG) // 2], BIG[len(BIG) // 2 :])
        await wait_all_tasks_blocked()
        for _ in range(3):
            mock_clock.jump(100)
            await wait_all_tasks_blocked()
            assert trio.current_time() - link.last_sent_s == 100, "nothing was read, nothing is taken"
            await read(theirs, 1024 * 1024)
            assert link.last_sent_s == trio.current_time()
        sending.cancel_scope.cancel()
    await link.close()
    await trio.aclose_forcefully(theirs)


async def test_progress_of_a_websocket_is_that_of_the_link_below(mock_clock: MockClock):
    link, theirs = lockstep_pair()
    websocket = WebSocketLink(link, is_client=True)
    async with trio.open_nursery() as opening:
        opening.start_soon(websocket.open, "host.example")
        await wait_all_tasks_blocked()
        mock_clock.jump(100)
        assert trio.current_time() - websocket.last_sent_s == 100
        await theirs.receive_some(65536)
        await wait_all_tasks_blocked()
        assert websocket.last_sent_s == trio.current_time()
        opening.cancel_scope.cancel()
    await websocket.close()
    await trio.aclose_forcefully(theirs)


async def test_a_full_socket_makes_no_progress(mock_clock: MockClock):
    link, theirs = socket_pair()
    mock_clock.jump(100)
    assert link.send_nowait(b"x") == 1
    assert link.last_sent_s == trio.current_time()
    while link.send_nowait(BIG):
        pass
    mock_clock.jump(100)
    assert link.send_nowait(b"x") == 0
    assert trio.current_time() - link.last_sent_s == 100
    await link.close()
    await theirs.aclose()
