"""The phases of a call at which a test kills the server, each brought about by what happens and not by the clock.

The server is stopped first where it must not take what is sent: its kernel takes it instead, and after the kill tells
ours so (a reset) if some of it was unread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing
from tests.integration.kill9.lives import Server
from tests.integration.kill9.watched import WatchedNode, caller

from hostmesh.errors import ConnectionLostError, HostmeshError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import Connection
from hostmesh.net.node import Node

PROTOCOL = "/hostmesh/effects/1.0.0"
WINDOW_BYTES = 256 * 1024
"""What a stream may send of which the other side has read nothing."""
BLOCKED_S = 0.02
"""Every task of this process waits for so long: whatever could be sent was."""
WITHIN_S = 20.0

Shape = Callable[[Any, Any], Awaitable[None]]
"""Makes one call with a generated client, to its end."""


# --- the four shapes ---


async def unary(client: Any, request: Any) -> None:
    await client.apply(request, timeout_s=WITHIN_S)


async def server_stream(client: Any, request: Any) -> None:
    async with client.watch(request, timeout_s=WITHIN_S) as responses:
        async for _ in responses:
            pass


async def client_stream(client: Any, request: Any) -> None:
    async with client.upload(timeout_s=WITHIN_S) as call:
        await call.send(request)
        await call.finish()


async def bidi_stream(client: Any, request: Any) -> None:
    async with client.chat(timeout_s=WITHIN_S) as call:
        await call.send(request)
        await anext(call)
        await call.send(request)
        await call.end()
        async for _ in call:
            pass


SHAPES: dict[str, Shape] = {
    "unary": unary,
    "server stream": server_stream,
    "client stream": client_stream,
    "bidi stream": bidi_stream,
}


async def error_of(call: Awaitable[None]) -> HostmeshError | None:
    """Return how a call ends: soon after the server's death, with an error of ours, or well."""
    with trio.fail_after(WITHIN_S / 2):
        try:
            await call
        except HostmeshError as error:
            return error
    return None


# --- the phases ---


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A server, and a client that has not called it."""

    server: Server
    node: Node | WatchedNode
    effects: Any
    shape: Shape

    def introduce(self) -> None:
        """Let the client know where the server is."""
        self.node.add_addresses(self.server.peer_id, [self.server.address], AddressOrigin.CONFIGURED)

    async def connect(self) -> Connection:
        """Connect, and return once each knows what the other speaks, and the server has read all that was sent."""
        peer_id = self.server.peer_id
        await self.node.connect(peer_id, [self.server.address], origin=AddressOrigin.CONFIGURED)
        (connection,) = self.node._pool.of(peer_id)
        muxer = connection.muxer
        await _until(lambda: PROTOCOL in connection.spoken and muxer.pinger.asked_at_s is None)
        muxer.ping(trio.current_time())
        await _until(lambda: muxer.pinger.asked_at_s is None)
        return connection

    async def call(self, node: WatchedNode | None = None, **request: Any) -> HostmeshError | None:
        """Make a call, and return how it ends."""
        stub = self.effects.EffectServiceClient(caller(node or self.node), self.server.peer_id)
        return await error_of(self.shape(stub, self.effects.effects_pb2.Effect(**{"id": "a", **request})))

    async def call_until_blocked(self, **request: Any) -> HostmeshError | None:
        """Make a call to a stopped server, which is killed once nothing more of the call can be sent."""

        async def kill() -> None:
            await trio.testing.wait_all_tasks_blocked(BLOCKED_S)
            self.server.kill()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            return await self.call(**request)
        raise AssertionError

    async def fill(self, nursery: trio.Nursery, is_full: Callable[[], bool]) -> None:
        """Send to the stopped server, on streams of their own, until the connection is full."""

        async def send() -> None:
            with suppress(ConnectionLostError):
                await (await self.node.open_stream(self.server.peer_id, PROTOCOL)).send(bytes(WINDOW_BYTES))

        while not is_full():
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(BLOCKED_S)


async def _until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(WITHIN_S):
        while not is_so():
            await trio.testing.wait_all_tasks_blocked()


Phase = Callable[[Scene], Awaitable[HostmeshError | None]]


async def nobody_listens(scene: Scene) -> HostmeshError | None:
    scene.introduce()
    scene.server.kill()
    return await scene.call()


async def in_the_handshake(scene: Scene) -> HostmeshError | None:
    scene.introduce()
    scene.server.stop()
    return await scene.call_until_blocked()


async def connected_and_noticed(scene: Scene) -> HostmeshError | None:
    await scene.connect()
    scene.server.kill()
    await scene.node.wait_disconnected(scene.server.peer_id)
    return await scene.call()


async def before_the_agreement(scene: Scene) -> HostmeshError | None:
    """The client does not know whether the server speaks the protocol, and waits for its word."""
    connection = await scene.connect()
    connection.disbelieve(PROTOCOL)
    scene.server.stop()
    return await scene.call_until_blocked()


async def reset_and_not_noticed(scene: Scene) -> HostmeshError | None:
    """The kernel knows that the connection is no more, and refuses the first byte."""
    await scene.connect()
    scene.server.stop()
    ping = await scene.node.open_stream(scene.server.peer_id, PROTOCOL)
    await ping.send(b"unread")
    await trio.testing.wait_all_tasks_blocked(BLOCKED_S)
    return await scene.call(WatchedNode(scene.node, on_open=scene.server.kill))


async def waiting_for_a_full_connection(scene: Scene) -> HostmeshError | None:
    """So much waits for the socket that the call may not even queue its first byte."""
    connection = await scene.connect()
    scene.server.stop()
    async with trio.open_nursery() as nursery:
        await scene.fill(nursery, lambda: connection.muxer.is_congested)
        return await scene.call_until_blocked()
    raise AssertionError


async def queued_for_a_full_socket(scene: Scene) -> HostmeshError | None:
    """The call's first bytes are in a queue of this process, which the socket never takes."""
    connection = await scene.connect()
    scene.server.stop()
    async with trio.open_nursery() as nursery:
        await scene.fill(nursery, lambda: connection.muxer.unsent_bytes > 0)
        assert not connection.muxer.is_congested
        return await scene.call_until_blocked()
    raise AssertionError


async def first_bytes_unread(scene: Scene) -> HostmeshError | None:
    await scene.connect()
    scene.server.stop()
    return await scene.call_until_blocked()


async def half_of_the_request_sent(scene: Scene) -> HostmeshError | None:
    """The window holds the rest of it back."""
    await scene.connect()
    scene.server.stop()
    return await scene.call_until_blocked(padding=bytes(3 * WINDOW_BYTES))


async def first_answer_heard(scene: Scene) -> HostmeshError | None:
    """The first answer is in this process, and the call has not read it."""
    return await _killed_when_heard(scene, answer_bytes=1000)


async def half_of_the_answer_heard(scene: Scene) -> HostmeshError | None:
    """The window holds the rest of it back: the call has read nothing."""
    return await _killed_when_heard(scene, answer_bytes=3 * WINDOW_BYTES)


async def _killed_when_heard(scene: Scene, answer_bytes: int) -> HostmeshError | None:
    await scene.connect()
    watched = WatchedNode(scene.node, on_heard=lambda _: scene.server.kill())
    return await scene.call(watched, answer_bytes=answer_bytes)


async def in_a_silent_wait(scene: Scene) -> HostmeshError | None:
    """Nothing comes of the call but heartbeats."""

    def kill(heard: bytes) -> None:
        assert heard == b"\0"
        scene.server.kill()

    await scene.connect()
    return await scene.call(WatchedNode(scene.node, on_heard=kill))


# --- what is expected ---

NOTHING_LEFT: dict[str, Phase] = {
    "nobody listens": nobody_listens,
    "in the handshake": in_the_handshake,
    "connected, and the end noticed": connected_and_noticed,
    "before the agreement on the protocol": before_the_agreement,
    "reset, and not noticed": reset_and_not_noticed,
    "waiting for a full connection": waiting_for_a_full_connection,
    "queued for a full socket": queued_for_a_full_socket,
}
"""The first byte of the call has not left this process when the server dies, and never will."""

PERHAPS_LEFT: dict[str, Phase] = {
    "first bytes unread": first_bytes_unread,
    "half of the request sent": half_of_the_request_sent,
}
"""No handler has started, and the caller cannot know that."""

RUN: dict[str, Phase] = {
    "in a silent wait": in_a_silent_wait,
    "half of the answer heard": half_of_the_answer_heard,
    "first answer heard": first_answer_heard,
}
"""The handler has started; in a silent wait it has had no effect."""
