"""With whom a host keeps its record, on a mock clock."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import contextmanager

import trio
import trio.testing

from hostmesh.discovery.introductions import (
    LOOK_EVERY_S,
    MAX_BACK_OFF_S,
    MAX_CALLS,
    MAX_INTRODUCED,
    Introductions,
)
from hostmesh.errors import DeadlineExceededError, ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.pool import ConnectionEvent, ConnectionWatch
from hostmesh.testing.wallets import make_peer_key
from hostmesh.v1 import discovery_pb2 as pb

PEERS = [make_peer_key(number).peer_id for number in range(40)]
LATE = DeadlineExceededError("late")


class World:
    """A node, who is connected to it, and what they were handed."""

    def __init__(self):
        self.peers = []
        self.record = pb.SignedHostRecord(envelope=b"first")
        self.handed = []
        self.calls = []
        """Peer and time of each call, also of those that failed."""
        self.errors = {}
        self.views = {}
        self.bootstrap = []
        self._watch = ConnectionWatch()
        self.revocation = None
        """Why the record is not taken."""
        self.refused = []
        self.introductions = Introductions(
            self, self, lambda: self.record, lambda *refusal: self.refused.append(refusal)
        )

    def connect(self, *peers, network=None, is_outbound=False):
        """Connect peers, each from a network of its own unless one is given."""
        for peer_id in peers:
            self.peers.append(peer_id)
            number = PEERS.index(peer_id)
            address = f"/ip4/198.51.{number}.7/tcp/1" if network is None else f"/ip4/{network}.{number}/tcp/1"
            self.views[peer_id] = ConnectionView(
                peer_id=peer_id, is_outbound=is_outbound, address=address, rtt_ms=None, lasted_s=0.0
            )
            self._watch.note(ConnectionEvent(peer_id=peer_id, connected=True))

    def disconnect(self, peer_id):
        self.peers.remove(peer_id)
        self._watch.note(ConnectionEvent(peer_id=peer_id, connected=False))

    def renew(self, name):
        self.record = pb.SignedHostRecord(envelope=name.encode())

    def connected_peers(self):
        return tuple(self.peers)

    def connections(self):
        return tuple(self.views[peer_id] for peer_id in self.peers)

    def bootstrap_outcomes(self):
        return {f"/ip4/192.0.2.1/tcp/1/p2p/{peer_id}": "connected" for peer_id in self.bootstrap} | {"/no": "dial"}

    @contextmanager
    def watch_connections(self):
        yield self._watch

    async def unary(self, peer_id, method, request, *, timeout_s, **_):
        assert method.name == "Announce"
        self.calls.append((peer_id, trio.current_time()))
        await trio.lowlevel.checkpoint()
        if peer_id in self.errors:
            raise self.errors[peer_id]
        self.handed.append((peer_id, request.record.envelope))
        return pb.AnnounceResponse(revocation=self.revocation)

    def had(self, name):
        """Who was handed a record."""
        return {peer_id for peer_id, envelope in self.handed if envelope == name.encode()}


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


async def test_who_does_not_take_it_says_that_the_binding_is_void(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    world.connect(PEERS[0])
    await trio.sleep(1)
    assert world.refused == []
    world.revocation = pb.BindingRevocation(least_epoch=3)
    world.renew("second")
    await trio.sleep(LOOK_EVERY_S)
    assert world.refused == [(PEERS[0], world.revocation)]


async def test_it_is_kept_with_those_who_were_connected_first(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    world.connect(*PEERS[:8])
    await trio.sleep(100)
    assert sorted(world.handed) == sorted((peer_id, b"first") for peer_id in PEERS[:MAX_INTRODUCED])
    world.peers.remove(PEERS[1])
    await trio.sleep(LOOK_EVERY_S)
    assert world.handed[MAX_INTRODUCED:] == [(PEERS[MAX_INTRODUCED], b"first")]


async def test_bootstrap_nodes_come_first_then_whom_we_dialled_then_strangers(autojump_clock, nursery):
    world = World()
    world.bootstrap = [PEERS[20], PEERS[21]]
    world.connect(*PEERS[:8])
    world.connect(PEERS[10], is_outbound=True)
    world.connect(PEERS[20], is_outbound=True)
    world.connect(PEERS[21])  # it dialled us first
    await nursery.start(world.introductions.run)
    await trio.sleep(LOOK_EVERY_S)
    assert world.had("first") == {PEERS[20], PEERS[21], PEERS[10], PEERS[0]}


async def test_a_bootstrap_node_that_restarts_gets_the_record_again_and_each_renewed_one(autojump_clock, nursery):
    """Strangers that stayed meanwhile do not take its place."""
    world = World()
    boot = PEERS[7]
    world.bootstrap = [boot]
    await nursery.start(world.introductions.run)
    world.connect(boot, is_outbound=True)
    await trio.sleep(20)
    world.connect(*PEERS[:4])
    await trio.sleep(20)
    world.disconnect(boot)
    await trio.sleep(20)
    assert world.had("first") == {boot, *PEERS[:4]}
    world.connect(boot, is_outbound=True)
    await trio.testing.wait_all_tasks_blocked()
    assert world.handed[-1] == (boot, b"first"), "its table is empty now"
    for number in range(10):
        world.renew(f"renewed {number}")
        await trio.sleep(60)
        assert world.had(f"renewed {number}") == {boot, *PEERS[:3]}


async def test_a_restart_between_two_looks_is_noticed(autojump_clock, nursery):
    world = World()
    world.bootstrap = [PEERS[0]]
    await nursery.start(world.introductions.run)
    world.connect(PEERS[0], is_outbound=True)
    await trio.sleep(1)
    world.disconnect(PEERS[0])
    world.connect(PEERS[0], is_outbound=True)
    await trio.sleep(2 * LOOK_EVERY_S)
    assert world.handed == [(PEERS[0], b"first")] * 2


async def test_one_network_has_one_place_while_there_are_others(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    world.connect(*PEERS[:8], network="198.51.100")
    await trio.sleep(LOOK_EVERY_S)
    assert world.had("first") == set(PEERS[:MAX_INTRODUCED]), "nobody else wants the places"
    world.connect(*PEERS[10:13])
    world.connect(PEERS[13], network="198.51.100", is_outbound=True)
    await trio.sleep(2 * LOOK_EVERY_S)
    world.renew("second")
    await trio.sleep(LOOK_EVERY_S)
    assert world.had("second") == set(PEERS[10:14])


async def test_who_takes_no_records_or_failed_leaves_the_place_to_another_and_is_asked_again(autojump_clock, nursery):
    world = World()
    world.errors = {PEERS[0]: ProtocolNotSupportedError("no", needed="1.0.0"), PEERS[1]: LATE}
    await nursery.start(world.introductions.run)
    world.connect(*PEERS[:8])
    await trio.sleep(2 * LOOK_EVERY_S + 1)
    assert world.had("first") == set(PEERS[2:6])
    world.errors.clear()
    await trio.sleep(MAX_BACK_OFF_S)
    assert world.had("first") == set(PEERS[1:6])
    assert Counter(peer_id for peer_id, _ in world.calls)[PEERS[0]] == 1


async def test_a_peer_that_fails_is_called_less_and_less_often(autojump_clock, nursery):
    world = World()
    world.errors = {PEERS[0]: LATE}
    await nursery.start(world.introductions.run)
    world.connect(PEERS[0])
    await trio.sleep(3600)
    times = [at_s for _, at_s in world.calls]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[:4] == [LOOK_EVERY_S, 2 * LOOK_EVERY_S, 4 * LOOK_EVERY_S, 8 * LOOK_EVERY_S]
    assert set(pauses[4:]) == {MAX_BACK_OFF_S}
    world.errors.clear()
    await trio.sleep(MAX_BACK_OFF_S)
    assert len(world.handed) == 1
    world.errors = {PEERS[0]: LATE}
    world.renew("second")
    world.calls.clear()
    await trio.sleep(2 * LOOK_EVERY_S + 1)
    assert world.calls[1][1] - world.calls[0][1] == LOOK_EVERY_S, "a success ends the row of failures"


async def test_a_stranger_who_comes_and_goes_causes_no_calls_to_others(autojump_clock, nursery):
    """Four peers refuse, and a fifth reconnects fifty times a second, for ten seconds."""
    world = World()
    refused = RpcError("no room", status=StatusCode.RESOURCE_EXHAUSTED)
    world.errors = dict.fromkeys(PEERS[:4], refused)
    await nursery.start(world.introductions.run)
    world.connect(*PEERS[:4], is_outbound=True)
    await trio.sleep(0.1)
    for number in range(500):
        (world.disconnect if number % 2 else world.connect)(PEERS[5])
        await trio.sleep(0.02)
    calls = Counter(peer_id for peer_id, _ in world.calls)
    assert {peer_id: calls[peer_id] for peer_id in PEERS[:4]} == dict.fromkeys(PEERS[:4], 1)
    assert calls[PEERS[5]] <= 1


async def test_a_peer_that_reconnects_is_not_called_for_it_each_time(autojump_clock, nursery):
    world = World()
    await nursery.start(world.introductions.run)
    for _ in range(600):
        world.connect(PEERS[0])
        await trio.sleep(0.1)
        world.disconnect(PEERS[0])
    times = [at_s for _, at_s in world.calls]
    assert 3 <= len(times) <= 5
    assert all(after - before >= LOOK_EVERY_S for before, after in itertools.pairwise(times))


async def test_many_keys_set_no_pace_and_bootstrap_nodes_do_not_wait_for_them(autojump_clock, nursery):
    """Each stranger comes with a key and a network of its own, refuses, and goes for the next one."""
    world = World()
    world.bootstrap = [PEERS[0]]
    strangers = PEERS[1:]
    world.errors = dict.fromkeys(strangers, LATE)
    await nursery.start(world.introductions.run)
    for number in range(200):
        world.connect(strangers[number % len(strangers)])
        await trio.sleep(0.3)
        world.disconnect(strangers[number % len(strangers)])
        if number == 20:
            assert len(world.calls) == MAX_CALLS, "strangers get no more for now"
            connected_s = trio.current_time()
            world.connect(PEERS[0], is_outbound=True)
    assert world.handed == [(PEERS[0], b"first")]
    strange = [at_s for peer_id, at_s in world.calls if peer_id != PEERS[0]]
    assert len(strange) > MAX_CALLS
    for index, at_s in enumerate(strange[MAX_CALLS:]):
        assert at_s - strange[index] >= LOOK_EVERY_S
    assert [at_s - connected_s <= 1 for peer_id, at_s in world.calls if peer_id == PEERS[0]] == [True]
    world.calls.clear()
    await trio.sleep(1000)
    assert world.calls == []
    assert set(world.introductions._places) == {PEERS[0]}, "who left is forgotten"


async def test_a_node_that_is_no_host_hands_nothing_over(autojump_clock, nursery):
    world = World()
    record, world.record = world.record, None
    await nursery.start(world.introductions.run)
    world.connect(*PEERS[:8])
    await trio.sleep(100)
    assert world.handed == []
    world.record = record
    await trio.sleep(LOOK_EVERY_S)
    assert len(world.handed) == MAX_INTRODUCED
