"""Faults of streams and events of machines, by schedule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import UsageError
from hostmesh.testing import EventKind, FaultKind, NetworkEvent, SimNetwork, StreamFault, run_sim

DATA = bytes(range(200))
PORT = 7


async def transfer(net: SimNetwork, faults: Sequence[StreamFault | NetworkEvent]) -> tuple[bytes, str, float]:
    """Send DATA in pieces of 20 bytes from a to b; return what came, how it ended, and when."""
    a, b = net.machine("a"), net.machine("b")
    net.faults.schedule(faults)
    bound = await b.network.listen("0.0.0.0", PORT)
    received = b""
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            stream = await a.network.dial(b.address, PORT)
            try:
                for start in range(0, len(DATA), 20):
                    await stream.send_all(DATA[start : start + 20])
                await stream.aclose()
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(send)
        stream = await bound.listener.accept()
        try:
            while piece := await stream.receive_some():
                received += piece
            end = "end"
        except trio.BrokenResourceError:
            end = "reset"
    return received, end, trio.current_time()


def run_transfer(*faults: StreamFault | NetworkEvent) -> tuple[bytes, str, float]:
    return run_sim(lambda net: transfer(net, faults)).result


def fault(kind: FaultKind, after_bytes: int = 0, **options: float) -> StreamFault:
    return StreamFault(kind=kind, source="a", target="b", after_bytes=after_bytes, **options)  # type: ignore[arg-type]


def test_without_a_fault_all_comes() -> None:
    assert run_transfer() == (DATA, "end", pytest.approx(0.06))


@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_corrupting_flips_the_one_bit_of_the_one_byte(at: int, bit: int) -> None:
    received, end, _ = run_transfer(fault(FaultKind.CORRUPT, at, bit=bit))
    assert (len(received), end) == (len(DATA), "end")
    assert {i: one ^ two for i, (one, two) in enumerate(zip(DATA, received, strict=True)) if one != two} == {
        at: 1 << bit
    }


@given(at=st.integers(0, len(DATA) - 1))
def test_a_cut_lets_through_what_came_before(at: int) -> None:
    received, end, _ = run_transfer(fault(FaultKind.CUT, at))
    assert (received, end) == (DATA[:at], "reset")


def test_a_duplicated_segment_comes_twice() -> None:
    received, end, _ = run_transfer(fault(FaultKind.DUPLICATE, 45))
    assert (received, end) == (DATA[:60] + DATA[40:60] + DATA[60:], "end")


def test_a_stall_delays_the_rest_of_the_stream() -> None:
    received, end, ended_s = run_transfer(fault(FaultKind.STALL, 100, for_s=50))
    assert (received, end) == (DATA, "end")
    assert 50 < ended_s < 51


def test_a_trickle_comes_byte_by_byte_for_its_time() -> None:
    received, end, ended_s = run_transfer(fault(FaultKind.TRICKLE, 0, for_s=4, bytes_per_s=10))
    assert (received, end) == (DATA, "end")
    assert 4 <= ended_s < 4.3


def test_a_fault_waits_for_its_time_and_hits_once() -> None:
    assert run_transfer(fault(FaultKind.CUT, at_s=10)) == (DATA, "end", pytest.approx(0.06))
    received, _, _ = run_transfer(fault(FaultKind.CORRUPT, 5), fault(FaultKind.CORRUPT, 5, bit=1))
    # Both want byte 5; the second finds it gone and takes the next segment's first.
    assert [i for i, (one, two) in enumerate(zip(DATA, received, strict=True)) if one != two] == [5, 20]


EVENTS = st.builds(
    NetworkEvent,
    kind=st.sampled_from([EventKind.STALL, EventKind.FREEZE, EventKind.PARTITION, EventKind.STEP_CLOCK]),
    machines=st.sampled_from([("a",), ("b",), ("a", "b")]),
    at_s=st.floats(0, 1),
    for_s=st.floats(0, 5),
)
DELAYS = st.builds(
    StreamFault,
    kind=st.sampled_from([FaultKind.STALL, FaultKind.TRICKLE]),
    source=st.just("a"),
    target=st.just("b"),
    at_s=st.floats(0, 1),
    after_bytes=st.integers(0, 300),
    for_s=st.floats(0, 5),
    bytes_per_s=st.floats(1, 1000),
)


@given(st.lists(EVENTS | DELAYS, max_size=8))
def test_whatever_only_delays_loses_nothing_and_keeps_the_order(schedule: list[StreamFault | NetworkEvent]) -> None:
    received, end, ended_s = run_transfer(*schedule)
    assert (received, end) == (DATA, "end")
    assert ended_s < 300


def test_an_event_is_undone() -> None:
    async def main(net: SimNetwork) -> None:
        a = net.machine("a")
        net.machine("b")
        net.faults.schedule(
            [
                NetworkEvent(kind=EventKind.POWER_OFF, machines=("a",), at_s=1, for_s=2),
                NetworkEvent(kind=EventKind.CUT, machines=("a", "b"), at_s=1, for_s=1),
                NetworkEvent(kind=EventKind.STEP_CLOCK, machines=("b",), at_s=1, for_s=-7),
            ]
        )
        await trio.sleep(1.5)
        assert not a.is_on
        assert net.link("a", "b").is_cut
        await trio.sleep(1)
        assert not net.link("a", "b").is_cut
        await trio.sleep(1)
        assert a.is_on
        assert net.machines["b"].clock.skew_s == -7

    run_sim(main)


def state_at(times_s: Sequence[float], *events: NetworkEvent, scheduled_at_s: float = 0.0) -> list[str]:
    """Return how the link of a and b, and machine a, are at each time."""

    async def main(net: SimNetwork) -> list[str]:
        a, _, _ = (net.machine(name) for name in "abc")
        await trio.sleep_until(scheduled_at_s)
        net.faults.schedule(events)
        found = []
        for time_s in times_s:
            await trio.sleep_until(time_s)
            link = net.link("a", "b")
            found.append(
                "cut" * link.is_cut + "stalled" * link.is_stalled + "frozen" * a.is_frozen + "off" * (not a.is_on)
            )
        return found

    return run_sim(main).result


def event(kind: EventKind, at_s: float, for_s: float, *machines: str) -> NetworkEvent:
    return NetworkEvent(kind=kind, machines=machines, at_s=at_s, for_s=for_s)


def test_of_events_that_overlap_the_last_one_that_ends_undoes_them() -> None:
    partition, stall = event(EventKind.PARTITION, 1, 100, "a"), event(EventKind.STALL, 2, 5, "a", "b")
    assert state_at([0.5, 3, 8, 102], partition, stall) == ["", "stalled", "stalled", ""]
    cut = event(EventKind.CUT, 3, 2, "b", "a")
    assert state_at([2, 4, 6, 102], partition, cut) == ["stalled", "cut", "stalled", ""]
    assert state_at([2.5, 4, 6, 8], stall, cut) == ["stalled", "cut", "stalled", ""]
    freezes = event(EventKind.FREEZE, 1, 10, "a"), event(EventKind.FREEZE, 5, 60, "a")
    assert state_at([2, 12, 66], *freezes) == ["frozen", "frozen", ""]
    outages = event(EventKind.POWER_OFF, 1, 10, "a"), event(EventKind.POWER_OFF, 5, 60, "a")
    assert state_at([2, 12, 66], *outages) == ["off", "off", ""]


def test_an_event_whose_time_is_over_happens_at_once_and_lasts_as_long() -> None:
    late = event(EventKind.STALL, 1, 20, "a", "b")
    assert state_at([100.5, 119, 121], late, scheduled_at_s=100) == ["stalled", "stalled", ""]


def test_a_schedule_that_cannot_be_is_refused_whole() -> None:
    async def main(net: SimNetwork) -> None:
        net.machine("a")
        with pytest.raises(UsageError, match="nobody"):
            net.faults.schedule(
                [
                    NetworkEvent(kind=EventKind.POWER_OFF, machines=("a",), at_s=1),
                    StreamFault(kind=FaultKind.CUT, source="a", target="nobody"),
                ]
            )
        await trio.sleep(2)
        assert net.machines["a"].is_on

    run_sim(main)
    with pytest.raises(ValueError, match="machine"):
        NetworkEvent(kind=EventKind.KILL, machines=(), at_s=1)
    with pytest.raises(ValueError, match="negative"):
        StreamFault(kind=FaultKind.CUT, source="a", target="b", at_s=-1)
