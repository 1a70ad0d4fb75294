from __future__ import annotations

from hostmesh.discovery.sources.provide_schedule import ProvideSchedule


def test_new_keys_are_due_at_once_and_again_after_ten_minutes():
    schedule = ProvideSchedule()
    schedule.want([b"a", b"b"], 100.0)
    assert schedule.due(100.0) == [b"a", b"b"]
    schedule.on_told(b"a", 20, 101.0)
    assert schedule.due(101.0) == [b"b"]
    schedule.on_told(b"b", 3, 102.0)
    assert schedule.next_at() == 701.0
    assert schedule.due(700.9) == []
    assert schedule.due(701.0) == [b"a"]


def test_few_told_means_again_after_a_minute():
    schedule = ProvideSchedule()
    schedule.want([b"a"], 0.0)
    schedule.on_told(b"a", 2, 10.0)
    assert schedule.next_at() == 70.0
    assert not schedule.has_failures


def test_nobody_told_backs_off_to_a_minute():
    schedule = ProvideSchedule()
    schedule.want([b"a"], 0.0)
    waits, now = [], 0.0
    for _ in range(9):
        schedule.on_told(b"a", 0, now)
        waits.append(schedule.next_at() - now)
        now = schedule.next_at()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_first_server_makes_failed_keys_due_and_leaves_the_others():
    schedule = ProvideSchedule()
    schedule.want([b"failed", b"told"], 0.0)
    schedule.on_told(b"failed", 0, 0.0)
    schedule.on_told(b"told", 5, 0.0)
    schedule.on_connected(0.5)
    assert schedule.due(0.5) == [b"failed"]
    assert not schedule.has_failures


def test_what_is_no_longer_wanted_is_forgotten_and_the_rest_keeps_its_time():
    schedule = ProvideSchedule()
    schedule.want([b"a", b"b"], 0.0)
    for key in (b"a", b"b"):
        schedule.on_told(key, 5, 0.0)
    schedule.want([b"b", b"c"], 50.0)
    assert schedule.due(50.0) == [b"c"]
    schedule.on_told(b"a", 5, 60.0)  # it came back late
    schedule.want([], 70.0)
    assert schedule.next_at() is None
    assert len(schedule) == 0
