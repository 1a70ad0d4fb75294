"""Slow start, as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.testing.congestion import INITIAL_WINDOW_BYTES, CongestionWindow

RTT_S = 0.1


def send_all_room(window: CongestionWindow, now: float) -> int:
    room = window.room(now, RTT_S)
    window.note_sent(now, room, acknowledged_s=now + RTT_S)
    return room


def test_a_window_that_is_used_up_doubles_each_round_trip() -> None:
    window = CongestionWindow()
    rooms = [send_all_room(window, number * RTT_S) for number in range(5)]
    assert rooms == [INITIAL_WINDOW_BYTES * 2**number for number in range(5)]


def test_a_window_that_is_hardly_used_stays() -> None:
    window = CongestionWindow()
    for number in range(100):
        window.note_sent(number * RTT_S, INITIAL_WINDOW_BYTES // 2, acknowledged_s=(number + 1) * RTT_S)
        assert window.room((number + 1) * RTT_S, RTT_S) == INITIAL_WINDOW_BYTES


def test_a_pause_of_two_timeouts_takes_two_doublings_back_and_no_pause_more_than_there_were() -> None:
    window = CongestionWindow()
    for number in range(4):
        send_all_room(window, number * RTT_S)
    last_s = 3 * RTT_S
    assert window.room(last_s + 2.5 * (RTT_S + 0.2), RTT_S) == INITIAL_WINDOW_BYTES * 4
    assert window.room(last_s + 1000, RTT_S) == INITIAL_WINDOW_BYTES


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**6), st.floats(0, 1)), max_size=40))
def test_no_more_is_on_the_way_than_the_window_and_it_never_shrinks_below_the_first(
    steps: list[tuple[float, int, float]],
) -> None:
    window, now, flight = CongestionWindow(), 0.0, [(0.0, 0)]
    for gap_s, wanted, way_s in steps:
        now += gap_s
        room = window.room(now, RTT_S)
        flight = [(at_s, size) for at_s, size in flight if at_s > now]
        assert room + sum(size for _, size in flight) >= INITIAL_WINDOW_BYTES
        size = min(wanted, max(0, room))
        if size:
            acknowledged_s = max([now + way_s, *(at_s for at_s, _ in flight)])
            window.note_sent(now, size, acknowledged_s=acknowledged_s)
            flight.append((acknowledged_s, size))
    assert window.room(now + 10_000, RTT_S) == INITIAL_WINDOW_BYTES
