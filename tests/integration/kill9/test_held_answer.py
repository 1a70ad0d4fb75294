"""An answer that its caller does not read is held back for long, and costs nobody but that caller anything."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from tests.integration.kill9.phases import WINDOW_BYTES
from tests.integration.kill9.watched import WatchedStream, caller

from hostmesh import CallContext, StatusCode
from hostmesh.errors import RpcError
from hostmesh.testing import SimNetwork, open_nodes, run_sim

HELD_S = 40.0
"""Several heartbeats of a call that is silent, and less than its caller bears."""


class HeldStream(WatchedStream):
    """Is not read until its caller has time."""

    async def receive_chunk(self) -> bytes | memoryview:
        held_s, self.held_s = getattr(self, "held_s", HELD_S), 0.0
        await trio.sleep(held_s)
        return await super().receive_chunk()


@pytest.mark.parametrize("fails", [False, True], ids=["an answer", "an error after answers"])
def test_an_answer_that_is_held_back_breaks_nothing(effects: Any, fails: bool) -> None:
    pb = effects.effects_pb2

    class Effects(effects.EffectServiceBase):  # type: ignore[misc, name-defined]
        async def apply(self, request: Any, context: CallContext) -> Any:
            return pb.Done(padding=bytes(request.answer_bytes))

        async def watch(self, request: Any, context: CallContext, send: Any) -> None:
            await send(pb.Done(padding=bytes(WINDOW_BYTES - 100)))
            raise RpcError("a long word" * 50, status=StatusCode.ABORTED)

        apply_once = upload = chat = apply

    class HoldingNode:
        def __init__(self, node: Any) -> None:
            self._node = node

        def start_stream(self, *_: object) -> None:
            return None

        async def open_stream(self, *arguments: Any, **options: Any) -> HeldStream:
            return HeldStream(await self._node.open_stream(*arguments, **options), lambda _: None)

    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 3) as (_, server, client):
            server.sdk.serve(Effects())
            await client.sdk.get_discovery_manager().connect_to_peer(server.address, 5)
            rpc = caller(HoldingNode(client.sdk._running().node))  # type: ignore[arg-type]
            stub = effects.EffectServiceClient(rpc, server.peer_id)
            if fails:
                with pytest.raises(RpcError) as caught:
                    async with stub.watch(pb.Effect(id="a"), timeout_s=4 * HELD_S) as responses:
                        assert len([response async for response in responses]) == 1
                assert caught.value.status is StatusCode.ABORTED
            else:
                request = pb.Effect(id="a", answer_bytes=3 * WINDOW_BYTES)
                assert len((await stub.apply(request, timeout_s=4 * HELD_S)).padding) == 3 * WINDOW_BYTES

    run_sim(main)
