"""One side of a connection under test, on a simulated line; at the other end a peer by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
from tests.support.links import SimulatedLink, simulated_link_pair
from tests.support.wire_peer import WirePeer, secure
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import HOUSEKEEPING, Connection
from hostmesh.net.deadlines import Deadlines
from hostmesh.net.ledger import Ledger
from hostmesh.net.muxer import Muxer
from hostmesh.net.stream import StreamHandler
from hostmesh.net.upgrade import SecuredLink
from hostmesh.wire.yamux import YamuxLimits, YamuxStream


@dataclass
class Line:
    """A secured line before anything runs on it."""

    ours: SecuredLink
    peer: WirePeer
    link: SimulatedLink
    """Ours: its ``writes`` are what a socket would have been given."""


async def make_line(*, is_initiator: bool = True, delay_s: float = 0.0, buffer_bytes: int = 1 << 20) -> Line:
    """Shake hands over a simulated line.

    Args:
        is_initiator: whether the side under test dials.
        delay_s: one way.
        buffer_bytes: that the line holds in each direction.
    """
    link, other = simulated_link_pair(delay_s=delay_s, buffer_bytes=buffer_bytes)
    if is_initiator:
        ours, theirs = await secure(link, other)
    else:
        theirs, ours = await secure(other, link)
    link.writes.clear()
    return Line(ours, WirePeer(theirs), link)


@dataclass
class Rig:
    """A running connection and the peer's end of it."""

    connection: Connection
    peer: WirePeer
    link: SimulatedLink
    ledger: Ledger

    async def settle(self) -> None:
        """Let everything happen that needs no time, and forget what came and was written."""
        await self.peer.arrived()
        self.link.writes.clear()


class Recorder:
    """Notes what the muxer tells of a stream."""

    def __init__(self) -> None:
        self.received = b""
        self.told: list[str] = []

    def take_data(self, data: bytes) -> None:
        self.received += data

    def take_end(self) -> None:
        self.told.append("end")

    def take_reset(self, *, is_overflow: bool) -> None:
        self.told.append("overflow" if is_overflow else "reset")

    def take_window(self) -> None:
        self.told.append("window")

    def take_connection_end(self) -> None:
        self.told.append("connection end")


class MuxerRig:
    """A muxer, the peer's end of its line, and the streams that the peer opened."""

    def __init__(self, line: Line, muxer: Muxer, accepted: list[YamuxStream], ledger: Ledger) -> None:
        self.link, self.peer, self.muxer, self.ledger = line.link, line.peer, muxer, ledger
        self.accepted = accepted
        self.is_over = False

    def open(self) -> YamuxStream:
        stream = self.muxer.yamux.open_stream()
        stream.owner = Recorder()
        return stream

    def send(self, stream: YamuxStream, payload: bytes) -> None:
        assert self.muxer.yamux.send(stream, payload) == len(payload)
        self.muxer.flush_soon()

    async def run(self) -> None:
        await self.muxer.run()
        self.is_over = True


@pytest.fixture
def start_muxer(nursery: trio.Nursery):
    """Start a muxer; keyword arguments are those of make_line, ``limits`` and ``ledger``."""

    async def start_(*, limits: YamuxLimits | None = None, ledger: Ledger | None = None, **line_settings) -> MuxerRig:
        line = await make_line(**line_settings)
        accepted: list[YamuxStream] = []

        def accept(stream: YamuxStream) -> None:
            stream.owner = Recorder()
            accepted.append(stream)

        ledger = ledger or Ledger()
        muxer = Muxer(line.ours, limits=limits or YamuxLimits(), ledger=ledger, accept=accept)
        rig = MuxerRig(line, muxer, accepted, ledger)
        nursery.start_soon(rig.run)
        await wait_all_tasks_blocked()
        return rig

    return start_


StartConnection = Callable[..., Awaitable[Rig]]


@pytest.fixture
def start_connection(nursery: trio.Nursery) -> StartConnection:
    """Start a connection whose first ping has come to the peer, unanswered.

    Keyword arguments: those of :func:`make_line`, ``protocols``, ``spoken``, ``background``, ``limits`` and ``ledger``.
    """

    async def start(
        *,
        is_initiator: bool = True,
        protocols: dict[str, StreamHandler] | None = None,
        spoken: tuple[str, ...] = (),
        limits: YamuxLimits | None = None,
        ledger: Ledger | None = None,
        delay_s: float = 0.0,
        buffer_bytes: int = 1 << 20,
        background: tuple[str, ...] = (),
    ) -> Rig:
        line = await make_line(is_initiator=is_initiator, delay_s=delay_s, buffer_bytes=buffer_bytes)
        ledger = ledger or Ledger()
        deadlines = Deadlines()
        connection = Connection(
            line.ours,
            {} if protocols is None else protocols,
            ledger,
            deadlines=deadlines,
            limits=limits or YamuxLimits(),
            address="/ip4/192.0.2.7/tcp/4001" if is_initiator else None,
            origin=AddressOrigin.CONFIGURED,
            background=HOUSEKEEPING.union(background),
        )

        async def greet(_: Connection) -> None:
            connection.spoken = frozenset(spoken)

        nursery.start_soon(deadlines.run)
        await nursery.start(connection.run, greet)
        rig = Rig(connection, line.peer, line.link, ledger)
        if not delay_s:
            await rig.settle()
        else:
            await wait_all_tasks_blocked()
        return rig

    return start
