"""Strategies for bad luck: schedules of faults and events for the machines of a simulation, and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.errors import UsageError
from hostmesh.testing.faults import EventKind, FaultKind, NetworkEvent, StreamFault
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.link import LinkProfile

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_MAX_AFTER_BYTES = 65_536
_MAX_SEGMENT_BYTE = 1_500
_LONGEST_S = 120.0


def _times(least_s: float, most_s: float) -> SearchStrategy[float]:
    """Draw seconds in steps of a millisecond, the least first."""
    return st.integers(0, round((most_s - least_s) * 1000)).map(lambda milliseconds: least_s + milliseconds / 1000)


def fault_schedules(
    machines: Sequence[str], *, from_s: float = 0.0, until_s: float = 60.0, max_steps: int = 10
) -> SearchStrategy[tuple[StreamFault | NetworkEvent, ...]]:
    """Draw what :meth:`Faults.schedule` takes: faults of streams and events of machines and links; none first.

    Args:
        machines: names, at least two.
        from_s: nothing happens before, in seconds of the simulation.
        until_s: nothing begins after; it lasts up to 120 s.
        max_steps: >= 0.

    Raises:
        UsageError: fewer than two machines, or no time.

    >>> from hypothesis import find
    >>> find(fault_schedules(["ann", "bob"]), len)[0].kind
    <FaultKind.CUT: 'cut'>
    """
    names = [*dict.fromkeys(machines)]
    if len(names) < 2 or not 0 <= from_s <= until_s:
        raise UsageError("bad luck needs two machines and some time", remedy="name two, and from_s <= until_s")
    times, lengths = _times(from_s, until_s), _times(0.0, _LONGEST_S)
    pairs = st.sampled_from([(one, two) for one in names for two in names if one != two])
    machine_lists = st.lists(st.sampled_from(names), min_size=1, max_size=min(len(names), 3), unique=True).map(tuple)
    # Each kind with what it has a use for, and no more: a value that changes nothing is one that shrinking has to try.
    of_fault: dict[FaultKind, dict[str, SearchStrategy[object]]] = {
        FaultKind.STALL: {"for_s": lengths},
        FaultKind.CORRUPT: {"byte": st.integers(0, _MAX_SEGMENT_BYTE), "bit": st.integers(0, 7)},
        FaultKind.TRICKLE: {"for_s": lengths, "bytes_per_s": st.integers(1, 1000).map(float)},
    }
    faults = [
        st.builds(
            lambda pair, **drawn: StreamFault(source=pair[0], target=pair[1], **drawn),
            pair=pairs,
            kind=st.just(kind),
            at_s=times,
            after_bytes=st.integers(0, _MAX_AFTER_BYTES),
            **of_fault.get(kind, {}),
        )
        for kind in FaultKind
    ]
    events = [
        st.builds(
            NetworkEvent,
            kind=st.just(kind),
            machines=machine_lists,
            at_s=times,
            **({} if kind is EventKind.KILL else {"for_s": lengths}),
        )
        for kind in EventKind
    ]
    return st.lists(st.one_of(*faults, *events), max_size=max_steps).map(tuple)


def link_profiles() -> SearchStrategy[LinkProfile]:
    """Draw links: up to a second one way, as much jitter, from 10 kB a second up; without latency and limit first."""
    return st.builds(
        LinkProfile,
        latency_s=_times(0.0, 1.0),
        jitter_s=_times(0.0, 1.0),
        bytes_per_s=st.none() | st.integers(10_000, 1_000_000_000).map(float),
    )
