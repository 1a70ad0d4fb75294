"""Dial rates: pure, so time is a number."""

from __future__ import annotations

from hostmesh.net import dial_policy
from hostmesh.net.dial_policy import DialLimiter, target_network


def test_networks():
    assert target_network("192.0.2.77") == target_network("192.0.2.1") == "192.0.2.0/24"
    assert target_network("::ffff:192.0.2.77") == "192.0.2.0/24"
    assert target_network("2001:db8:1:2::3") == target_network("2001:db8:1:ffff::") == "2001:db8:1::/48"
    assert target_network("2001:db8:2::") != target_network("2001:db8:1::")


def test_one_port_gets_a_burst_and_then_two_a_second():
    limiter = DialLimiter()
    answers = [limiter.allow(f"192.0.2.{index}", 4001, now=0.0) for index in range(20)]
    assert answers == [True] * 16 + [False] * 4
    assert [limiter.allow("192.0.2.9", 4001, now=1.0) for _ in range(3)] == [True, True, False]


def test_other_ports_and_networks_are_counted_apart():
    limiter = DialLimiter()
    while limiter.allow("192.0.2.1", 4001, now=0.0):
        pass
    assert limiter.allow("192.0.2.1", 4002, now=0.0)
    assert limiter.allow("192.0.3.1", 4001, now=0.0)
    assert limiter.allow("2001:db8::1", 4001, now=0.0)


def test_scanning_the_ports_of_one_network_is_limited():
    limiter = DialLimiter()
    allowed = sum(limiter.allow("192.0.2.1", port, now=0.0) for port in range(1, 1000))
    assert allowed == 64
    assert not limiter.allow("192.0.2.200", 4001, now=0.0)
    assert sum(limiter.allow("192.0.2.1", port, now=10.0) for port in range(1, 1000)) == 64


def test_refused_dials_cost_nothing():
    limiter = DialLimiter()
    for _ in range(100):
        limiter.allow("192.0.2.1", 4001, now=0.0)
    assert limiter.allow("192.0.2.1", 4001, now=0.5)


def test_table_is_bounded(monkeypatch):
    monkeypatch.setattr(dial_policy, "MAX_TARGETS", 10)
    limiter = DialLimiter()
    for index in range(100):
        assert limiter.allow(f"10.0.{index}.1", 4001, now=0.0)
        assert len(limiter) <= 10


def test_a_clock_that_goes_back_gives_nothing():
    limiter = DialLimiter()
    while limiter.allow("192.0.2.1", 4001, now=100.0):
        pass
    assert not limiter.allow("192.0.2.1", 4001, now=50.0)
