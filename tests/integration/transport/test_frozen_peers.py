"""A stopped process keeps no call beyond its deadline, in real time; see also tests/simulated/test_frozen_nodes.py."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.integration.transport.pending import (
    ALLOWED_S,
    DEADLINE_S,
    OPERATIONS,
    SILENCE_S,
    WITHOUT_OWN_DEADLINE,
    Pending,
)

from hostmesh.errors import DeadlineExceededError, DialError, TransportError
from hostmesh.net.address import AddressOrigin
from hostmesh.rpc.client import RpcClient
from hostmesh.system import System

TIMED = OPERATIONS - WITHOUT_OWN_DEADLINE


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
