"""A peer that dies, freezes or sends garbage ends whatever waits for it, with an error of ours, in time."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.integration.transport.kit import MutePeer

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, DialError, HostmeshError, TransportError
from hostmesh.net.network import Network, SocketNetwork
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient
from hostmesh.system import System

DEADLINE_S = 2.0
ALLOWED_S = 2.5
SILENCE_S = 45.0
NEVER_S = 3600.0
OPERATIONS = frozenset({"open", "send", "receive", "unary", "server stream"})
WITHOUT_OWN_DEADLINE = frozenset({"send", "receive"})


@dataclass(frozen=True)
class Ending:
    """How a pending operation ended."""

    error: HostmeshError
    at_s: float


class Pending:
    """One of each operation that can wait for a peer, begun and not ended.

    Args:
        node: ours.
        peer_id: whom they wait for.
        deadline_s: of those that take one; None: none, or an hour where there must be one.
    """

    def __init__(self, node: Node, peer_id: PeerId, deadline_s: float | None) -> None:
        self._node, self._peer_id = node, peer_id
        self._deadline_s = deadline_s
        self._timeout_s = deadline_s or NEVER_S
        self._rpc = RpcClient(node, prefix="/hostmesh", system=System())
        self.endings: dict[str, Ending] = {}

    async def begin(self, nursery: trio.Nursery, names: frozenset[str] = OPERATIONS) -> None:
        for name, operation in self._operations().items():
            if name in names:
                nursery.start_soon(self._run, name, operation)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert self.endings == {}, "they wait"

    def _operations(self) -> dict[str, Callable[[], Awaitable[None]]]:
        node, peer_id = self._node, self._peer_id

        async def open_stream() -> None:
            await node.open_stream(peer_id, kit.UNTOLD, timeout_s=self._timeout_s)

        async def send() -> None:
            stream = await node.open_stream(peer_id, kit.HANG)
            await stream.send(bytes(4 * kit.INITIAL_WINDOW_BYTES))

        async def receive() -> None:
            stream = await node.open_stream(peer_id, kit.ECHO)
            await stream.receive()

        async def unary() -> None:
            await self._rpc.unary(peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=self._timeout_s)

        async def server_stream() -> None:
            async with self._rpc.server_stream(
                peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=self._deadline_s
            ) as responses:
                async for _ in responses:
                    pass

        return {"open": open_stream, "send": send, "receive": receive, "unary": unary, "server stream": server_stream}

    async def _run(self, name: str, operation: Callable[[], Awaitable[None]]) -> None:
        try:
            await operation()
        except HostmeshError as error:
            self.endings[name] = Ending(error, trio.current_time())
        else:
            raise AssertionError(f"{name} came to a good end")

    def check(self, began_s: float, within_s: float, names: frozenset[str] = OPERATIONS) -> None:
        """Every operation named ended, in time, with an error that says what to make of it."""
        assert names <= set(self.endings)
        for name in names:
            ending = self.endings[name]
            assert ending.at_s - began_s <= within_s, name
            assert isinstance(ending.error, TransportError), name
            # A stream that did not open carried no request; the others may have.
            assert ending.error.may_have_executed is (name != "open"), name

    def check_lost(self) -> None:
        """The loss of the connection ended them, and not their deadline. A stream that did not open was tried again."""
        for name, ending in self.endings.items():
            assert type(ending.error) is (DialError if name == "open" else ConnectionLostError), name


async def _mute_peer(network: Network, client: Node, nursery: trio.Nursery) -> MutePeer:
    peer = MutePeer(network)
    address = await nursery.start(peer.run)
    await kit.connect_to(client, address)
    return peer


# Bytes that nobody sealed: the length of a sealed message and what is none; and a frame in the clear.
RAW_GARBAGE = b"\x00\x20" + b"garbage." * 4
UNSEALED_FRAME = kit.frame(kit.PING, kit.SYN, 0, 7)
SEALED_GARBAGE = {
    "no frame": b"\xff" * 12,
    "a frame of no stream": kit.frame(kit.DATA, 0, 0, 0),
    "a stream that nobody opened": kit.frame(kit.DATA, 0, 4, 0),
    "a stream of ours": kit.frame(kit.DATA, kit.SYN, 101, 0),
    "a stream of theirs, then no frame": kit.open_frame(2, kit.ECHO, b"hello") + b"\xff" * 12,
    "noise": bytes(range(1, 256)),
}
FAILURES: dict[str, Callable[[MutePeer], Awaitable[None]]] = {
    "raw garbage": lambda peer: peer.send_unsealed(RAW_GARBAGE),
    "an unsealed frame": lambda peer: peer.send_unsealed(len(UNSEALED_FRAME).to_bytes(2, "big") + UNSEALED_FRAME),
    **{f"sealed: {name}": lambda peer, data=data: peer.send_sealed(data) for name, data in SEALED_GARBAGE.items()},  # type: ignore[misc]
    "a closed socket": lambda peer: peer.leave(),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_garbage_ends_everything_that_waits(start_node, nursery, failure):
    client = await start_node()
    peer = await _mute_peer(SocketNetwork(), client, nursery)
    pending = Pending(client, peer.peer_id, DEADLINE_S)
    with trio.fail_after(10):
        async with trio.open_nursery() as operations:
            await pending.begin(operations)
            began_s = trio.current_time()
            await failure(peer)
    pending.check(began_s, ALLOWED_S)
    pending.check_lost()
    assert not client.is_connected(peer.peer_id)
    assert client.usage().outbound_streams == {}


async def test_a_peer_that_freezes_keeps_no_call_beyond_its_deadline(
    autojump_clock, start_node, nursery, memory_network
):
    client = await start_node(network=memory_network, listen_addresses=())
    peer = await _mute_peer(memory_network, client, nursery)
    pending = Pending(client, peer.peer_id, DEADLINE_S)
    async with trio.open_nursery() as operations:
        peer.freeze()
        began_s = trio.current_time()
        await pending.begin(operations)
        await trio.sleep(ALLOWED_S)
        pending.check(began_s, ALLOWED_S, OPERATIONS - WITHOUT_OWN_DEADLINE)
        assert isinstance(pending.endings["unary"].error, DeadlineExceededError)
        assert not WITHOUT_OWN_DEADLINE & set(pending.endings), "they have no deadline of their own"
    pending.check(began_s, SILENCE_S)


async def test_a_peer_that_freezes_is_missed_where_there_is_no_deadline(
    autojump_clock, start_node, nursery, memory_network
):
    client = await start_node(network=memory_network, listen_addresses=())
    peer = await _mute_peer(memory_network, client, nursery)
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


async def test_a_killed_process_ends_everything_that_waits(start_node, start_peer):
    client, peer = await start_node(), await start_peer()
    await kit.connect_to(client, peer.address)
    pending = Pending(client, peer.peer_id, DEADLINE_S)
    with trio.fail_after(10):
        async with trio.open_nursery() as operations:
            # It is frozen first, so that it cannot say no to a protocol: the end of its socket alone ends what waits.
            peer.signal(signal.SIGSTOP)
            await pending.begin(operations)
            began_s = trio.current_time()
            peer.signal(signal.SIGKILL)
    pending.check(began_s, ALLOWED_S)
    pending.check_lost()
    assert not client.is_connected(peer.peer_id)


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
            peer.signal(signal.SIGSTOP)
            began_s = trio.current_time()
            await pending.begin(operations)
    pending.check(began_s, ALLOWED_S, OPERATIONS - WITHOUT_OWN_DEADLINE)
    pending.check(began_s, SILENCE_S)
    unhurried.check(began_s, SILENCE_S, OPERATIONS - {"open"})
    assert not client.is_connected(peer.peer_id)
