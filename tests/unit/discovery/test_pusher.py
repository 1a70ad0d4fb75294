"""Who hears of a change where not all connected peers can."""

from __future__ import annotations

from discovery_world import FakeNetwork, FakeNode, FakePeer, make_description, make_key, make_publisher
from trio.testing import MockClock

from hostmesh.discovery.pusher import MAX_PUSHED


async def test_those_who_are_told_first_hear_of_a_change_however_late_they_came(autojump_clock: MockClock) -> None:
    network = FakeNetwork()
    node = FakeNode(network)
    peers = [FakePeer(make_key(f"peer {number}").peer_id) for number in range(MAX_PUSHED + 6)]
    for peer in peers:
        network.peers[peer.peer_id] = peer
        node.connected[peer.peer_id] = None
    publisher = make_publisher(node)
    await publisher.announce(make_description("m"))
    assert [len(peer.got) for peer in peers] == [1] * MAX_PUSHED + [0] * 6
    publisher.told_first = lambda: {peers[-1].peer_id, make_key("who is not connected").peer_id}
    for tell in (publisher.drain, publisher.withdraw):
        await tell()
        assert peers[-1].got[-1] == publisher.current()
    assert sum(len(peer.got) for peer in peers) == 3 * MAX_PUSHED
    assert [len(peer.got) for peer in peers[-7:]] == [1, 0, 0, 0, 0, 0, 2], "the others in their order"
