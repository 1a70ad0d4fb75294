"""Strikes: who missed several probes is left alone for a while, and never for longer."""

from __future__ import annotations

import pytest
from discovery_world import EPOCH, make_key
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.strikes import FIRST_PAUSE_S, MAX_PAUSE_S, STRIKES, Strikes

HOST = make_key("host").peer_id


def out(strikes: Strikes, now_s: float, heard_s: float = -1.0) -> bool:
    return strikes.standing_out(HOST, now_s=now_s, heard_unix_s=EPOCH + heard_s) is not None


def miss(strikes: Strikes, now_s: float) -> None:
    strikes.missed(HOST, now_s=now_s, unix_s=EPOCH + now_s, why="dial")


def test_one_miss_is_none_and_the_second_counts() -> None:
    strikes = Strikes()
    miss(strikes, 0)
    assert not out(strikes, 0)
    miss(strikes, 1)
    assert out(strikes, 1 + FIRST_PAUSE_S - 0.1)
    assert not out(strikes, 1 + FIRST_PAUSE_S), "half open: it is asked once more"
    miss(strikes, 20)
    assert out(strikes, 20 + 2 * FIRST_PAUSE_S - 0.1)
    assert not out(strikes, 20 + 2 * FIRST_PAUSE_S)


def test_an_answer_or_a_record_of_its_own_ends_it() -> None:
    strikes = Strikes()
    miss(strikes, 0)
    miss(strikes, 1)
    assert out(strikes, 2)
    assert not out(strikes, 2, heard_s=1.5)
    strikes.answered(HOST)
    assert not out(strikes, 2)
    miss(strikes, 3)
    assert not out(strikes, 3), "the row began anew"


@given(st.lists(st.floats(0.001, 1000), min_size=STRIKES, max_size=40))
def test_no_pause_is_longer_than_the_longest(passed: list[float]) -> None:
    strikes, now = Strikes(), 0.0
    for each in passed:
        now += each
        miss(strikes, now)
    assert out(strikes, now)
    assert not out(strikes, now + MAX_PAUSE_S)


def test_a_record_of_the_same_moment_does_not_end_it() -> None:
    strikes = Strikes()
    miss(strikes, 0)
    miss(strikes, 1)
    assert out(strikes, 2, heard_s=1)
    strike = strikes.standing_out(HOST, now_s=2, heard_unix_s=0)
    assert strike is not None
    assert (strike.why, strike.misses, strike.last_s, strike.last_unix_s) == ("dial", 2, 1, EPOCH + 1)


def test_one_host_at_least_is_remembered() -> None:
    with pytest.raises(ValueError, match=r"^at least one host is remembered$"):
        Strikes(max_hosts=0)
    smallest = Strikes(max_hosts=1)
    for name in ("a", "host"):
        for _ in range(STRIKES):
            smallest.missed(make_key(name).peer_id, now_s=0, unix_s=EPOCH, why="dial")
    assert len(smallest) == 1
    assert out(smallest, 0)


def test_few_are_remembered() -> None:
    strikes = Strikes(max_hosts=2)
    for name in ("a", "b", "c"):
        for _ in range(STRIKES):
            strikes.missed(make_key(name).peer_id, now_s=0, unix_s=EPOCH, why="dial")
    assert len(strikes) == 2
    assert strikes.standing_out(make_key("a").peer_id, now_s=0, heard_unix_s=0) is None
