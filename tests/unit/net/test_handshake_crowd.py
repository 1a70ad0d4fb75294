"""Strangers that connect and say nothing: how many are held, and who makes room for whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from hostmesh.net.links import Link
from hostmesh.net.listening import HANDSHAKE_TIMEOUT_S, MAX_HANDSHAKES, Listening
from hostmesh.net.network import BoundListener
from hostmesh.net.upgrade import SecuredLink


class Strangers(trio.abc.Listener[trio.abc.Stream]):
    """A network whose one listener accepts what a test puts into it."""

    def __init__(self) -> None:
        self._put, self._accepted = trio.open_memory_channel[trio.abc.Stream](10_000)
        self._remotes: dict[trio.abc.Stream, tuple[str, int]] = {}

    async def listen(self, host: str, port: int) -> BoundListener:
        return BoundListener(listener=self, host=host, port=port)

    async def accept(self) -> trio.abc.Stream:
        return await self._accepted.receive()

    async def aclose(self) -> None:
        self._accepted.close()

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int]:
        return self._remotes[stream]

    def local_host(self, stream: trio.abc.Stream) -> None:
        return None

    def connect(self, ip: str) -> trio.abc.Stream:
        """Return a stranger's end of a new connection from this address."""
        ours, theirs = memory_stream_pair()
        self._remotes[ours] = (ip, 5000)
        self._put.send_nowait(ours)
        return theirs


class Upgrade:
    """Handshakes that end when a test says so."""

    def __init__(self) -> None:
        self.proven: dict[Link, trio.Event] = {}
        """Those under way, oldest first."""
        self.adopted: list[Link] = []

    async def inbound(self, link: Link) -> Link:
        self.proven[link] = trio.Event()
        try:
            await self.proven[link].wait()
        finally:
            del self.proven[link]
        return link

    async def adopt(self, link: Link) -> None:
        self.adopted.append(link)


async def is_held(stream: trio.abc.Stream) -> bool:
    """Whether the other side has not closed a stream."""
    with trio.move_on_after(1e-6) as scope:
        return await stream.receive_some(1) != b""
    return scope.cancelled_caught


Listen = Callable[..., Awaitable[tuple[Strangers, Upgrade]]]


@pytest.fixture
def listen(nursery: trio.Nursery) -> Listen:
    """Listen; ``has_room_for`` is asked for every stranger."""

    async def listen_(has_room_for: Callable[[object], bool] = lambda _: True) -> tuple[Strangers, Upgrade]:
        strangers, upgrade = Strangers(), Upgrade()
        adopt: Callable[[SecuredLink], Awaitable[None]] = upgrade.adopt  # type: ignore[assignment] # never looked into
        listening = Listening(strangers, upgrade, adopt, has_room_for)  # type: ignore[arg-type] # what it uses of them
        await listening.bind(["/ip4/192.0.2.1/tcp/4001"])
        nursery.start_soon(listening.run)
        return strangers, upgrade

    return listen_


@pytest.mark.parametrize("burst", [1, 7, 50, 300])
async def test_no_more_handshakes_are_held_than_the_limit_however_fast_they_come(autojump_clock, listen, burst):
    strangers, upgrade = await listen()
    streams = []
    for start in range(0, 300, burst):
        streams += [strangers.connect("198.51.100.7") for _ in range(start, min(start + burst, 300))]
        await wait_all_tasks_blocked()
        assert len(upgrade.proven) == min(len(streams), MAX_HANDSHAKES)
    assert sum([await is_held(stream) for stream in streams]) == MAX_HANDSHAKES
    await trio.sleep(HANDSHAKE_TIMEOUT_S)
    await wait_all_tasks_blocked()
    assert sum([await is_held(stream) for stream in streams]) == 0


async def test_the_oldest_makes_room(autojump_clock, listen):
    strangers, _ = await listen()
    streams = []
    for _ in range(2 * MAX_HANDSHAKES):
        streams.append(strangers.connect("198.51.100.7"))
        await wait_all_tasks_blocked()
    assert [await is_held(stream) for stream in streams] == [False] * MAX_HANDSHAKES + [True] * MAX_HANDSHAKES


async def test_a_crowd_of_one_network_keeps_nobody_else_out(autojump_clock, listen):
    strangers, upgrade = await listen()
    others = [strangers.connect(f"203.0.{number}.1") for number in range(30)]
    await wait_all_tasks_blocked()
    crowd = [strangers.connect(f"198.51.100.{number % 250}") for number in range(500)]
    await wait_all_tasks_blocked()
    assert [await is_held(stream) for stream in others] == [True] * 30
    assert sum([await is_held(stream) for stream in crowd]) == MAX_HANDSHAKES - 30
    late = strangers.connect("203.0.113.5")
    await wait_all_tasks_blocked()
    assert await is_held(late)
    assert sum([await is_held(stream) for stream in crowd]) == MAX_HANDSHAKES - 31
    for proven in list(upgrade.proven.values()):
        proven.set()
    await wait_all_tasks_blocked()
    assert len(upgrade.adopted) == MAX_HANDSHAKES


async def test_a_stranger_whose_handshake_ends_as_it_makes_room_is_taken_in(autojump_clock, listen, caplog):
    """Its task is on the way already, and no cancellation reaches it."""
    upgrade: Upgrade | None = None
    is_last = False

    def has_room_for(_: object) -> bool:
        if is_last:
            assert upgrade is not None
            next(iter(upgrade.proven.values())).set()
        return True

    strangers, upgrade = await listen(has_room_for)
    streams = []
    for _ in range(MAX_HANDSHAKES):
        streams.append(strangers.connect("198.51.100.7"))
        await wait_all_tasks_blocked()
    is_last = True
    streams.append(strangers.connect("198.51.100.7"))
    await wait_all_tasks_blocked()
    assert len(upgrade.adopted) == 1
    assert [await is_held(stream) for stream in streams] == [True] * (MAX_HANDSHAKES + 1)
    assert not caplog.records
