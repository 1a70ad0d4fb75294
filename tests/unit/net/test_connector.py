"""A connection over a byte stream that somebody else got: what its failures say."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from hostmesh.errors import DialError
from hostmesh.net.connector import Connector
from hostmesh.net.network import SocketNetwork
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.upgrade import Upgrader
from hostmesh.system import System

TIMEOUT_S = 3.0


@pytest.fixture
def connector() -> Connector:
    """One that adopts nothing: no handshake here comes so far."""

    async def adopt(*_: object) -> object:
        raise AssertionError("nobody proved who it is")

    key = PeerKey.generate()
    return Connector(
        key.peer_id,
        SocketNetwork(),
        Upgrader(key),
        ConnectionPool(10),
        frozenset,
        adopt,  # type: ignore[arg-type]
        system=System(),
    )


@pytest.mark.parametrize("we_dial", [True, False])
async def test_a_stream_that_stays_silent_is_closed_with_the_reason(autojump_clock, connector, we_dial):
    ours, theirs = memory_stream_pair()
    peer_id = PeerKey.generate().peer_id if we_dial else None
    began_s = trio.current_time()
    with pytest.raises(DialError, match="over the stream: no answer in time") as caught:
        await connector.adopt_stream(ours, peer_id, TIMEOUT_S)
    assert caught.value.stage == "handshake"
    assert trio.current_time() - began_s == pytest.approx(TIMEOUT_S)
    with trio.fail_after(1):
        while await theirs.receive_some():
            pass


async def test_a_stream_that_says_nonsense_is_closed_with_the_reason(autojump_clock, connector):
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"\xff" * 100)
    with pytest.raises(DialError, match=r"over the stream: .{5,}") as caught:
        await connector.adopt_stream(ours, None, TIMEOUT_S)
    assert "in time" not in caught.value.message
