"""A server that kills itself at a given point of a call, and keeps a journal of how far each call has come.

``python -m tests.integration.kill9.server`` imports hostmesh once, and then forks a server for each JSON line of its
standard input, so that a test can have many: ``home`` (of its keys and stores), ``journal``, ``events`` (a FIFO on
which it tells its address, and what it does, as JSON lines), ``port`` (0: any), ``die_at`` (a point of the journal, or
nothing) and ``is_silent`` (its handlers never answer).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from effects.v1 import effects_pb2
from effects.v1.effects_hostmesh import EFFECT_SERVICE, EffectServiceBase
from tests.integration.kill9.journal import (
    ANSWERED,
    ANSWERING,
    ARRIVED,
    EFFECT,
    HALF_ANSWERED,
    READ,
    STARTED,
    Journal,
)

import hostmesh.rpc.server
from hostmesh import SDK, CallContext, SendResponse, open_sdk
from hostmesh.net.stream import Stream

WALLET = "0x" + "ab" * 32
QUICK_HEARTBEAT_S = 0.05


class Life:
    """One life of the server: what it writes down, and where it ends."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._journal = Journal(Path(config["journal"]))
        self._events = os.open(config["events"], os.O_WRONLY)
        self._die_at: str = config["die_at"]
        self.is_silent: bool = config["is_silent"]

    def tell(self, **event: object) -> None:
        os.write(self._events, json.dumps(event).encode() + b"\n")

    def reach(self, point: str, effect: str = "") -> None:
        """Write down that a call has come to a point, which may be the last."""
        self._journal.write(point, effect)
        self.tell(point=point)
        if point == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def dies_within_answer(self) -> bool:
        return self._die_at == HALF_ANSWERED

    def has_done(self, effect: str) -> bool:
        return self._journal.effects(effect) > 0


class Effects(EffectServiceBase):
    """Does what it is asked to, and writes it down."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def apply(self, request: effects_pb2.Effect, context: CallContext) -> effects_pb2.Done:
        self._life.reach(STARTED)
        return await self._do(request)

    async def apply_once(self, request: effects_pb2.Effect, context: CallContext) -> effects_pb2.Done:
        self._life.reach(STARTED)
        assert context.idempotency_key == request.id.encode()
        if self._life.has_done(request.id):
            return _done(request)
        return await self._do(request)

    async def watch(
        self, request: effects_pb2.Effect, context: CallContext, send: SendResponse[effects_pb2.Done]
    ) -> None:
        self._life.reach(STARTED)
        await send(await self._do(request))
        await trio.sleep_forever()

    async def upload(self, requests: AsyncIterator[effects_pb2.Effect], context: CallContext) -> effects_pb2.Done:
        self._life.reach(STARTED)
        done = effects_pb2.Done()
        async for request in requests:
            done = await self._do(request)
        return done

    async def chat(
        self,
        requests: AsyncIterator[effects_pb2.Effect],
        context: CallContext,
        send: SendResponse[effects_pb2.Done],
    ) -> None:
        self._life.reach(STARTED)
        async for request in requests:
            await send(await self._do(request))

    async def _do(self, request: effects_pb2.Effect) -> effects_pb2.Done:
        if self._life.is_silent:
            await trio.sleep_forever()
        self._life.reach(EFFECT, request.id)
        return _done(request)


def _done(request: effects_pb2.Effect) -> effects_pb2.Done:
    return effects_pb2.Done(padding=bytes(request.answer_bytes))


class WatchedStream:
    """The stream of a call that writes down how far the call has come; whatever is not here is the stream's own."""

    def __init__(self, stream: Stream, life: Life) -> None:
        self._stream = stream
        self._life = life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def on_lost(self, callback: Any) -> None:
        # The server wants to know of the loss of a stream from when its request is there.
        self._stream.on_lost(callback)
        if callback is not None:
            self._life.reach(READ)

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        # What is no heartbeat is left to the one that waits.
        return data == b"\0" and self._stream.send_nowait(data, end=end)

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        is_heartbeat = data == b"\0"
        if is_heartbeat:
            await self._stream.send(data, head=head, end=end)
            return
        self._life.reach(ANSWERING)
        if self._life.dies_within_answer():
            whole = head + data
            await self._stream.send(whole[: len(whole) // 2])
            await self._flushed()
            self._life.reach(HALF_ANSWERED)
        await self._stream.send(data, head=head, end=end)
        await self._flushed()
        self._life.reach(ANSWERED)

    async def _flushed(self) -> None:
        while self._stream._connection.muxer.unsent_bytes:  # type: ignore[attr-defined]
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_node(port: int) -> AsyncIterator[SDK]:
    async with open_sdk(enable_mdns=False, enable_dht=False) as sdk:
        await sdk.authenticate(private_key=WALLET)
        await sdk.get_discovery_manager().create_node(listen=[f"/ip4/127.0.0.1/tcp/{port}"])
        yield sdk


async def warm_up() -> None:
    """Import what is imported at its first use, so that a fork has it."""
    async with open_node(0):
        pass


async def serve(config: dict[str, Any]) -> None:
    life = Life(config)
    if life.is_silent:
        hostmesh.rpc.server.HEARTBEAT_S = QUICK_HEARTBEAT_S  # of the others no call is silent for long

    async def watched(stream: Stream) -> None:
        life.reach(ARRIVED)
        await handler(WatchedStream(stream, life))

    async with open_node(config["port"]) as sdk:
        sdk.serve(EFFECT_SERVICE, Effects(life))
        node = sdk._running().node
        (protocol_id,) = (each for each in node._protocols if "/effects/" in each)
        handler = node._protocols[protocol_id]
        node.set_stream_handler(protocol_id, watched)
        life.tell(pid=os.getpid(), address=sdk.get_discovery_manager().listen_addresses()[0])
        await trio.sleep_forever()


def main() -> None:
    with TemporaryDirectory() as home:
        os.environ["HOSTMESH_HOME"] = home
        trio.run(warm_up)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead here: tests have their own ways
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        config = json.loads(line)
        os.environ["HOSTMESH_HOME"] = config["home"]
        trio.run(serve, config)
        os._exit(0)


if __name__ == "__main__":
    main()
