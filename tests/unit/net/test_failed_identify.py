"""Identify that fails leaves nothing on the connection, which lives on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from tests.support.wire_peer import line, proposal
from tests.support.yamux_wire import ACK, FIN, RST, data, update
from tests.unit.net.conftest import Rig

from hostmesh.net.address import AddressOrigin
from hostmesh.net.identify import IDENTIFY_ID, Identify, Identity, encode_identity
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.pool import ConnectionPool
from hostmesh.wire.framing import encode_length

STREAM = 1
TIMEOUT_S = 10.0
IDENTITY = Identity(protocols=("/test/echo/1",), addresses=("/ip4/9.9.9.9/tcp/4001",), agent="another")

Ask = Callable[[], Awaitable[tuple[Rig, Identify, trio.Event]]]


@pytest.fixture
def ask(start_connection, nursery: trio.Nursery) -> Ask:
    """Let a connection be asked who its peer is, up to the peer's turn; the event is set at the end."""

    async def ask_() -> tuple[Rig, Identify, trio.Event]:
        rig = await start_connection()
        learned: list[tuple[str, ...]] = []

        def learn(peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
            learned.append(tuple(addresses))

        identify = Identify(PeerKey.generate().public_bytes, tuple, tuple, ConnectionPool(1), learn)
        done = trio.Event()

        async def run() -> None:
            await identify.ask(rig.connection)
            done.set()

        nursery.start_soon(run)
        await rig.settle()
        return rig, identify, done

    return ask_


@pytest.mark.parametrize(
    "answer",
    [
        [data(STREAM, proposal(IDENTIFY_ID), ACK), *[data(STREAM, encode_length(60_000) + bytes(40_000))] * 5],
        [data(STREAM, proposal(IDENTIFY_ID) + b"\xff" * 20, ACK)],
        [data(STREAM, proposal(IDENTIFY_ID) + b"\x00" * 11, ACK)],
        [data(STREAM, proposal(IDENTIFY_ID) + b"\x10abc", ACK), update(STREAM, 0, FIN)],
        [data(STREAM, proposal(IDENTIFY_ID) + b"\x10abc", ACK), update(STREAM, 0, RST)],
        [data(STREAM, line("/multistream/1.0.0") + line("na"), ACK)],
        [data(STREAM, proposal(IDENTIFY_ID) + encode_length(60_000) + bytes(1000), ACK)],
        [data(STREAM, proposal(IDENTIFY_ID), ACK)],
        [],
    ],
    ids=["too long", "nonsense", "many parts", "cut short", "reset", "not spoken", "slow", "mute", "silent"],
)
async def test_identify_that_fails_leaves_no_stream_and_no_bytes(autojump_clock, ask, answer):
    rig, identify, done = await ask()
    for frame in answer:
        await rig.peer.send(frame)
    with trio.fail_after(TIMEOUT_S + 0.1):
        await done.wait()
    assert identify.protocols_of(rig.connection.peer_id) == ()
    assert rig.connection.streams == set()
    assert rig.connection.muxer.yamux.streams == {}
    # What comes late is dropped.
    await rig.peer.send(data(STREAM, bytes(1000)))
    frames = await rig.peer.arrived()
    assert rig.ledger.unread_bytes == 0
    assert not rig.connection.is_closed
    if update(STREAM, 0, RST) not in answer:
        assert [frame.stream_id for frame in frames if frame.flags & RST] == [STREAM]


async def test_identify_that_succeeds_ends_in_order(autojump_clock, ask):
    rig, identify, done = await ask()
    said = encode_identity(IDENTITY, public_key=PeerKey.generate().public_bytes, observed=None)
    await rig.peer.send(data(STREAM, proposal(IDENTIFY_ID) + said, ACK), update(STREAM, 0, FIN))
    with trio.fail_after(1):
        await done.wait()
    assert identify.protocols_of(rig.connection.peer_id) == IDENTITY.protocols
    assert rig.connection.muxer.yamux.streams == {}
    assert [frame.flags for frame in await rig.peer.arrived()] == [FIN]


async def test_an_answer_that_is_read_after_the_connection_has_ended_is_forgotten(autojump_clock, ask):
    # Who asks anew has a task of its own, which the connection's end does not cancel.
    rig, identify, done = await ask()
    said = encode_identity(IDENTITY, public_key=PeerKey.generate().public_bytes, observed=None)
    stream = next(iter(rig.connection.streams))
    stream.take_data(proposal(IDENTIFY_ID) + said)
    stream.take_end()
    rig.connection.muxer.abort()
    await done.wait()
    assert rig.connection.is_closed
    assert identify.protocols_of(rig.connection.peer_id) == ()
