"""A peer that freezes keeps no call beyond its deadline, and is missed where there is none."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.integration.transport.lines import LineNetwork
from tests.integration.transport.pending import (
    ALLOWED_S,
    DEADLINE_S,
    HALF_CLOSE,
    OPERATIONS,
    SILENCE_S,
    WITHOUT_OWN_DEADLINE,
    Pending,
)

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, DialError, TransportError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import job_pb2

TIMED = OPERATIONS - WITHOUT_OWN_DEADLINE
LISTEN = ("/ip4/9.9.9.9/tcp/4001",)


# --- in virtual time ---


async def test_a_peer_that_freezes_keeps_no_call_beyond_its_deadline(
    autojump_clock, start_node, nursery, memory_network
):
    client = await start_node(network=memory_network, listen_addresses=())
    peer = await kit.mute_peer(memory_network, client, nursery)
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


async def test_a_peer_that_freezes_is_missed_where_there_is_no_deadline(
    autojump_clock, start_node, nursery, memory_network
):
    client = await start_node(network=memory_network, listen_addresses=())
    peer = await kit.mute_peer(memory_network, client, nursery)
    pending = Pending(client, peer.peer_id, None)
    async with trio.open_nursery() as operations:
        await pending.begin(operations)
        await trio.sleep(600)
        assert pending.endings == {}, "a peer that answers pings may take its time"
        peer.freeze()
        began_s = trio.current_time()
    pending.check(began_s, SILENCE_S)
    assert trio.current_time() - began_s > 20, "a short silence is no death"
    assert not client.is_connected(peer.peer_id)


@pytest.mark.parametrize("deadline_s", [DEADLINE_S, None])
async def test_a_full_line_holds_nobody_longer(autojump_clock, start_node, nursery, deadline_s):
    """What waits for room on the line ends like what waits for an answer; and a stream is left without a wait."""
    network = LineNetwork(buffer_bytes=64 * 1024)
    client = await start_node(network=network, listen_addresses=())
    peer = await kit.mute_peer(network, client, nursery)
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
    await trio.testing.wait_all_tasks_blocked()
    assert client.usage().unsent_bytes == 0
    assert client.usage().outbound_streams == {}


class Jobs:
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
async def test_a_caller_that_freezes_keeps_no_handler(autojump_clock, start_node, nursery, reads):
    """The side that serves: handlers that wait for the caller, to receive, to send, or not at all, and calls."""
    network = LineNetwork(buffer_bytes=64 * 1024)
    server = await start_node(network=network, listen_addresses=LISTEN)
    client = await start_node(network=network, listen_addresses=())
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
    rpc_server = RpcServer(prefix="/hostmesh", system=System())
    rpc_server.add_service(kit.JOBS, jobs)
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
        # The caller's end of the line says nothing any more, and perhaps takes nothing.
        network.ends[0].stall(True)
        if not reads:
            network.cut()
        began_s = trio.current_time()
        with trio.fail_after(SILENCE_S):
            await server.wait_disconnected(client.peer_id)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - began_s > 20
        assert set(endings) == {"receive", "send", "wait"}
        assert jobs.running == 0
        assert rpc_server.active_calls(client.peer_id) == 0
        usage = server.usage()
        assert (usage.connections, usage.inbound_streams, usage.unsent_bytes, usage.unread_bytes) == (0, {}, 0, 0)


# --- processes that are stopped, in real time ---


@pytest.mark.parametrize("is_full", [False, True], ids=["", "with a full line"])
async def test_a_stopped_process_keeps_no_call_beyond_its_deadline(start_node, start_peer, is_full):
    client, peer = await start_node(), await start_peer()
    await kit.connect_to(client, peer.address)
    before, after = Pending(client, peer.peer_id, DEADLINE_S), Pending(client, peer.peer_id, DEADLINE_S)
    with trio.fail_after(10):
        async with trio.open_nursery() as operations:
            began_s = trio.current_time()
            # Begun while the peer was well: it has the requests, and has sent the first response of the stream.
            await before.begin(operations, OPERATIONS - {"open"})
            await before.is_under_way.wait()
            peer.signal(signal.SIGSTOP)
            stopped_s = trio.current_time()
            if is_full:
                await after.fill_line(operations)
            await after.begin(operations)
            await trio.sleep_until(stopped_s + ALLOWED_S)
            before.check(began_s, ALLOWED_S, TIMED - {"open"})
            after.check(stopped_s, ALLOWED_S, TIMED)
            for pending in (before, after):
                assert not WITHOUT_OWN_DEADLINE & set(pending.endings)
            operations.cancel_scope.cancel()


async def test_what_must_dial_a_stopped_process_first_ends_in_time(start_node, start_peer):
    """The kernel takes the connection, and nobody speaks on it."""
    peer = await start_peer()
    peer.signal(signal.SIGSTOP)
    endings: dict[str, tuple[TransportError, float]] = {}

    async def ended(name: str, operation) -> None:  # type: ignore[no-untyped-def]
        client = await start_node(listen_addresses=())
        client.add_addresses(peer.peer_id, [peer.address], AddressOrigin.CONFIGURED)
        began_s = trio.current_time()
        with pytest.raises(TransportError) as caught:
            await operation(client)
        endings[name] = caught.value, trio.current_time() - began_s

    async def call(client) -> None:  # type: ignore[no-untyped-def]
        rpc = RpcClient(client, prefix="/hostmesh", system=System())
        await rpc.unary(peer.peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=DEADLINE_S)

    async def stream(client) -> None:  # type: ignore[no-untyped-def]
        rpc = RpcClient(client, prefix="/hostmesh", system=System())
        async with rpc.server_stream(peer.peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=DEADLINE_S):
            pass

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, "connect", lambda client: client.connect(peer.peer_id, timeout_s=DEADLINE_S))
            nursery.start_soon(
                ended, "open", lambda client: client.open_stream(peer.peer_id, kit.ECHO, timeout_s=DEADLINE_S)
            )
            nursery.start_soon(ended, "unary", call)
            nursery.start_soon(ended, "server stream", stream)
    for name, (error, took_s) in endings.items():
        assert took_s <= ALLOWED_S, name
        assert isinstance(error, DialError | DeadlineExceededError), name
        assert not error.may_have_executed, name


@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_a_stopped_process_is_missed_in_real_time(start_node, start_peer):
    """Of the marked tests because it takes 40 s."""
    client, peer = await start_node(), await start_peer()
    await kit.connect_to(client, peer.address)
    pending, unhurried = Pending(client, peer.peer_id, DEADLINE_S), Pending(client, peer.peer_id, None)
    with trio.fail_after(60):
        async with trio.open_nursery() as operations:
            await unhurried.begin(operations, OPERATIONS - {"open"})
            await unhurried.is_under_way.wait()
            peer.signal(signal.SIGSTOP)
            began_s = trio.current_time()
            await pending.begin(operations)
    pending.check(began_s, ALLOWED_S, TIMED)
    pending.check(began_s, SILENCE_S)
    unhurried.check(began_s, SILENCE_S, OPERATIONS - {"open"})
    assert not client.is_connected(peer.peer_id)
