"""What a look at the machine's clocks and addresses tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.net.events import NetworkChanged
from hostmesh.net.machine_watch import LATE_S, MachineWatch

EVERY_S = 4.0
HOME = frozenset({"127.0.0.1", "192.168.1.2"})


class Machine:
    """Clocks that a test moves."""

    def __init__(self) -> None:
        self.watch = MachineWatch(EVERY_S)
        self.monotonic_s, self.unix_s = 100.0, 1_700_000_000.0
        assert self.look(HOME) is None

    def look(self, addresses: frozenset[str] = HOME, *, ran_s: float = EVERY_S, slept_s: float = 0.0):
        self.monotonic_s += ran_s
        self.unix_s += ran_s + slept_s
        return self.watch.observe(
            at_s=self.monotonic_s, monotonic_s=self.monotonic_s, unix_s=self.unix_s, addresses=addresses
        )


def test_nothing_is_nothing():
    machine = Machine()
    assert all(machine.look() is None for _ in range(1000))


def test_a_wall_clock_that_ran_on_is_a_sleep():
    machine = Machine()
    change = machine.look(slept_s=3600.0)
    assert change.slept_s == pytest.approx(3600)
    assert change.changes_reach
    assert change.added == change.removed == frozenset()
    assert machine.look() is None


def test_a_late_look_is_a_sleep():
    """Windows' monotonic clock runs while the machine sleeps, everybody's while the process is stopped."""
    machine = Machine()
    assert machine.look(ran_s=EVERY_S + 30.0).slept_s == pytest.approx(30)
    assert machine.look() is None


def test_a_wall_clock_that_is_set_back_or_slewed_is_none():
    machine = Machine()
    assert machine.look(slept_s=-3600.0) is None
    # NTP slews by 500 ppm; a day of it is 43 s.
    assert all(machine.look(slept_s=EVERY_S * 5e-4) is None for _ in range(20_000))


@given(ran_s=st.floats(0, 1e6), slept_s=st.floats(-1e6, 1e6))
def test_what_is_told_is_what_was_slept(ran_s, slept_s):
    change = Machine().look(ran_s=ran_s, slept_s=slept_s)
    true_s = max(slept_s, ran_s - EVERY_S)
    if abs(true_s - LATE_S) > 1e-3:  # the clocks are floats
        assert (change is not None) == (true_s > LATE_S)
    assert change is None or change.slept_s == pytest.approx(true_s, abs=1e-3)


@pytest.mark.parametrize(
    ("now", "added", "removed", "changes_reach"),
    [
        ({"127.0.0.1"}, set(), {"192.168.1.2"}, True),
        ({"127.0.0.1", "10.0.0.7"}, {"10.0.0.7"}, {"192.168.1.2"}, True),
        (HOME | {"2001:db8::7"}, {"2001:db8::7"}, set(), True),
        (HOME | {"fe80::1"}, {"fe80::1"}, set(), False),
        (HOME | {"169.254.3.4", "fe80::1"}, {"169.254.3.4", "fe80::1"}, set(), False),
        (HOME | {"::1"}, {"::1"}, set(), False),
    ],
)
def test_addresses_that_come_and_go(now, added, removed, changes_reach):
    machine = Machine()
    change = machine.look(frozenset(now))
    assert change == NetworkChanged(
        at_s=machine.monotonic_s,
        added=frozenset(added),
        removed=frozenset(removed),
        slept_s=0.0,
        changes_reach=changes_reach,
    )
    assert machine.look(frozenset(now)) is None


def test_the_order_of_the_addresses_means_nothing():
    watch = MachineWatch(EVERY_S)
    for number, addresses in enumerate((("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ["10.0.0.1", "10.0.0.2"])):
        now = EVERY_S * number
        assert watch.observe(at_s=now, monotonic_s=now, unix_s=now, addresses=addresses) is None
