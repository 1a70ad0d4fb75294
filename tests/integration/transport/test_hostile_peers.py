"""A peer that keeps to no rule costs its victim a bounded amount of memory, and nobody else an echo.

The victim is a process of its own, whose most resident memory is read from the kernel; the hostile peer and an honest
one are in this process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
from tests.integration.transport import kit
from tests.integration.transport.conftest import PeerProcess
from tests.integration.transport.kit import (
    DATA,
    FIN,
    INITIAL_WINDOW_BYTES,
    MIB,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    RawPeer,
    data_frame,
    frame,
    open_frame,
    raw_peer,
)
from tests.simulated.nodes import Nodes
from tests.simulated.transport import peers_on
from tests.support.simulated import simulated

from hostmesh.net.connection import NEGOTIATION_TIMEOUT_S
from hostmesh.net.links import LinkBrokenError
from hostmesh.net.node import Node
from hostmesh.wire.multistream import proposal
from hostmesh.wire.yamux import Pong, Yamux, YamuxLimits

MAX_STREAMS = 256
CRUMBED_STREAMS = 4
CRUMBS, CRUMB_BYTES = 200, 1300
HALVED_STREAMS = 128
HALVES, HALF_BYTES = 7, 32_700
SLACK_BYTES = 6 * MIB
"""What a process grows by without any attack: buffers of the socket, the allocator, a few hundred streams."""
DEAF_S = 0.5
"""A victim that takes nothing for so long is not going to: its buffers and the kernel's are full."""

Attack = Callable[[RawPeer], Awaitable[None]]


async def pour(peer: RawPeer, *frames: bytes) -> bool:
    """Send; return whether the victim took it, which it may refuse to by closing or by not reading."""
    with suppress(LinkBrokenError), trio.move_on_after(DEAF_S):
        await peer.send(*frames)
        return True
    return False


async def fill_every_window(peer: RawPeer) -> None:
    """Send all that the windows of all streams take, to handlers that read nothing."""
    payload = bytes(65024)
    for stream_id in range(1, 2 * MAX_STREAMS, 2):
        await peer.send(open_frame(stream_id, kit.HANG))
    for _ in range(INITIAL_WINDOW_BYTES // len(payload)):
        for stream_id in range(1, 2 * MAX_STREAMS, 2):
            await peer.send(data_frame(0, stream_id, payload))
    await peer.wait_answered()


async def open_and_say_nothing(peer: RawPeer) -> None:
    """Open as many streams as there may be, and name no protocol; see also the test of how long they are kept."""
    for stream_id in range(1, 2 * MAX_STREAMS, 2):
        await peer.send(frame(WINDOW_UPDATE, SYN, stream_id, 0))
    await peer.wait_answered()


async def flood_with_pings(peer: RawPeer) -> None:
    """Ask for answers, and read none."""
    pings = frame(PING, SYN, 0, 7) * 5000
    for _ in range(2000):
        if not await pour(peer, pings):
            return


async def flood_with_streams(peer: RawPeer) -> None:
    """Open streams without end, and read no refusal."""
    next_id = 1
    for _ in range(1000):
        opened = [open_frame(stream_id, kit.HANG) for stream_id in range(next_id, next_id + 2000, 2)]
        next_id += 2000
        if not await pour(peer, *opened):
            return


async def open_and_reset(peer: RawPeer) -> None:
    """Open streams without end, each with work to do, and reset each at once."""
    for next_id in range(1, 200_000, 1000):
        frames = [
            open_frame(stream_id, kit.ECHO, b"work") + frame(WINDOW_UPDATE, RST, stream_id, 0)
            for stream_id in range(next_id, next_id + 1000, 2)
        ]
        await peer.send(*frames)
    await peer.wait_answered()


async def send_crumbs(peer: RawPeer) -> None:
    """Fill windows of streams that nobody reads with frames of one or two bytes."""
    stream_ids = range(1, 2 * CRUMBED_STREAMS, 2)
    await peer.send(*(open_frame(stream_id, kit.HANG) for stream_id in stream_ids))
    for size in (1, 2):
        for stream_id in stream_ids:
            crumbs = data_frame(0, stream_id, bytes(size)) * 4000
            for _ in range(10):
                await peer.send(crumbs)
    await peer.wait_answered()


async def send_crumbs_in_large_messages(peer: RawPeer) -> None:
    """Let little of each sealed message be unread: what is kept must not keep the rest."""
    stream_ids = range(1, 2 * CRUMBED_STREAMS, 2)
    await peer.send(*(open_frame(stream_id, kit.HANG) for stream_id in stream_ids))
    # What stands around the crumb is for a stream that is over, so that it is dropped.
    await peer.send(frame(WINDOW_UPDATE, SYN | RST, 2 * CRUMBED_STREAMS + 1, 0))
    chaff = data_frame(0, 2 * CRUMBED_STREAMS + 1, bytes(62_000))
    for stream_id in stream_ids:
        for _ in range(CRUMBS):
            await peer.send(data_frame(0, stream_id, bytes(CRUMB_BYTES)) + chaff)
    await peer.wait_answered()


async def let_half_of_each_message_be_unread(peer: RawPeer) -> None:
    """As before, with just so much unread that it is not copied out of its message."""
    stream_ids = range(1, 2 * HALVED_STREAMS, 2)
    await peer.send(*(open_frame(stream_id, kit.HANG) for stream_id in stream_ids))
    over = 2 * HALVED_STREAMS + 1
    await peer.send(frame(WINDOW_UPDATE, SYN | RST, over, 0))
    chaff = data_frame(0, over, bytes(HALF_BYTES - 100))
    for _ in range(HALVES):
        for stream_id in stream_ids:
            await peer.send(data_frame(0, stream_id, bytes(HALF_BYTES)) + chaff)
    await peer.wait_answered()


async def grow_windows_and_fill_them(peer: RawPeer) -> None:
    """Feed some streams until their windows are as large as they get; then fill the windows of all there may be."""
    yamux = Yamux(is_initiator=True)
    streams = [yamux.open_stream() for _ in range(MAX_STREAMS)]
    payload = bytes(65024)
    fed, others = streams[:4], streams[4:]
    for stream in streams:
        yamux.send(stream, proposal(kit.GLUTTON if stream in fed else kit.HANG))
    for targets in (fed, others):
        is_full = False
        while not is_full:
            for stream in targets:
                while not stream.is_over and yamux.send(stream, payload):
                    await peer.send(yamux.data_to_send())
            yamux.ping(1)
            await peer.send(yamux.data_to_send())
            is_answered = False
            while not is_answered:
                is_answered = Pong(1) in yamux.receive(await peer.receive())
            is_full = all(stream.is_over or not stream.send_window for stream in targets)


async def announce_a_huge_frame(peer: RawPeer) -> None:
    await peer.send(open_frame(1, kit.HANG))
    await pour(peer, frame(DATA, 0, 1, 2**32 - 1))
    while await pour(peer, bytes(60000)):
        pass
    await peer.wait_ended()


async def announce_a_huge_frame_of_no_stream(peer: RawPeer) -> None:
    """Of a stream that was refused: its payload is nobody's."""
    await peer.send(*(open_frame(stream_id, kit.HANG) for stream_id in range(1, 2 * MAX_STREAMS + 3, 2)))
    await pour(peer, frame(DATA, 0, 2 * MAX_STREAMS + 1, 2**32 - 1))
    for _ in range(500):
        if not await pour(peer, bytes(60000)):
            return


async def overflow_a_window(peer: RawPeer) -> None:
    await peer.send(open_frame(1, kit.HANG), frame(WINDOW_UPDATE, 0, 1, 2**32 - 1))
    await peer.wait_ended()


async def ask_for_much_and_read_nothing(peer: RawPeer) -> None:
    """Grant every stream all the window there is, and leave the socket full."""
    for stream_id in range(1, 2 * MAX_STREAMS - 10, 2):
        asked = (1 << 40).to_bytes(8, "big")
        await peer.send(open_frame(stream_id, kit.SOURCE, asked), frame(WINDOW_UPDATE, 0, stream_id, 2**31))


async def trickle_a_sealed_message(peer: RawPeer) -> None:
    """Announce the longest sealed message, and send its bytes one by one."""
    await peer.link.send(b"\xff\xff")
    for _ in range(3000):
        await peer.link.send(b"\x00")


ATTACKS: dict[str, tuple[Attack, int]] = {
    "fills every window": (fill_every_window, MAX_STREAMS * INITIAL_WINDOW_BYTES),
    "opens and says nothing": (open_and_say_nothing, 0),
    "floods with pings": (flood_with_pings, 0),
    "floods with streams": (flood_with_streams, 0),
    "opens and resets": (open_and_reset, 0),
    "sends crumbs": (send_crumbs, CRUMBED_STREAMS * 3 * 40_000),
    "sends crumbs in large messages": (send_crumbs_in_large_messages, CRUMBED_STREAMS * CRUMBS * CRUMB_BYTES),
    # A piece that is at least half of what it came with keeps the rest too.
    "lets half of each message be unread": (
        let_half_of_each_message_be_unread,
        2 * HALVED_STREAMS * HALVES * HALF_BYTES,
    ),
    "announces a huge frame": (announce_a_huge_frame, 0),
    "announces a huge frame of no stream": (announce_a_huge_frame_of_no_stream, 0),
    "overflows a window": (overflow_a_window, 0),
    "asks for much and reads nothing": (ask_for_much_and_read_nothing, 0),
    "trickles a sealed message": (trickle_a_sealed_message, 0),
}
"""With the payload that a victim must keep at most, because its own windows allowed it."""


class Honest:
    """A peer that echoes all the while.

    Args:
        node: whose echoes they are.
        peer_id: of the victim.
    """

    def __init__(self, node: Node, peer_id: str) -> None:
        self._node, self._peer_id = node, peer_id
        self._echoed = trio.Event()
        self.echoes = 0

    async def run(self) -> None:
        while True:
            await kit.echo_works(self._node, self._peer_id, bytes(1000))
            self.echoes += 1
            self._echoed.set()
            self._echoed = trio.Event()

    async def wait_echoes(self, count: int) -> None:
        """Return after so many more."""
        wanted = self.echoes + count
        while self.echoes < wanted:
            await self._echoed.wait()


@asynccontextmanager
async def honest_peer(node: Node, victim: PeerProcess) -> AsyncIterator[Honest]:
    await kit.connect_to(node, victim.address)
    honest = Honest(node, victim.peer_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(honest.run)
        yield honest
        nursery.cancel_scope.cancel()


async def _attack(victim: PeerProcess, node: Node, attack: Attack, allowed_bytes: int) -> None:
    async with honest_peer(node, victim) as honest:
        # A first stranger, who does no harm, warms up what every connection needs.
        async with raw_peer(victim.address):
            pass
        await honest.wait_echoes(20)
        before = victim.begin_peak()
        async with raw_peer(victim.address) as peer:
            await attack(peer)
            await honest.wait_echoes(20)
            growth = victim.peak_bytes() - before
        print(f"grown by {growth / MIB:.1f} MiB at most; {honest.echoes} echoes")
        assert growth <= allowed_bytes + SLACK_BYTES


@pytest.mark.parametrize(("attack", "allowed_bytes"), ATTACKS.values(), ids=ATTACKS.keys())
async def test_a_hostile_peer_costs_little_and_disturbs_nobody(start_node, start_peer, attack, allowed_bytes):
    victim = await start_peer()
    with trio.fail_after(40):
        await _attack(victim, await start_node(), attack, allowed_bytes)


@pytest.mark.parametrize("name", ["floods with pings", "asks for much and reads nothing"])
async def test_a_hostile_peer_over_websocket_too(start_node, start_peer, name):
    victim = await start_peer(listen_addresses=["/ip4/127.0.0.1/tcp/0/ws"])
    attack, allowed_bytes = ATTACKS[name]
    with trio.fail_after(40):
        await _attack(victim, await start_node(), attack, allowed_bytes)


async def test_unread_bytes_over_the_limit_of_the_node_cost_those_who_sent_most(start_node, start_peer):
    """Four strangers fill all that a node may hold; an honest peer's stream is not reset for it."""
    limit_bytes = 32 * MIB
    victim = await start_peer(max_unread_bytes=limit_bytes, max_connections=20)
    node = await start_node()
    with trio.fail_after(60):
        async with honest_peer(node, victim) as honest, AsyncExitStack() as strangers:
            await honest.wait_echoes(20)
            before = victim.begin_peak()
            for _ in range(4):
                await fill_every_window(await strangers.enter_async_context(raw_peer(victim.address)))
            await honest.wait_echoes(20)
            usage = await victim.ask("usage")
            growth = victim.peak_bytes() - before
        print(f"grown by {growth / MIB:.1f} MiB at most; {usage['overflowed_streams']} streams were reset")
        assert usage["overflowed_streams"] > 0
        assert limit_bytes / 2 <= usage["unread_bytes"] <= limit_bytes
        assert growth <= limit_bytes + SLACK_BYTES


async def test_what_one_connection_may_leave_unread_has_a_ceiling(start_node, start_peer):
    """Large windows and many streams together are more than a connection may leave unread."""
    limits = YamuxLimits()
    victim = await start_peer()
    with trio.fail_after(50):
        async with honest_peer(await start_node(), victim) as honest:
            await honest.wait_echoes(20)
            before = victim.begin_peak()
            async with raw_peer(victim.address) as peer:
                await grow_windows_and_fill_them(peer)
                await honest.wait_echoes(20)
                usage = await victim.ask("usage")
                growth = victim.peak_bytes() - before
            print(f"grown by {growth / MIB:.1f} MiB for {usage['unread_bytes'] / MIB:.1f} unread")
            assert usage["overflowed_streams"] > 0
            assert limits.max_unread_bytes / 2 <= usage["unread_bytes"] <= limits.max_unread_bytes
            # The windows that were full and read before may have left holes.
            assert growth <= limits.max_unread_bytes + limits.window_growth_bytes + SLACK_BYTES
            # With the connection goes all that it kept.
            while (await victim.ask("usage"))["unread_bytes"]:
                await honest.wait_echoes(1)


@simulated(peers_on)
async def test_streams_that_say_nothing_are_reset(nodes: Nodes):
    server = await nodes.start()
    async with raw_peer(server.peer_addresses()[0], nodes.net.machine("stranger").network) as peer:
        await open_and_say_nothing(peer)
        (connection,) = server._pool
        assert connection.muxer.yamux.inbound_streams == MAX_STREAMS
        began_s = trio.current_time()
        resets = 0
        with trio.fail_after(2 * NEGOTIATION_TIMEOUT_S):
            while resets < MAX_STREAMS:
                for kind, flags, _, _ in await peer.receive_frames():
                    resets += kind == WINDOW_UPDATE and bool(flags & RST)
        assert trio.current_time() - began_s >= NEGOTIATION_TIMEOUT_S
        assert connection.muxer.yamux.inbound_streams == 0


async def test_what_comes_in_one_piece_with_its_reset_harms_no_other_stream(start_node):
    """A caller that gives up at once: the stream, its proposal and its reset arrive together."""
    server = await start_node()
    async with raw_peer(server.peer_addresses()[0]) as peer:
        with trio.fail_after(5):
            await peer.send(open_frame(1, kit.ECHO), frame(WINDOW_UPDATE, RST, 1, 0))
            await peer.send(open_frame(3, kit.UNSERVED), frame(WINDOW_UPDATE, RST, 3, 0))
            await peer.send(data_frame(SYN, 5, b"\x13/multi"), frame(WINDOW_UPDATE, RST, 5, 0))
            await peer.send(open_frame(7, kit.ECHO), frame(WINDOW_UPDATE, FIN, 7, 0), frame(WINDOW_UPDATE, RST, 7, 0))
            await peer.wait_answered()
        (connection,) = server._pool
        assert connection.muxer.yamux.inbound_streams == 0
        assert server.usage().inbound_streams == {}
