"""Operations that wait for a peer, begun and not ended, and how they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
import trio.testing
from tests.integration.transport import kit

from hostmesh.errors import ConnectionLostError, DialError, HostmeshError, TransportError
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient
from hostmesh.system import System

DEADLINE_S = 1.0
ALLOWED_S = 1.5
SILENCE_S = 45.0
NEVER_S = 3600.0
OPERATIONS = frozenset({"open", "send", "receive", "unary", "large unary", "server stream", "stream under way"})
HALF_CLOSE = "half-close"
"""Waits only where the line is full."""
WITHOUT_OWN_DEADLINE = frozenset({"send", "receive", HALF_CLOSE})


@dataclass(frozen=True)
class Ending:
    """How a pending operation ended."""

    error: HostmeshError
    at_s: float


class Pending:
    """One of each operation that can wait for a peer.

    Args:
        node: ours.
        peer_id: whom they wait for.
        deadline_s: of those that take one; None: none, or an hour where there must be one.
    """

    def __init__(self, node: Node, peer_id: PeerId, deadline_s: float | None) -> None:
        self._node, self._peer_id = node, peer_id
        self._deadline_s = deadline_s
        self._timeout_s = deadline_s or NEVER_S
        self._rpc = RpcClient(node, prefix="/hostmesh", system=System(monotonic_s=trio.current_time))
        self.endings: dict[str, Ending] = {}
        self.is_under_way = trio.Event()
        """The stream under way has had its first response."""

    async def begin(self, nursery: trio.Nursery, names: frozenset[str] = OPERATIONS) -> None:
        """Start operations, and return once they wait."""
        operations = self._operations()
        for name in names:
            nursery.start_soon(self._run, name, operations[name])
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert self.endings == {}, "they wait"

    async def fill_line(self, nursery: trio.Nursery) -> frozenset[str]:
        """Send to handlers that do not read until the connection takes no more; return the names of what waits."""
        connection = kit.connection_of(self._node, self._peer_id)
        names: set[str] = set()
        while not connection.muxer.is_congested:
            names.add(f"send {len(names)}")
            nursery.start_soon(self._run, f"send {len(names) - 1}", self._operations()["send"])
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert self.endings == {}, "they wait"
        return frozenset(names)

    def _operations(self) -> dict[str, Callable[[], Awaitable[None]]]:
        node, rpc, peer_id = self._node, self._rpc, self._peer_id

        async def open_stream() -> None:
            await node.open_stream(peer_id, kit.UNTOLD, timeout_s=self._timeout_s)

        async def send() -> None:
            stream = await node.open_stream(peer_id, kit.HANG)
            await stream.send(bytes(4 * kit.INITIAL_WINDOW_BYTES))

        async def receive() -> None:
            stream = await node.open_stream(peer_id, kit.ECHO)
            await stream.receive()

        async def half_close() -> None:
            stream = await node.open_stream(peer_id, kit.ECHO)
            await stream.close_write()

        async def unary() -> None:
            await rpc.unary(peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=self._timeout_s)

        async def large_unary() -> None:
            # Larger than a window: where nobody reads, the request itself waits.
            await rpc.unary(peer_id, kit.SEND, kit.LARGE_REQUEST, timeout_s=self._timeout_s)

        async def server_stream() -> None:
            async with rpc.server_stream(peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=self._deadline_s) as responses:
                async for _ in responses:
                    self.is_under_way.set()

        return {
            "open": open_stream,
            "send": send,
            "receive": receive,
            HALF_CLOSE: half_close,
            "unary": unary,
            "large unary": large_unary,
            "server stream": server_stream,
            "stream under way": server_stream,
        }

    async def _run(self, name: str, operation: Callable[[], Awaitable[None]]) -> None:
        try:
            await operation()
        except HostmeshError as error:
            self.endings[name] = Ending(error, trio.current_time())
        else:
            raise AssertionError(f"{name} came to a good end")

    def check(
        self,
        began_s: float,
        within_s: float,
        names: frozenset[str] = OPERATIONS,
        *,
        unsent: frozenset[str] = frozenset({"open"}),
    ) -> None:
        """Every operation named ended, in time, with an error that says what to make of it.

        Of those that are ``unsent`` no byte can have left: a stream that did not open carried no request.
        """
        assert names <= set(self.endings)
        took_s = {name: self.endings[name].at_s - began_s for name in names}
        print("; ".join(f"{name}: {took_s[name]:.3f} s" for name in sorted(names)))
        for name in names:
            error = self.endings[name].error
            assert took_s[name] <= within_s, name
            assert isinstance(error, TransportError), name
            assert error.retry_safe is not error.may_have_executed, name
            # Of the others some may have waited behind a large one; tests/integration/kill9 tells them apart.
            assert not (name in unsent and error.may_have_executed), name

    def check_lost(self) -> None:
        """The loss of the connection ended them, and not their deadline. A stream that did not open was tried again."""
        for name, ending in self.endings.items():
            assert type(ending.error) is (DialError if name == "open" else ConnectionLostError), name
