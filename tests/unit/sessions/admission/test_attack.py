"""When a host is under attack, and what it asks of strangers meanwhile."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import ConfigError
from hostmesh.sessions.admission.attack import AttackDetector, AttackLimits, Gauge


def flood(detector: AttackDetector, *, per_s: float, since: float, for_s: float) -> float:
    """Call to no end at an even rate; return when it ended."""
    for call in range(int(per_s * for_s)):
        detector.called(since + call / per_s)
    return since + for_s


def honest(detector: AttackDetector, now: float, *, calls: int = 2) -> None:
    for _ in range(calls):
        detector.called(now)
    detector.came_to_something(now, calls=calls)


@given(st.floats(0.1, 500), st.floats(0, 1e9))
def test_a_gauge_tells_the_rate(per_s: float, start: float) -> None:
    gauge = Gauge(window_s=5.0)
    for event in range(int(per_s * 60) + 1):
        gauge.add(1.0, start + event / per_s)
    # Right after an event it is above the mean by up to one event's weight.
    assert per_s * 0.99 <= gauge.per_s(start + int(per_s * 60) / per_s) <= per_s + 0.21


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 10)), max_size=40), st.floats(0.01, 100))
def test_a_gauge_is_below_a_bound_since_it_fell_under_it(events: list[tuple[float, float]], bound: float) -> None:
    gauge, now = Gauge(window_s=5.0), 0.0
    for weight, later in events:
        now += later
        gauge.add(weight, now)
        assert gauge.per_s(now) >= 0.0
    far = now + 1000.0
    since = gauge.below_since(bound, far)
    if since == -math.inf:
        assert not events
        return
    assert now <= since <= far or gauge.per_s(now) < bound
    if since > now:
        assert gauge.per_s(since) == pytest.approx(bound)


def test_honest_clients_are_no_attack_however_many_come() -> None:
    detector = AttackDetector()
    for second in range(120):
        for client in range(500):
            honest(detector, second + client / 500)
    assert detector.bits(120.0) == 0
    assert detector.nothing_per_s(120.0) < 1


def test_honest_clients_who_did_work_do_not_keep_an_attack_going() -> None:
    detector = AttackDetector()
    end = flood(detector, per_s=200, since=0.0, for_s=5.0)
    assert detector.bits(end) > 0
    now = end
    while now < end + 90:  # each asks, tries without work, and comes again with it
        honest(detector, now, calls=3)
        now += 0.1
    assert detector.bits(now) == 0


def test_an_attack_begins_at_once_and_ends_after_a_quiet_minute() -> None:
    detector = AttackDetector()
    flood(detector, per_s=40, since=0.0, for_s=60.0)
    assert detector.bits(60.0) == 0
    end = flood(detector, per_s=60, since=60.0, for_s=20.0)
    assert detector.bits(end) == 14
    # Below the upper bound it goes on for as long as it is above the lower one.
    end = flood(detector, per_s=20, since=end, for_s=300.0)
    assert detector.bits(end) == 14
    end = flood(detector, per_s=5, since=end, for_s=50.0)
    assert detector.bits(end) == 14
    end = flood(detector, per_s=5, since=end, for_s=30.0)
    assert detector.bits(end) == 0


def test_an_attack_that_nobody_watched_end_has_ended() -> None:
    detector = AttackDetector()
    end = flood(detector, per_s=500, since=0.0, for_s=10.0)
    assert detector.bits(end) > 0
    assert detector.bits(end + 3600) == 0


def test_an_attacker_who_comes_and_goes_switches_nothing() -> None:
    detector = AttackDetector()
    now, seen = 0.0, []
    for _ in range(20):
        now = flood(detector, per_s=300, since=now, for_s=4.0)
        seen.append(detector.bits(now))
        now += 40.0
        seen.append(detector.bits(now))
    assert set(seen) == {14}


def test_noise_without_work_does_not_raise_the_price() -> None:
    detector = AttackDetector()
    end = flood(detector, per_s=2000, since=0.0, for_s=30.0)
    assert detector.bits(end) == 14


def test_the_price_follows_the_work_that_is_done() -> None:
    detector = AttackDetector(AttackLimits(first_bits=10, max_bits=16))
    now, prices = 0.0, []
    for tenth in range(1200):  # two minutes of an attack in which many pay
        now = tenth / 10
        for call in range(20):
            detector.called(now + call / 1000)
        if tenth < 600:
            for _ in range(5):
                detector.worked(now)
        prices.append(detector.bits(now))
    assert prices[19] == 10
    assert max(prices) == 16
    assert prices[590] == 16
    # Nobody pays any more: it falls step by step to the first price, and the attack still is one.
    assert prices[-1] == 10
    changes = [(before, after) for before, after in pairwise(prices[19:]) if before != after]
    assert all(abs(after - before) == 1 for before, after in changes)


def test_without_bits_there_is_never_work() -> None:
    detector = AttackDetector(AttackLimits(max_bits=0))
    assert detector.bits(flood(detector, per_s=2000, since=0.0, for_s=30.0)) == 0


@pytest.mark.parametrize("calls", [0, 1])
def test_full_tables_are_an_attack_until_they_have_room_for_a_minute(calls: int) -> None:
    detector = AttackDetector()
    detector.filled(0.9, 0.0)
    assert detector.bits(0.0) == 0
    detector.filled(0.95, 1.0)
    assert detector.bits(1.0) == 14
    detector.filled(0.8, 500.0)
    detector.called(500.0, calls)
    assert detector.bits(1000.0) == 14
    detector.filled(0.5, 1001.0)
    assert detector.bits(1001.0) == 14
    detector.filled(0.5, 1062.0)
    assert detector.bits(1062.0) == 0


def test_other_limits_hold_at_once() -> None:
    detector = AttackDetector()
    end = flood(detector, per_s=500, since=0.0, for_s=10.0)
    detector.replace(AttackLimits(first_bits=16, max_bits=17))
    assert detector.bits(end) == 16
    detector.replace(AttackLimits(first_bits=4, max_bits=8))
    assert detector.bits(end) in (7, 8)  # the price may fall by a step meanwhile
    detector.replace(AttackLimits(max_bits=0))
    assert detector.bits(end) == 0


@given(st.integers(0, 2**32))
def test_bits_are_none_or_within_their_bounds_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    limits = AttackLimits(first_bits=dice.randint(1, 8), max_bits=dice.choice([0, 8, 12]))
    detector, now = AttackDetector(limits), 0.0
    for _ in range(60):
        now += dice.choice([0.0, 0.01, 1.0, 100.0])
        match dice.randrange(4):
            case 0:
                detector.called(now, dice.randrange(2000))
            case 1:
                detector.came_to_something(now, calls=dice.randrange(5))
            case 2:
                for _ in range(dice.randrange(300)):
                    detector.worked(now)
            case _:
                detector.filled(dice.random(), now)
        bits = detector.bits(now)
        assert bits == 0 or limits.first_bits <= bits <= limits.max_bits


@pytest.mark.parametrize(
    "changes",
    [
        {"end_per_s": 0.0},
        {"end_per_s": 60.0},
        {"start_fullness": 1.1},
        {"end_fullness": 0.95},
        {"quiet_s": 0.0},
        {"first_bits": 0},
        {"first_bits": 19},
        {"max_bits": 33},
        {"most_worked_per_s": 0.0},
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        AttackLimits(**changes)  # type: ignore[arg-type]
    assert caught.value.remedy
