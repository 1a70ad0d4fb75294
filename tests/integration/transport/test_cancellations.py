"""A thousand cancellations at random points leave the connection working, and no stream behind on either side."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from tests.integration.transport import kit
from tests.integration.transport.kit import MIB
from tests.simulated.transport import peers_on
from tests.support.simulated import simulated

from hostmesh.net.connection import Connection
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream
from hostmesh.testing import LinkProfile, SimOptions

CANCELLATIONS = 1000
AT_ONCE = 20
SLOW_ECHO = "/test/slow-echo/1"
SLOW_SINK = "/test/slow-sink/1"
SEED = 1
WAITING = {"open", "write", "read", "half-close"}
"""What may have to wait; closing never does, but for the pass that every cancellation may come in."""
SETTLE_S = 10.0
"""A margin: neither side waits for anything but the other's last bytes."""


async def slow_echo(stream: Stream) -> None:
    """Echo in small pieces, each after some passes of the scheduler."""
    while data := await stream.receive(3000):
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        await stream.send(data)


async def slow_sink(stream: Stream) -> None:
    while await stream.receive(20_000):
        for _ in range(5):
            await trio.lowlevel.checkpoint()


class Caller:
    """Makes random calls and cancels each at a random point.

    Args:
        client: calls.
        server: is called.
        seed: of the randomness, which decides everything but the order in which trio runs tasks.
        step: a cancellation comes some of these after the call's beginning.
    """

    def __init__(self, client: Node, server: Node, seed: int, step: Callable[[], Awaitable[None]]) -> None:
        self._client, self._server = client, server
        self._random = random.Random(seed)
        self._step = step
        self.cancelled: Counter[str] = Counter()
        self.finished = 0

    async def _call(self, doing: list[str]) -> None:
        """One call. ``doing`` tells what it is at."""
        choice = self._random
        size = choice.choice([0, 1, 1000, 70_000, 2 * MIB])
        protocol = choice.choice([kit.ECHO, SLOW_ECHO, SLOW_SINK, kit.SOURCE, kit.HANG, kit.UNTOLD])
        doing[0] = "open"
        stream = await self._client.open_stream(self._server.peer_id, protocol)
        try:
            async with trio.open_nursery() as nursery:
                data = size.to_bytes(8, "big") if protocol == kit.SOURCE else bytes(size)
                doing[0] = "write"
                nursery.start_soon(partial(stream.send, data, end=choice.random() < 0.5))
                if protocol == kit.HANG or choice.random() < 0.7:
                    doing[0] = "read"
                    left = size + (protocol == kit.HANG)
                    while left > 0 and (piece := await stream.receive(choice.choice([1, 1000, MIB]))):
                        left -= len(piece)
                        if left < size / 2 and choice.random() < 0.02:
                            break
            doing[0] = "half-close"
            await trio.lowlevel.checkpoint()
            await stream.close_write()
            doing[0] = "close"
            await trio.lowlevel.checkpoint()
            await stream.close()
        except BaseException:
            await stream.reset()
            raise

    async def call(self) -> None:
        """Make one call, and cancel it some steps later."""
        steps = self._random.choice([0, 1, 2, 3, 5, 8, 13, 30, 100, 300])
        doing = [""]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                ended = trio.Event()

                async def cancel() -> None:
                    for _ in range(steps):
                        if ended.is_set():
                            return
                        await self._step()
                    scope.cancel()

                nursery.start_soon(cancel)
                await self._call(doing)
                ended.set()
        if scope.cancelled_caught:
            self.cancelled[doing[0]] += 1
        else:
            self.finished += 1

    async def run(self) -> None:
        """Call until there were enough cancellations."""
        while self.cancelled.total() < CANCELLATIONS:
            await self.call()


async def _settled(connections: list[Connection], nodes: list[Node]) -> None:
    """Return once neither side has a stream; nothing tells when that is."""
    with trio.fail_after(SETTLE_S):
        while any(connection.muxer.yamux.streams or connection.streams for connection in connections) or any(  # noqa: ASYNC110
            node.usage().inbound_streams or node.usage().outbound_streams for node in nodes
        ):
            await trio.sleep(0.005)  # in virtual time too, where waiting for idle tasks would stop the clock


async def _cancel_a_thousand(
    client: Node, server: Node, caplog: pytest.LogCaptureFixture, step: Callable[[], Awaitable[None]], points: set[str]
) -> None:
    server.set_stream_handler(SLOW_ECHO, slow_echo)
    server.set_stream_handler(SLOW_SINK, slow_sink)
    ours = await kit.connect(client, server)
    # Identify is over, so that streams of this protocol wait for the server's word.
    server.set_stream_handler(kit.UNTOLD, kit.HANDLERS[kit.ECHO])
    theirs = kit.connection_of(server, client.peer_id)
    caller = Caller(client, server, SEED, step)
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(caller.run)
    print(f"cancelled: {dict(caller.cancelled)}; finished: {caller.finished}")
    assert set(caller.cancelled) >= points
    await kit.echo_works(client, server.peer_id, bytes(3 * MIB))
    await _settled([ours, theirs], [client, server])
    assert kit.connection_of(client, server.peer_id) is ours, "no other connection was made"
    assert kit.connection_of(server, client.peer_id) is theirs
    for node in (client, server):
        usage = node.usage()
        assert (usage.unread_bytes, usage.unsent_bytes, usage.overflowed_streams) == (0, 0, 0)
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("listen", ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"], ids=["tcp", "websocket"])
async def test_a_thousand_cancellations_leave_nothing_behind(start_node, caplog, listen, monkeypatch):
    """Each some passes of the scheduler after its call began."""
    # The keeper looks more often for what it must tidy: it would be all that the test waits for.
    monkeypatch.setattr("hostmesh.net.connection_keeper.TICK_S", 0.1)
    server, client = await start_node(listen_addresses=(listen,)), await start_node()
    with trio.fail_after(55):
        await _cancel_a_thousand(client, server, caplog, trio.lowlevel.checkpoint, {*WAITING, "close"})


@simulated(peers_on, network=SimOptions(link=LinkProfile(latency_s=0.01)))
async def test_a_thousand_cancellations_on_a_slow_and_narrow_line(nodes, narrow, caplog):
    """Here the points lie between the bytes: words that are on their way, half a frame on the line, a full queue."""
    server, client = await nodes.start(), await nodes.start(listen_addresses=())
    await _cancel_a_thousand(client, server, caplog, partial(trio.sleep, 0.003), WAITING)
