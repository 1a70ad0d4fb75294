"""What happened on a simulated network: every event in the order of its time, its hash, and a text to read. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

MAX_KEPT_EVENTS = 200_000
"""Events that a trace keeps by default; the hash covers all."""
_HASHED_AT_ONCE = 512


class TraceEvent(NamedTuple):
    """One event. A segment's event is its arrival."""

    time_s: float
    """Seconds of the simulation."""
    kind: str
    """dial, accept, refuse, data, end, reset, ... ; of a machine or link: kill, stall, ..."""
    source: str
    """The machine that sent it, or that it happened to."""
    target: str
    """The machine that it came to; empty when it concerns one machine."""
    size: int
    """Bytes; 0 where there are none."""
    sent_s: float
    """When it was sent."""


class Trace:
    """The events of one run.

    Args:
        max_events: how many are kept, the first ones; later ones are hashed and counted only.
    """

    def __init__(self, *, max_events: int = MAX_KEPT_EVENTS) -> None:
        self.counts: Counter[str] = Counter()
        """Events by kind, all of them."""
        self.total_bytes = 0
        self.last_s = 0.0
        """When the last event happened."""
        self.listener: Callable[[str, str, str, int], None] | None = None
        """Is told of each event: kind, source, target, bytes. For those who count what is too much to keep."""
        self._max_events = max_events
        self._events: list[TraceEvent] = []
        self._digest = hashlib.sha256()
        self._unhashed: list[str] = []

    def add(
        self, time_s: float, kind: str, source: str, target: str = "", size: int = 0, sent_s: float | None = None
    ) -> None:
        """Note an event. Times never go back."""
        sent = time_s if sent_s is None else sent_s
        self.counts[kind] += 1
        self.total_bytes += size
        self.last_s = time_s
        if self.listener is not None:
            self.listener(kind, source, target, size)
        self._unhashed.append(f"{time_s:.9f} {sent:.9f} {kind} {source} {target} {size}\n")
        if len(self._unhashed) >= _HASHED_AT_ONCE:
            self._hash_rest()
        if len(self._events) < self._max_events:
            self._events.append(TraceEvent(time_s, kind, source, target, size, sent))

    def __len__(self) -> int:
        """Return the number of events, those that are not kept among them."""
        return self.counts.total()

    def __iter__(self) -> Iterator[TraceEvent]:
        """Iterate over the events that are kept, in the order of their time."""
        return iter(self._events)

    @property
    def events(self) -> Sequence[TraceEvent]:
        """The events that are kept, in the order of their time: the first ones."""
        return self._events

    @property
    def left_out(self) -> int:
        """How many later events are not kept."""
        return len(self) - len(self._events)

    def hash(self) -> str:
        """Return the SHA-256 of all events so far: time, kind, both ends and size of each. Hexadecimal."""
        self._hash_rest()
        return self._digest.hexdigest()

    def text(self, machine: str | None = None) -> str:
        """Return a timeline to read: of one machine, or of each machine under its name.

        >>> trace = Trace()
        >>> trace.add(1.52, "data", "ann", "bob", 40, 1.5)
        >>> print(trace.text("bob"))
        == bob
           1.520000  <- ann            data         40 B  (sent 1.500000)
        """
        blocks = [text for name, text in self._timelines() if machine is None or name == machine]
        return "\n\n".join([*blocks, *self._omission()])

    def texts(self) -> Iterator[tuple[str, str]]:
        """Iterate over the machines that something happened to, each with its :meth:`text`; quicker than one by one."""
        for name, text in self._timelines():
            yield name, "\n\n".join([text, *self._omission()])

    def _timelines(self) -> Iterator[tuple[str, str]]:
        by_machine: dict[str, list[TraceEvent]] = {}
        for event in self._events:
            by_machine.setdefault(event.source, []).append(event)
            if event.target not in ("", event.source):
                by_machine.setdefault(event.target, []).append(event)
        for name, events in by_machine.items():
            yield name, "\n".join([f"== {name}", *(_line(event, name) for event in events)])

    def _omission(self) -> list[str]:
        return [f"{self.left_out} later events were not kept"] if self.left_out else []

    def _hash_rest(self) -> None:
        self._digest.update("".join(self._unhashed).encode())
        self._unhashed.clear()


def _line(event: TraceEvent, name: str) -> str:
    if not event.target:
        return f"{event.time_s:11.6f}  ** {event.kind}"
    arrow, other = ("->", event.target) if name == event.source else ("<-", event.source)
    sent = f"  (sent {event.sent_s:.6f})" if event.sent_s != event.time_s else ""
    return f"{event.time_s:11.6f}  {arrow} {other:<14} {event.kind:<8} {event.size:6} B{sent}"
