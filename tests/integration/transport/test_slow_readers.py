"""A reader that takes its time loses nothing, costs one window of memory, and holds back its own stream alone."""

from __future__ import annotations

import hashlib
from statistics import median

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.integration.transport.kit import MIB
from tests.integration.transport.peer import pattern
from tests.simulated.nodes import Nodes
from tests.simulated.transport import peers_on
from tests.support.simulated import simulated

from hostmesh.net.muxer import CONGESTED_BYTES
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream
from hostmesh.wire.yamux import MAX_FRAME_BYTES, YamuxLimits

DOWNLOAD = "/test/download/1"
DOWNLOAD_BYTES = 64 * MIB
PAUSE_S = 60.0
MAX_WINDOW_BYTES = YamuxLimits().max_window_bytes
MAX_UNSENT_BYTES = 2 * (CONGESTED_BYTES + 4 * MAX_FRAME_BYTES)
"""A queue is full at the first part, one sender may put a piece on top, and as much again waits for the socket."""


def window_of(node: Node) -> int:
    """The largest window that the node's one connection grants a stream."""
    (connection,) = node._pool
    return max(stream.window_bytes for stream in connection.muxer.yamux.streams.values())


@simulated(peers_on)
async def test_a_reader_that_pauses_for_a_minute_loses_nothing(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start(listen_addresses=())
    sent, received = hashlib.sha256(), hashlib.sha256()
    sent_bytes = received_bytes = 0

    async def download(stream: Stream) -> None:
        nonlocal sent_bytes
        for piece in pattern(DOWNLOAD_BYTES):
            await stream.send(piece)
            sent.update(piece)
            sent_bytes += len(piece)

    server.set_stream_handler(DOWNLOAD, download)
    await kit.connect(client, server)
    stream = await client.open_stream(server.peer_id, DOWNLOAD)
    pauses_at = [1, DOWNLOAD_BYTES // 2, DOWNLOAD_BYTES - 6 * MIB]
    while piece := await stream.receive():
        received.update(piece)
        received_bytes += len(piece)
        assert client.usage().unread_bytes <= MAX_WINDOW_BYTES
        assert server.usage().unsent_bytes <= MAX_UNSENT_BYTES
        if pauses_at and received_bytes >= pauses_at[0]:
            pauses_at.pop(0)
            await trio.sleep(PAUSE_S / 2)
            before = sent_bytes
            await trio.sleep(PAUSE_S / 2)
            assert sent_bytes == before, "the sender is held back"
            assert 0 < client.usage().unread_bytes <= window_of(client)
            await kit.echo_works(client, server.peer_id, bytes(2 * MIB))
    await stream.close()
    assert not pauses_at
    assert received_bytes == sent_bytes == DOWNLOAD_BYTES
    assert received.digest() == sent.digest()
    await trio.testing.wait_all_tasks_blocked()
    assert client.usage().unread_bytes == 0
    assert server.usage().unsent_bytes == 0


@pytest.mark.parametrize("slow_side", ["client", "server"])
async def test_a_slow_reader_holds_back_its_own_stream_and_no_other(start_node, slow_side):
    """Measured in bytes: while one stream stands still, all others move what they have to."""
    client, server = await start_node(), await start_node()
    received: dict[int, int] = {}
    stood_still = trio.Event()

    async def sink(stream: Stream) -> None:
        number = int.from_bytes(await kit.receive_exactly(stream, 1), "big")
        received[number] = 0
        if number == 0 and slow_side == "server":
            await stood_still.wait()
        while piece := await stream.receive():
            received[number] += len(piece)
        await stream.send(received[number].to_bytes(8, "big"))

    server.set_stream_handler("/test/sink/1", sink)
    connection = await kit.connect(client, server)
    total = 8 * MIB
    sent = [0] * 5

    async def upload(number: int) -> None:
        stream = await client.open_stream(server.peer_id, "/test/sink/1")
        await stream.send(bytes([number]))
        while sent[number] < total:
            await stream.send(bytes(65536))
            sent[number] += 65536
        await stream.close_write()
        assert int.from_bytes(await kit.receive_exactly(stream, 8), "big") == total

    async def download(number: int) -> None:
        stream = await client.open_stream(server.peer_id, kit.SOURCE)
        await stream.send(total.to_bytes(8, "big"), end=True)
        received[number] = len(await stream.receive(1))
        if number == 0:
            await stood_still.wait()
        while piece := await stream.receive():
            received[number] += len(piece)

    work = upload if slow_side == "server" else download
    with trio.fail_after(30):
        async with trio.open_nursery() as slow:
            slow.start_soon(work, 0)
            async with trio.open_nursery() as others:
                for number in range(1, 5):
                    others.start_soon(work, number)
            assert [received[number] for number in range(1, 5)] == [total] * 4
            assert received[0] <= 1
            if slow_side == "server":
                assert sent[0] <= MAX_WINDOW_BYTES
            for node in (client, server):
                assert node.usage().unread_bytes <= kit.INITIAL_WINDOW_BYTES
            stood_still.set()
    assert received[0] == total
    assert not connection.is_closed


@pytest.mark.interop
@pytest.mark.timeout(240)
async def test_a_minute_of_pause_between_two_processes(start_peer):
    """Of the marked tests because it takes more than a minute."""
    server, client = await start_peer(), await start_peer()
    await client.ask("connect", address=server.address)
    with trio.fail_after(200):
        # As much again without a pause, so that allocators and windows have what they will have.
        await client.ask("download", size=DOWNLOAD_BYTES, pause_at=2 * DOWNLOAD_BYTES)
        before = await client.ask("echo_rates", rounds=5, seconds=1.0)
        memory_before = [peer.begin_peak() for peer in (server, client)]
        during: list[int] = []
        async with trio.open_nursery() as nursery:

            async def download() -> None:
                outcome.update(
                    await client.ask("download", within_s=120.0, size=DOWNLOAD_BYTES, pause_at=DOWNLOAD_BYTES // 2)
                )

            outcome: dict[str, object] = {}
            nursery.start_soon(download)
            await client.ask("wait_paused")
            paused_s = trio.current_time()
            while trio.current_time() - paused_s < PAUSE_S:
                usage = await client.ask("usage")
                assert 0 < usage["unread_bytes"] <= usage["window_bytes"] <= MAX_WINDOW_BYTES
                assert (await server.ask("usage"))["unsent_bytes"] <= MAX_UNSENT_BYTES
                during += (await client.ask("echo_rates", rounds=5, seconds=1.0))["counts"]
            await client.ask("go_on")
        sent = (await server.ask("usage"))["sent_digests"]
    assert outcome["bytes"] == DOWNLOAD_BYTES
    assert outcome["sha256"] == sent[-1]
    growth = [(peer.peak_bytes() - then) / MIB for peer, then in zip((server, client), memory_before, strict=True)]
    print(f"echoes a second: {median(before['counts'])} before, {median(during)} in the pause; grown by {growth} MiB")
    assert max(growth) <= 12, "a window of 4 MiB, what is on its way, and slack of the allocator"
    assert median(during) >= 0.5 * median(before["counts"])
