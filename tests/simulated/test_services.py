"""Messages and status between two nodes, each over the calls of one server."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.calling import ROUND_TRIP_S, World, quiet, world_of
from tests.support.simulated import eventually, simulated

from hostmesh.errors import (
    FrameTooLargeError,
    ProtocolNotSupportedError,
)
from hostmesh.messaging.direct import DirectMessenger, Message
from hostmesh.rpc.client import RpcClient
from hostmesh.status.client import StatusClient
from hostmesh.status.server import StatusServer
from hostmesh.status.snapshot import HostStatus, ServingState
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE
from hostmesh.v1.status_hostmesh import STATUS_SERVICE


@simulated(world_of)
async def test_messages_between_real_nodes(world: World) -> None:
    near = DirectMessenger(world.rpc, world.near)
    far = DirectMessenger(RpcClient(world.server, prefix="/hostmesh", system=world.far), world.far)
    world.rpc_server.add_service(MESSAGE_SERVICE, far.inbox)
    world.serve()
    got: list[Message] = []
    far.on_message(got.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(far.run)
        ack = await near.send(world.server.peer_id, {"text": "Grüße"})
        await near.send(world.server.peer_id, bytes(256 * 1024))
        with pytest.raises(FrameTooLargeError):
            await near.send(world.server.peer_id, bytes(256 * 1024 + 1))
        # The other way: that node serves no messages.
        with pytest.raises(ProtocolNotSupportedError):
            await far.send(world.client.peer_id, b"x")
        handler = world.rpc_server.stream_handlers()["/hostmesh/message/1.0.0"]
        losses = 2

        async def lossy(stream) -> None:  # type: ignore[no-untyped-def]
            nonlocal losses
            if losses:
                losses -= 1
                async with trio.open_nursery() as inner:

                    async def lose() -> None:
                        # After the delivery, so that only the acknowledgement is lost.
                        await eventually(lambda: len(got) == 3)
                        await stream.reset()

                    inner.start_soon(lose)
                    inner.start_soon(handler, stream)
                return
            await handler(stream)

        slow = trio.Event()

        async def hold(message: Message) -> None:
            if message.body == b"once" and losses == 1:
                await slow.wait()

        far.on_message(hold)
        world.server.set_stream_handler("/hostmesh/message/1.0.0", lossy)

        async def let_go() -> None:
            await eventually(lambda: not losses)
            slow.set()

        nursery.start_soon(let_go)
        again = await near.send(world.server.peer_id, b"once", timeout_s=20.0)
        assert again.attempts == 3
        nursery.cancel_scope.cancel()
    assert [message.body for message in got] == [{"text": "Grüße"}, bytes(256 * 1024), b"once"]
    assert got[0].sender == world.client.peer_id
    assert got[0].message_id == ack.message_id


@simulated(world_of)
async def test_status_between_real_nodes(world: World) -> None:
    jobs = 0

    def snapshot() -> HostStatus:
        return HostStatus(
            state=ServingState.AVAILABLE,
            active_jobs=jobs,
            queued_jobs=0,
            max_concurrent_jobs=1,
            max_queued_jobs=0,
            models=(),
            uptime_s=1.0,
            time_unix_s=world.far.unix_s(),
        )

    server = StatusServer(snapshot, world.far)
    world.rpc_server.add_service(STATUS_SERVICE, server)
    world.serve()
    client = StatusClient(world.rpc, world.near)
    await client.ping(world.server.peer_id)
    assert await client.ping(world.server.peer_id) == pytest.approx(ROUND_TRIP_S)
    assert (await client.get_snapshot(world.server.peer_id)).free_slots == 1
    async with client.watch_status(world.server.peer_id, min_interval_s=0.0) as watch:
        assert (await anext(watch)).active_jobs == 0
        for jobs in (1, 2, 3):
            server.changed()
            assert (await anext(watch)).active_jobs == jobs
    await quiet(world)
    assert server.watchers == 0
