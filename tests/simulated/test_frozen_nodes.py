"""A peer that freezes keeps no call beyond its deadline, and is missed where there is none."""

from __future__ import annotations

import pytest
import trio
from tests.integration.transport import kit
from tests.integration.transport.pending import (
    ALLOWED_S,
    DEADLINE_S,
    HALF_CLOSE,
    OPERATIONS,
    SILENCE_S,
    WITHOUT_OWN_DEADLINE,
    Pending,
)
from tests.simulated.nodes import Nodes
from tests.simulated.transport import peers_on, start_mute_peer
from tests.support.jobs_unsigned import UnsignedJobs
from tests.support.simulated import simulated

from hostmesh.errors import ConnectionLostError, DeadlineExceededError
from hostmesh.net.stream import Stream
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.testing import FaultKind, StreamFault
from hostmesh.v1 import job_pb2

CALLS = frozenset({"unary", "server stream", "stream under way"})
TIMED = OPERATIONS - WITHOUT_OWN_DEADLINE


@simulated(peers_on)
async def test_a_peer_that_freezes_keeps_no_call_beyond_its_deadline(nodes: Nodes):
    client, peer = await start_mute_peer(nodes)
    pending = Pending(client, peer.peer_id, DEADLINE_S)
    async with trio.open_nursery() as operations:
        peer.freeze()
        began_s = trio.current_time()
        await pending.begin(operations)
        await trio.sleep(ALLOWED_S)
        pending.check(began_s, ALLOWED_S, TIMED)
        assert isinstance(pending.endings["unary"].error, DeadlineExceededError)
        assert not WITHOUT_OWN_DEADLINE & set(pending.endings), "they have no deadline of their own"
    pending.check(began_s, SILENCE_S)


@simulated(peers_on)
async def test_a_peer_that_freezes_is_missed_where_there_is_no_deadline(nodes: Nodes):
    client, peer = await start_mute_peer(nodes)
    pending = Pending(client, peer.peer_id, None)
    async with trio.open_nursery() as operations:
        await pending.begin(operations)
        await trio.sleep(600)
        assert set(pending.endings) == CALLS, (
            "a peer that answers pings may take its time, but for calls it says nothing of"
        )
        peer.freeze()
        began_s = trio.current_time()
    pending.check(began_s, SILENCE_S)
    assert trio.current_time() - began_s > 20, "a short silence is no death"
    assert not client.is_connected(peer.peer_id)


@pytest.mark.parametrize("deadline_s", [DEADLINE_S, None])
@simulated(peers_on)
async def test_a_full_line_holds_nobody_longer(nodes: Nodes, narrow, deadline_s):
    """What waits for room on the line ends like what waits for an answer; and a stream is left without a wait."""
    client, peer = await start_mute_peer(nodes)
    left = [await client.open_stream(peer.peer_id, kit.ECHO) for _ in range(2)]
    pending = Pending(client, peer.peer_id, deadline_s)
    names = OPERATIONS | {HALF_CLOSE}
    async with trio.open_nursery() as operations:
        peer.freeze()
        began_s = trio.current_time()
        filling = await pending.fill_line(operations)
        await pending.begin(operations, names)
        await left[0].close()
        await left[1].reset()
        assert trio.current_time() - began_s < 0.1
        await trio.sleep(ALLOWED_S)
        if deadline_s is None:
            assert pending.endings == {}
        else:
            pending.check(began_s, ALLOWED_S, TIMED)
            assert set(pending.endings) == TIMED
    pending.check(began_s, SILENCE_S, names | filling)
    await trio.sleep(0.1)
    assert client.usage().unsent_bytes == 0
    assert client.usage().outbound_streams == {}


class Jobs(UnsignedJobs):
    """Calls that do not end by themselves, and how they ended."""

    def __init__(self) -> None:
        self.running = 0

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        await self._run()
        raise AssertionError

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text="x")))
        await self._run()

    async def _run(self) -> None:
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1


@pytest.mark.parametrize("reads", [True, False], ids=["reads on", "reads nothing"])
@simulated(peers_on)
async def test_a_caller_that_freezes_keeps_no_handler(nodes: Nodes, narrow, reads):
    """The side that serves: handlers that wait for the caller, to receive, to send, or not at all, and calls."""
    server, client = await nodes.start(), await nodes.start(listen_addresses=())
    machine = nodes.machine_of(client)
    endings: dict[str, Exception] = {}

    async def receiver(stream: Stream) -> None:
        await ended("receive", stream.receive)

    async def sender(stream: Stream) -> None:
        await ended("send", lambda: stream.send(bytes(16 * kit.MIB)))

    async def waiter(stream: Stream) -> None:
        await stream.wait_reset()
        endings["wait"] = ConnectionLostError("told")

    async def ended(name: str, operation) -> None:  # type: ignore[no-untyped-def]
        try:
            await operation()
        except ConnectionLostError as error:
            endings[name] = error
            raise

    for name, handler in {"receive": receiver, "send": sender, "wait": waiter}.items():
        server.set_stream_handler(f"/test/{name}/1", handler)
    jobs = Jobs()
    rpc_server = RpcServer(prefix="/hostmesh", system=nodes.machine_of(server).system)
    rpc_server.add_service(kit.JOBS, jobs)
    nodes.nursery.start_soon(rpc_server.run)
    for protocol_id, serve in rpc_server.stream_handlers().items():
        server.set_stream_handler(protocol_id, serve)
    await kit.connect(client, server)
    calls = Pending(client, server.peer_id, None)
    async with trio.open_nursery() as operations:
        for name in ("receive", "send", "wait"):
            stream = await client.open_stream(server.peer_id, f"/test/{name}/1")
            await stream.send(b"")
            stream.send_prefix()  # type: ignore[attr-defined]
        await calls.begin(operations, frozenset({"unary", "server stream"}))
        await trio.sleep(600)
        assert (jobs.running, endings) == (2, {})
        assert len(server.usage().inbound_streams) == 4
        # The caller says nothing any more, and perhaps takes nothing.
        if reads:
            server_name = nodes.machine_of(server).name
            stall = StreamFault(kind=FaultKind.STALL, source=machine.name, target=server_name, for_s=3600)
            nodes.net.faults.schedule([stall])
        else:
            machine.freeze()
        began_s = trio.current_time()
        with trio.fail_after(SILENCE_S):
            await server.wait_disconnected(client.peer_id)
        await trio.sleep(0.1)
        assert trio.current_time() - began_s > 20
        assert set(endings) == {"receive", "send", "wait"}
        assert jobs.running == 0
        assert rpc_server.active_calls(client.peer_id) == 0
        usage = server.usage()
        assert (usage.connections, usage.inbound_streams, usage.unsent_bytes, usage.unread_bytes) == (0, {}, 0, 0)
