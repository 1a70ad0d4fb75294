"""Bad luck by appointment: faults of single streams, and events of machines and links.

Both are plain frozen values that carry all they need, so that a list of them is a schedule which can be written down,
drawn and shrunk: leaving any of them out leaves a schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.network import SimNetwork
    from hostmesh.testing.stream import SimStream
    from hostmesh.testing.wire import Wire

MAX_FAULTS = 10_000
_MAX_TRICKLED_BYTES = 4096


class FaultKind(Enum):
    """What happens to a stream."""

    CUT = "cut"
    """It is reset, at both ends."""
    STALL = "stall"
    """Its bytes wait for ``for_s`` seconds."""
    CORRUPT = "corrupt"
    """One bit of one byte arrives flipped. TCP hardly ever lets that through; middleboxes and bad memory do."""
    TRICKLE = "trickle"
    """Its bytes come one by one, ``bytes_per_s`` a second, for ``for_s`` seconds and at most 4 KiB."""
    DUPLICATE = "duplicate"
    """A segment's bytes come twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFault:
    """A fault that hits one connection, once, in the direction from ``source`` to ``target``.

    It hits the first connection there whose bytes pass the mark: sent at ``at_s`` or later, and reaching beyond the
    connection's first ``after_bytes`` bytes in this direction.

    Raises:
        ValueError: a negative number, or a pace that is not positive.
    """

    kind: FaultKind
    source: str
    target: str
    at_s: float = 0.0
    """Seconds of the simulation."""
    after_bytes: int = 0
    for_s: float = 1.0
    bytes_per_s: float = 10.0
    byte: int = 0
    """For CORRUPT: which byte of the segment from the mark on; counted round when the segment is shorter."""
    bit: int = 0
    """For CORRUPT: which of the byte's bits, 0 to 7."""

    def __post_init__(self) -> None:
        if not (self.at_s >= 0 and self.after_bytes >= 0 and self.for_s >= 0 and self.byte >= 0):
            raise ValueError("times and sizes of a fault are not negative")
        if not self.bytes_per_s > 0 or not 0 <= self.bit <= 7:
            raise ValueError("a fault's pace is positive, its bit from 0 to 7")


class EventKind(Enum):
    """What happens to machines and links. Each is undone after ``for_s`` seconds; of several, when all are over."""

    STALL = "stall"
    """Silence between every two of the machines."""
    CUT = "cut"
    """No way between every two of the machines."""
    PARTITION = "partition"
    """Silence between the machines and all others."""
    FREEZE = "freeze"
    """The machines' processes stop, and go on."""
    KILL = "kill"
    """The machines' processes are killed; nothing is undone: what runs on a machine next is the program's affair."""
    POWER_OFF = "power-off"
    """The machines are off, and then on again without a process."""
    STEP_CLOCK = "step-clock"
    """The machines' wall clocks are ``for_s`` ahead of what they were, from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEvent:
    """Something that happens to machines at a time.

    Raises:
        ValueError: a negative time, or no machine.
    """

    kind: EventKind
    machines: tuple[str, ...]
    at_s: float
    """Seconds of the simulation."""
    for_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.at_s >= 0 or (self.for_s < 0 and self.kind is not EventKind.STEP_CLOCK) or not self.machines:
            raise ValueError("an event has a time, a length and at least one machine")


class Faults:
    """The faults and events of a network.

    Args:
        net: where they happen.
    """

    def __init__(self, net: SimNetwork) -> None:
        self._net = net
        self._waiting: dict[tuple[str, str], list[StreamFault]] = {}
        self._entered = 0
        self.happened: list[StreamFault | NetworkEvent] = []
        """In the order in which they happened."""
        self.happened_at_s: list[float] = []
        """When each of these did."""
        self._holds: Counter[tuple[EventKind, str, str]] = Counter()
        """Events that go on, by what they do to which machine or pair: of several, the last one that ends undoes it."""

    def schedule(self, events: Iterable[StreamFault | NetworkEvent]) -> None:
        """Let all of these happen.

        Raises:
            UsageError: a machine is not known, or there are more than 10,000 in all. Nothing is scheduled then.
        """
        wanted = [*events]
        for event in wanted:
            names = (event.source, event.target) if isinstance(event, StreamFault) else event.machines
            if unknown := [name for name in names if name not in self._net.machines]:
                raise UsageError(f"no machine is named {unknown[0]!r}", remedy="make the machine before its faults")
        self._entered += len(wanted)
        if self._entered > MAX_FAULTS:
            raise UsageError(f"a network has at most {MAX_FAULTS} faults", remedy="schedule fewer")
        for event in wanted:
            if isinstance(event, StreamFault):
                self._arm(event)
            else:
                self._net.agenda.at(event.at_s, self._happen, event)

    def call_off(self) -> None:
        """Let no stream meet a fault that has not hit it yet."""
        machines = self._net.machines
        for source, target in self._waiting:
            self._net.wire(machines[source], machines[target]).interfere = None
        self._waiting.clear()

    def was_calm(self, one: str, two: str, *, for_s: float) -> bool:
        """Tell whether nothing that happened has disturbed two machines, or their link, for so many seconds."""
        since_s = trio.current_time() - for_s
        for event, at_s in zip(self.happened, self.happened_at_s, strict=True):
            if isinstance(event, StreamFault):
                is_concerned = {event.source, event.target} == {one, two}
            else:
                is_concerned = one in event.machines or two in event.machines
            if is_concerned and at_s + event.for_s >= since_s:
                return False
        return True

    # --- streams ---

    def _arm(self, fault: StreamFault) -> None:
        machines = self._net.machines
        key = fault.source, fault.target
        self._waiting.setdefault(key, []).append(fault)
        self._net.wire(machines[fault.source], machines[fault.target]).interfere = partial(self._interfere, key)

    def _interfere(self, key: tuple[str, str], wire: Wire, stream: SimStream, data: bytes) -> None:
        """Send a segment as the faults have it."""
        now = trio.current_time()
        reach = stream.sent_bytes + len(data)
        for fault in self._waiting[key]:
            if fault.at_s <= now and fault.after_bytes < reach:
                self._waiting[key].remove(fault)
                if not self._waiting[key]:
                    wire.interfere = None
                self.happened.append(fault)
                self.happened_at_s.append(now)
                self._net.note(f"fault-{fault.kind.value}", *key)
                self._hit(fault, wire, stream, data)
                return
        wire.pass_on(stream, data)

    def _hit(self, fault: StreamFault, wire: Wire, stream: SimStream, data: bytes) -> None:
        offset = max(0, fault.after_bytes - stream.sent_bytes)
        if fault.kind is FaultKind.CUT:
            if offset:
                wire.pass_on(stream, data[:offset])
            stream.reset()
        elif fault.kind is FaultKind.CORRUPT:
            altered = bytearray(data)
            altered[offset + fault.byte % (len(data) - offset)] ^= 1 << fault.bit
            wire.pass_on(stream, bytes(altered))
        elif fault.kind is FaultKind.DUPLICATE:
            wire.pass_on(stream, data)
            wire.pass_on(stream, data)
        elif fault.kind is FaultKind.STALL:
            stream.last_arrival_s = max(stream.last_arrival_s, trio.current_time() + fault.for_s)
            wire.pass_on(stream, data)
        else:
            stream.trickle = Trickle(fault, trio.current_time())
            stream.trickle.pass_on(wire, stream, data)

    # --- machines and links ---

    def _happen(self, event: NetworkEvent) -> None:
        now = trio.current_time()
        self.happened.append(event)
        self.happened_at_s.append(now)
        names, kind = [*dict.fromkeys(event.machines)], event.kind
        if kind is EventKind.PARTITION:
            others = [name for name in self._net.machines if name not in names]
            self._hold_links(EventKind.STALL, product(names, others), now + event.for_s)
        elif kind in (EventKind.STALL, EventKind.CUT):
            self._hold_links(kind, combinations(names, 2), now + event.for_s)
        else:
            for name in names:
                self._happen_to(self._net.machines[name], event, now + event.for_s)

    def _happen_to(self, machine: SimMachine, event: NetworkEvent, until_s: float) -> None:
        if event.kind is EventKind.STEP_CLOCK:
            machine.clock.skew_s += event.for_s
            self._net.note(event.kind.value, machine.name)
        elif event.kind is EventKind.KILL:
            machine.kill()
        else:
            is_freeze = event.kind is EventKind.FREEZE
            (machine.freeze if is_freeze else machine.power_off)()
            self._holds[event.kind, machine.name, ""] += 1
            undo = machine.resume if is_freeze else machine.power_on
            self._net.agenda.at(until_s, self._let_go, (event.kind, machine.name, ""), undo)

    def _hold_links(self, kind: EventKind, pairs: Iterable[tuple[str, str]], until_s: float) -> None:
        for pair in pairs:
            one, two = sorted(pair)
            self._holds[kind, one, two] += 1
            self._set_link(one, two)
            self._net.agenda.at(until_s, self._let_go, (kind, one, two), partial(self._set_link, one, two))

    def _let_go(self, hold: tuple[EventKind, str, str], undo: Callable[[], None]) -> None:
        """End one event's hold on a machine or link; the last one that ends undoes it."""
        self._holds[hold] -= 1
        if not self._holds[hold]:
            del self._holds[hold]
            undo()

    def _set_link(self, one: str, two: str) -> None:
        """Let a link be as the events that go on have it."""
        link = self._net.link(one, two)
        if self._holds[EventKind.CUT, one, two]:
            if not link.is_cut:
                self._net.cut(one, two)
        elif self._holds[EventKind.STALL, one, two]:
            self._net.stall(one, two)
        else:
            self._net.heal(one, two)


class Trickle:
    """Makes a stream's bytes come one by one.

    Args:
        fault: how slowly and how long.
        now: when it begins.
    """

    def __init__(self, fault: StreamFault, now: float) -> None:
        self._gap_s = 1.0 / fault.bytes_per_s
        self._until_s = now + fault.for_s
        self._left_bytes = _MAX_TRICKLED_BYTES

    def pass_on(self, wire: Wire, stream: SimStream, data: bytes) -> None:
        """Send a segment: its bytes one by one as long as it lasts, the rest in one."""
        rest = memoryview(data)
        stream.last_arrival_s = max(stream.last_arrival_s, trio.current_time())
        while rest and self._left_bytes and stream.last_arrival_s < self._until_s:
            stream.last_arrival_s += self._gap_s
            wire.pass_on(stream, bytes(rest[:1]))
            rest = rest[1:]
            self._left_bytes -= 1
        if rest:
            stream.trickle = None
            wire.pass_on(stream, bytes(rest))
