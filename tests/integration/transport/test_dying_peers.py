"""A peer that dies or sends garbage ends whatever waits for it at once, with an error of ours."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from tests.integration.transport import kit
from tests.integration.transport.kit import MutePeer
from tests.integration.transport.pending import ALLOWED_S, DEADLINE_S, OPERATIONS, Pending

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.network import SocketNetwork
from hostmesh.net.peer_key import PeerKey

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
    peer = await kit.mute_peer(SocketNetwork(), client, nursery)
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


@pytest.mark.parametrize("is_full", [False, True], ids=["", "with a full line"])
async def test_a_killed_process_ends_everything_that_waits(start_node, start_peer, is_full):
    client, peer = await start_node(), await start_peer()
    await kit.connect_to(client, peer.address)
    pending = Pending(client, peer.peer_id, DEADLINE_S)
    with trio.fail_after(10):
        async with trio.open_nursery() as operations:
            # It is frozen first, so that it cannot say no to a protocol: the end of its socket alone ends what waits.
            peer.signal(signal.SIGSTOP)
            waiting = await pending.fill_line(operations) if is_full else frozenset()
            await pending.begin(operations)
            began_s = trio.current_time()
            peer.signal(signal.SIGKILL)
    # What began when the line was full stayed in this process.
    pending.check(began_s, ALLOWED_S, unsent=OPERATIONS if is_full else frozenset({"open"}))
    assert waiting <= set(pending.endings)
    pending.check_lost()
    assert not client.is_connected(peer.peer_id)


HANDSHAKES = {
    "nothing": b"",
    "noise": bytes(range(256)) * 40,
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no security": b"\x13/multistream/1.0.0\n\x03na\n",
    "a handshake that is none": b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\x00\x60" + bytes(96),
    "a line without end": b"\x13/multistream/1.0.0\n" + b"\xff" * 64,
}


@pytest.mark.parametrize("words", HANDSHAKES.values(), ids=HANDSHAKES.keys())
@pytest.mark.parametrize("leaves", [True, False], ids=["and leaves", "and stays"])
async def test_garbage_instead_of_a_handshake_ends_a_dial(start_node, nursery, words, leaves):
    """Whoever says what is no handshake is left at once; whoever says too little has the time that the caller gives."""

    async def listen(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(words)
            if not leaves:
                async for _ in stream:
                    pass

    (listener,) = await nursery.start(partial(trio.serve_tcp, listen, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    client, peer_id = await start_node(), PeerKey.generate().peer_id
    began_s = trio.current_time()
    with trio.fail_after(10), pytest.raises(DialError) as caught:
        await client.connect(
            peer_id, [f"/ip4/127.0.0.1/tcp/{port}"], origin=AddressOrigin.CONFIGURED, timeout_s=DEADLINE_S
        )
    took_s = trio.current_time() - began_s
    print(f"{caught.value.stage} after {took_s:.3f} s: {caught.value}")
    assert took_s <= ALLOWED_S
    assert not caught.value.may_have_executed
    assert client.usage().connections == 0
