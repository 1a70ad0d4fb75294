"""A thousand calls that their callers leave at random points: no handler, no stream and no place stays behind."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import trio
import trio.testing
from tests.integration.transport import kit
from tests.support.jobs_unsigned import UnsignedJobs

from hostmesh.errors import RpcError, StatusCode
from hostmesh.net.node import Node
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import job_pb2, message_pb2
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE

CANCELLATIONS = 1000
AT_ONCE = 20
SEED = 1
SETTLE_S = 10.0
GENEROUS = CallLimits(max_concurrent=1000, calls_per_s=1e6, burst=100_000)


class Services(UnsignedJobs):
    """Handlers that take their time, refuse, hang, or send more than anybody reads; and how many run."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self.running = 0
        self.begun = 0

    async def _some_passes(self) -> None:
        passes = self._random.choice([0, 0, 1, 5, 50, None])
        if passes is None:
            await trio.sleep_forever()
        for _ in range(passes or 0):
            await trio.lowlevel.checkpoint()
        if self._random.random() < 0.1:
            raise RpcError("not here", status=StatusCode.NOT_FOUND)

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        with self:
            await self._some_passes()
        return job_pb2.QuoteResponse(quote=bytes(300))

    async def send(self, request: message_pb2.SendRequest, context: CallContext) -> message_pb2.SendResponse:
        with self:
            await self._some_passes()
        return message_pb2.SendResponse()

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        with self:
            text = "x" * self._random.choice([1, 10_000, 60_000])
            for _ in range(self._random.choice([0, 1, 100])):
                await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text=text)))
            await self._some_passes()

    def __enter__(self) -> None:
        self.begun += 1
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1


class Caller:
    """Makes calls, and leaves each at a random point."""

    def __init__(self, client: Node, server: Node) -> None:
        self._peer_id = server.peer_id
        self._rpc = RpcClient(client, prefix="/hostmesh", system=System())
        self._random = random.Random(SEED)
        self.cancelled: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()

    async def _call(self, kind: str) -> None:
        rpc, peer_id = self._rpc, self._peer_id
        with suppress(RpcError):
            if kind == "unary":
                await rpc.unary(peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=60)
            elif kind == "large unary":
                await rpc.unary(peer_id, kit.SEND, kit.LARGE_REQUEST, timeout_s=60)
            else:
                reads = self._random.choice([0, 1, 30, 1000])
                async with rpc.server_stream(peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=None) as responses:
                    async for _ in responses:
                        reads -= 1
                        if reads <= 0:
                            break

    async def run(self) -> None:
        while self.cancelled.total() < CANCELLATIONS:
            kind = self._random.choice(["unary", "large unary", "server stream"])
            passes = self._random.choice([0, 1, 2, 3, 5, 8, 13, 30, 100])
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    ended = trio.Event()

                    async def cancel(ended=ended, scope=scope, passes=passes) -> None:  # type: ignore[no-untyped-def]
                        for _ in range(passes):
                            if ended.is_set():
                                return
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    await self._call(kind)
                    ended.set()
            (self.cancelled if scope.cancelled_caught else self.finished)[kind] += 1


async def test_a_thousand_calls_that_are_left_leave_nothing_behind(start_node, caplog):
    server, client = await start_node(), await start_node()
    services = Services()
    rpc_server = RpcServer(
        prefix="/hostmesh", system=System(), limits=RpcLimits(per_peer=GENEROUS, per_service=GENEROUS)
    )
    rpc_server.add_service(kit.JOBS, services)
    rpc_server.add_service(MESSAGE_SERVICE, services)
    for protocol_id, handler in rpc_server.stream_handlers().items():
        server.set_stream_handler(protocol_id, handler)
    ours = await kit.connect(client, server)
    caller = Caller(client, server)
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(caller.run)
    print(f"left: {dict(caller.cancelled)}; ended: {dict(caller.finished)}; {services.begun} handlers began")
    assert set(caller.cancelled) == set(caller.finished) == {"unary", "large unary", "server stream"}
    with trio.fail_after(SETTLE_S):
        while (
            services.running
            or rpc_server.active_calls(client.peer_id)
            or any(node.usage().inbound_streams or node.usage().outbound_streams for node in (client, server))
            or ours.muxer.yamux.streams
        ):
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert kit.connection_of(client, server.peer_id) is ours, "no other connection was made"
    assert not rpc_server.counters.violations
    assert not rpc_server.counters.handler_failures
    await kit.echo_works(client, server.peer_id)
    for node in (client, server):
        usage = node.usage()
        assert (usage.unread_bytes, usage.unsent_bytes, usage.overflowed_streams) == (0, 0, 0)
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
