"""The accounts of a node."""

from __future__ import annotations

import pytest

from hostmesh.errors import UsageError
from hostmesh.net.config import NodeConfig
from hostmesh.net.ledger import Ledger
from hostmesh.net.peer_id import PeerId

ONE, TWO = PeerId("one"), PeerId("two")


def test_places_are_counted_by_peer_and_protocol():
    ledger = Ledger(max_streams_per_protocol=2)
    assert ledger.admit(ONE, "/a")
    assert ledger.admit(ONE, "/a")
    assert not ledger.admit(ONE, "/a")
    assert ledger.admit(ONE, "/b")
    assert ledger.admit(TWO, "/a")
    assert ledger.inbound_streams() == {"/a": 3, "/b": 1}
    assert ledger.refused_streams == 1


def test_a_place_that_was_given_back_is_free_and_nothing_stays_of_a_peer_that_left():
    ledger = Ledger(max_streams_per_protocol=1)
    for _ in range(3):
        assert ledger.admit(ONE, "/a")
        assert not ledger.admit(ONE, "/a")
        ledger.release(ONE, "/a")
    assert ledger.inbound_streams() == {}
    assert not ledger._of_peer, "a table of peers that are gone would grow for ever"
    assert ledger.refused_streams == 3


def test_a_refusal_takes_no_place():
    ledger = Ledger(max_streams_per_protocol=1)
    assert ledger.admit(ONE, "/a")
    for _ in range(5):
        assert not ledger.admit(ONE, "/a")
    ledger.release(ONE, "/a")
    assert ledger.inbound_streams() == {}


class Holder:
    """A connection with streams that nobody reads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._noted = 0
        self.streams: list[int] = []
        self.was_shed = 0
        ledger.join(self)

    @property
    def unread_bytes(self) -> int:
        return sum(self.streams)

    def report_unread(self) -> None:
        change, self._noted = self.unread_bytes - self._noted, self.unread_bytes
        if change:
            self._ledger.note_unread(change)

    def shed(self) -> None:
        self.streams.remove(max(self.streams))
        self.was_shed += 1

    def receive(self, size: int) -> None:
        self.streams.append(size)
        self.report_unread()


def test_up_to_the_limit_nobody_loses_a_stream():
    ledger = Ledger(max_unread_bytes=100)
    one, two = Holder(ledger), Holder(ledger)
    one.receive(60)
    two.receive(40)
    assert ledger.unread_bytes == 100
    assert one.was_shed == two.was_shed == 0


def test_over_the_limit_the_connection_that_holds_most_loses_its_fullest_stream():
    ledger = Ledger(max_unread_bytes=100)
    one, two = Holder(ledger), Holder(ledger)
    for size in (20, 25, 15):
        one.receive(size)
    two.receive(41)
    assert one.streams == [20, 15], "whoever sent last is not to blame"
    assert two.streams == [41]
    assert ledger.unread_bytes == 76


def test_as_many_streams_go_as_it_takes():
    ledger = Ledger(max_unread_bytes=100)
    one, two = Holder(ledger), Holder(ledger)
    for _ in range(10):
        one.receive(5)
    two.receive(98)
    assert (one.streams, two.streams) == ([5] * 10, [])
    two.receive(1000)
    assert (one.streams, two.streams) == ([5] * 10, [])


def test_what_was_read_meanwhile_saves_the_streams():
    """That bytes were read is noted late: the sum is made exact before anybody pays."""
    ledger = Ledger(max_unread_bytes=100)
    one, two = Holder(ledger), Holder(ledger)
    one.receive(90)
    one.streams[0] = 10
    two.receive(80)
    assert one.was_shed == two.was_shed == 0
    assert ledger.unread_bytes == 90


def test_a_connection_that_left_counts_no_more():
    ledger = Ledger(max_unread_bytes=100)
    one, two = Holder(ledger), Holder(ledger)
    one.receive(90)
    ledger.leave(one)
    ledger.note_unread(-90)
    two.receive(100)
    assert two.was_shed == 0
    assert ledger.unread_bytes == 100


@pytest.mark.parametrize("settings", [{"max_streams": 0}, {"max_unread_bytes": 1024 * 1024 - 1}])
def test_limits_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        NodeConfig(**settings)
