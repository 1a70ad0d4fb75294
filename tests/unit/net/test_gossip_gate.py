"""What peers and authors of gossip may cost, and how much of it is remembered."""

from __future__ import annotations

import pytest

from hostmesh.net.gossip import (
    CHECK_BURST,
    CHECKS_PER_S,
    MAX_REJECTIONS,
    MAX_REMEMBERED,
    MUTE_S,
    PEER_CHECK_BURST,
    PEER_CHECKS_PER_S,
    Gatekeeper,
    Pace,
    Recent,
    SeenIds,
    TopicLimits,
)
from hostmesh.net.peer_id import PeerId

LIMITS = TopicLimits(author_per_s=0.5, author_burst=2)


def peer(number):
    return PeerId(f"peer {number}")


def checks(gate, forwarder, count, now_s):
    """Return how many of so many messages of as many authors are looked at."""
    return sum(gate.may_check(forwarder, "topic", PeerId(f"{forwarder} {n}"), LIMITS, now_s) for n in range(count))


def test_a_peer_has_its_burst_and_then_its_rate():
    gate = Gatekeeper()
    assert checks(gate, peer(1), 2 * PEER_CHECK_BURST, 0.0) == PEER_CHECK_BURST
    assert checks(gate, peer(1), 1000, 1.0) == PEER_CHECKS_PER_S
    assert checks(gate, peer(2), 10, 1.0) == 10


def test_all_peers_together_have_no_more_than_all_may_cost():
    gate = Gatekeeper()
    looked_at = sum(checks(gate, peer(number), 200, 0.0) for number in range(20))
    assert looked_at == CHECK_BURST
    assert sum(checks(gate, peer(number), 20, 1.0) for number in range(20)) == CHECKS_PER_S


def test_an_author_is_charged_for_what_it_signed_and_for_nothing_else():
    gate, author = Gatekeeper(), PeerId("author")
    for _ in range(10):
        assert gate.may_check(peer(1), "topic", author, LIMITS, 0.0)  # forged, as it turns out
    for _ in range(2):
        gate.charge_author("topic", author, LIMITS, 0.0)
    assert not gate.may_check(peer(1), "topic", author, LIMITS, 0.0)
    assert not gate.may_check(peer(2), "topic", author, LIMITS, 0.0)
    assert gate.may_check(peer(2), "another topic", author, LIMITS, 0.0)
    assert gate.may_check(peer(1), "topic", author, LIMITS, 2.0)


def test_who_forwards_too_much_that_does_not_hold_is_muted_for_ten_minutes():
    gate = Gatekeeper()
    assert [gate.reject(peer(1), 0.0) for _ in range(20)] == [*[False] * MAX_REJECTIONS, True, False, False, False]
    assert gate.is_muted(peer(1), MUTE_S - 1)
    assert not gate.may_check(peer(1), "topic", peer(3), LIMITS, MUTE_S - 1)
    assert not gate.is_muted(peer(1), MUTE_S)
    assert gate.may_check(peer(1), "topic", peer(3), LIMITS, MUTE_S)
    assert not gate.is_muted(peer(2), 0.0)


def test_now_and_then_a_message_that_does_not_hold_mutes_nobody():
    gate = Gatekeeper()
    assert not any(gate.reject(peer(1), 30.0 * number) for number in range(1000))


def test_the_accounts_of_as_many_peers_as_may_be_are_kept():
    gate = Gatekeeper()
    for number in range(3 * MAX_REMEMBERED):
        gate.may_want(peer(number), 0.0)
        gate.charge_author("topic", peer(number), LIMITS, 0.0)
    assert len(gate._accounts) == len(gate._authors) == MAX_REMEMBERED
    assert peer(3 * MAX_REMEMBERED - 1) in gate._accounts


def test_who_is_ahead_of_its_pace_waits():
    pace = Pace(per_s=10, burst=20)
    assert [pace.owe(1.0, 20), pace.owe(1.0, 5), pace.owe(1.5, 10)] == pytest.approx([0.0, 0.5, 1.0])
    assert pace.owe(0.0, 0) == pytest.approx(1.0)  # a clock that goes back gives nothing
    assert pace.owe(100.0, 20) == 0


def test_recent_items_are_bounded_and_the_last_of_each():
    recent = Recent(most=3, for_s=10)
    for number in range(100):
        recent.put(number % 7, number, float(number))
    assert recent.items(99.0) == [97, 98, 99]
    assert recent.items(108.5) == [99]
    assert recent.items(200.0) == []


def test_ids_are_remembered_for_a_while_and_only_so_many():
    seen = SeenIds(most=100, for_s=10)
    for number in range(1000):
        assert seen.add(number.to_bytes(4, "big"), number / 1000)
    assert len(seen) == 100
    assert not seen.add((999).to_bytes(4, "big"), 5.0)
    assert not seen.has((0).to_bytes(4, "big"), 5.0)
    assert not seen.has((999).to_bytes(4, "big"), 11.0)
    assert seen.add((999).to_bytes(4, "big"), 11.0)
