"""With whom a host keeps its record, on a mock clock."""

from __future__ import annotations

from contextlib import contextmanager

import trio
import trio.testing

from hostmesh.discovery.introductions import LOOK_EVERY_S, MAX_INTRODUCED, Introductions
from hostmesh.errors import DeadlineExceededError, ProtocolNotSupportedError
from hostmesh.net.pool import ConnectionEvent, ConnectionWatch
from hostmesh.testing.wallets import make_peer_key
from hostmesh.v1 import discovery_pb2 as pb

PEERS = [make_peer_key(number).peer_id for number in range(8)]


class World:
    """A node, who is connected to it, and what they were handed."""

    def __init__(self):
        self.peers = []
        self.record = pb.SignedHostRecord(envelope=b"first")
        self.handed = []
        self.errors = {}
        self._watch = ConnectionWatch()
        self.introductions = Introductions(self, self, lambda: self.record)

    def connect(self, *peers):
        self.peers += peers
        for peer_id in peers:
            self._watch.note(ConnectionEvent(peer_id=peer_id, connected=True))

    def connected_peers(self):
        return tuple(self.peers)

    @contextmanager
    def watch_connections(self):
        yield self._watch

    async def unary(self, peer_id, method, request, *, timeout_s, **_):
        assert method.name == "Announce"
        await trio.lowlevel.checkpoint()
        if peer_id in self.errors:
            raise self.errors[peer_id]
        self.handed.append((peer_id, request.record.envelope))


async def test_a_newcomer_gets_the_record_and_then_each_renewed_one(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    await trio.sleep(100)
    began_s = trio.current_time()
    world.connect(PEERS[0])
    await trio.testing.wait_all_tasks_blocked()
    assert world.handed == [(PEERS[0], b"first")]
    assert trio.current_time() == began_s
    await trio.sleep(1000)
    assert len(world.handed) == 1
    world.record = pb.SignedHostRecord(envelope=b"second")
    await trio.sleep(LOOK_EVERY_S)
    assert world.handed[1:] == [(PEERS[0], b"second")]


async def test_it_is_kept_with_those_who_were_connected_first(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    world.connect(*PEERS)
    await trio.sleep(100)
    assert sorted(world.handed) == sorted((peer_id, b"first") for peer_id in PEERS[:MAX_INTRODUCED])
    world.peers.remove(PEERS[1])
    await trio.sleep(LOOK_EVERY_S)
    assert world.handed[MAX_INTRODUCED:] == [(PEERS[MAX_INTRODUCED], b"first")]


async def test_who_takes_no_records_leaves_the_place_to_another_and_who_failed_is_asked_again(autojump_clock, nursery):
    world = World()
    world.errors = {PEERS[0]: ProtocolNotSupportedError("no", needed="1.0.0"), PEERS[1]: DeadlineExceededError("late")}
    await nursery.start(world.introductions.run)
    world.connect(*PEERS)
    await trio.sleep(2 * LOOK_EVERY_S)
    assert {peer_id for peer_id, _ in world.handed} == set(PEERS[2:5])
    world.errors.clear()
    await trio.sleep(LOOK_EVERY_S)
    assert world.handed[3:] == [(PEERS[1], b"first")]


async def test_a_node_that_is_no_host_hands_nothing_over(autojump_clock, nursery):
    world = World()
    record, world.record = world.record, None
    await nursery.start(world.introductions.run)
    world.connect(*PEERS)
    await trio.sleep(100)
    assert world.handed == []
    world.record = record
    await trio.sleep(LOOK_EVERY_S)
    assert len(world.handed) == MAX_INTRODUCED
