"""Who is dialled when, of those that somebody wants: against a model that knows only the rules."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostmesh.net.backoff import STABLE_S
from hostmesh.net.peer_id import PeerId
from hostmesh.net.wanted import MAX_RETRY_S, WantedPeers

PEER, OTHER = PeerId("peer"), PeerId("other")


def wanted_peer(now: float = 0.0) -> WantedPeers:
    table = WantedPeers()
    table.want(PEER, is_connected=False, now=now)
    return table


def test_it_is_dialled_at_once_and_one_dial_at_a_time():
    table = wanted_peer()
    assert table.take_due(0.0, 8) == (PEER,)
    assert table.take_due(1e9, 8) == ()
    assert table.next_due_s() == math.inf


def test_pauses_double_to_half_a_minute():
    table, now, pauses = wanted_peer(), 0.0, []
    for failures in range(1, 9):
        assert table.take_due(now, 8) == (PEER,)
        noted = table.note_failed(PEER, now, 1.0)
        assert noted is not None
        assert noted[0] == failures
        pauses.append(noted[1])
        assert table.take_due(now + noted[1] - 0.001, 8) == ()
        now = table.next_due_s()
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pauses[-1] == MAX_RETRY_S


def test_a_connection_that_lasted_begins_anew_and_one_that_did_not_goes_on():
    table = wanted_peer()
    for _ in range(3):
        table.take_due(table.next_due_s(), 8)
        table.note_failed(PEER, 0.0, 1.0)
    table.note_connected(PEER, 100.0)
    assert table.next_due_s() == math.inf
    assert table.note_disconnected(PEER, 100.1, 1.0) == (4, 8.0)
    table.note_connected(PEER, 200.0)
    assert table.note_disconnected(PEER, 200.0 + STABLE_S, 0.0) == (1, 0.5)


def test_a_connected_peer_that_is_wanted_is_not_dialled_until_it_goes():
    table = WantedPeers()
    table.want(PEER, is_connected=True, now=0.0)
    assert table.take_due(1e6, 8) == ()
    assert table.note_disconnected(PEER, 1e6, 0.0) == (1, 0.5)
    assert table.next_due_s() == 1e6 + 0.5


def test_several_wishes_are_counted():
    table = wanted_peer()
    table.want(PEER, is_connected=False, now=0.0)
    assert not table.unwant(PEER)
    assert PEER in table
    assert table.unwant(PEER)
    assert PEER not in table
    assert table.take_due(1e9, 8) == ()


def test_there_is_a_bound():
    table = WantedPeers(2)
    table.want(PEER, is_connected=False, now=0.0)
    table.want(OTHER, is_connected=False, now=0.0)
    assert table.is_full
    table.want(OTHER, is_connected=False, now=0.0)
    with pytest.raises(ValueError, match="2 peers"):
        table.want(PeerId("third"), is_connected=False, now=0.0)


def test_what_comes_too_late_changes_nothing():
    table = wanted_peer()
    table.take_due(0.0, 8)
    table.note_connected(PEER, 1.0)
    assert table.note_failed(PEER, 2.0, 1.0) is None
    assert table.next_due_s() == math.inf
    table.unwant(PEER)
    assert table.note_disconnected(PEER, 3.0, 1.0) is None
    assert table.note_failed(PEER, 3.0, 1.0) is None
    table.note_connected(PEER, 4.0)
    assert len(table) == 0


def test_hurry_dials_all_but_the_connected_as_for_the_first_time():
    table = wanted_peer()
    table.want(OTHER, is_connected=True, now=0.0)
    for _ in range(5):
        table.take_due(table.next_due_s(), 8)
        table.note_failed(PEER, 0.0, 1.0)
    table.hurry(50.0)
    assert table.take_due(50.0, 8) == (PEER,)
    assert table.note_failed(PEER, 60.0, 1.0) == (1, 1.0)


class Wanting(RuleBasedStateMachine):
    """Whatever happens in whatever order: who is wanted and not connected is being dialled, or will be in time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = WantedPeers(4)
        self.now = 0.0
        self.wishes: dict[PeerId, int] = {}
        self.connected: set[PeerId] = set()
        self.dialling: set[PeerId] = set()

    peers = st.sampled_from([PeerId(name) for name in "abcdef"])
    units = st.floats(0, 1)

    @rule(peer=peers)
    def want(self, peer: PeerId) -> None:
        if peer not in self.wishes and self.table.is_full:
            assert len(self.wishes) == 4
            return
        self.table.want(peer, is_connected=peer in self.connected, now=self.now)
        self.wishes[peer] = self.wishes.get(peer, 0) + 1

    @precondition(lambda self: self.wishes)
    @rule(data=st.data())
    def unwant(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.wishes)))
        self.wishes[peer] -= 1
        assert self.table.unwant(peer) == (not self.wishes[peer])
        if not self.wishes[peer]:
            del self.wishes[peer]
            self.dialling.discard(peer)

    @rule(passed_s=st.floats(0, 40), limit=st.integers(1, 3))
    def pass_time(self, passed_s: float, limit: int) -> None:
        self.now += passed_s
        due = self.table.take_due(self.now, limit)
        assert len(due) <= limit
        assert not self.dialling & set(due)
        assert not self.connected & set(due)
        self.dialling |= set(due)

    @rule(peer=peers)
    def connect(self, peer: PeerId) -> None:
        self.connected.add(peer)
        self.dialling.discard(peer)
        self.table.note_connected(peer, self.now)

    @rule(peer=peers, unit=units)
    def disconnect(self, peer: PeerId, unit: float) -> None:
        noted = self.table.note_disconnected(peer, self.now, unit)
        assert (noted is not None) == (peer in self.wishes and peer in self.connected)
        self.connected.discard(peer)

    @rule(peer=peers, unit=units)
    def fail(self, peer: PeerId, unit: float) -> None:
        noted = self.table.note_failed(peer, self.now, unit)
        assert (noted is not None) == (peer in self.dialling)
        self.dialling.discard(peer)

    @rule()
    def hurry(self) -> None:
        self.table.hurry(self.now)
        self.dialling.clear()

    @invariant()
    def nobody_is_forgotten(self) -> None:
        waiting = set(self.wishes) - self.connected - self.dialling
        assert (self.table.next_due_s() < math.inf) == bool(waiting)
        assert self.table.next_due_s() <= self.now + MAX_RETRY_S or not waiting
        assert len(self.table) == len(self.wishes) <= 4


TestWanting = Wanting.TestCase
TestWanting.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
