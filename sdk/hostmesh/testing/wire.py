"""The way between two machines: carries segments by the link's arithmetic, in the streams' order, and notes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.testing.agenda import Agenda
from hostmesh.testing.link import Path
from hostmesh.testing.trace import Trace

if TYPE_CHECKING:
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.stream import SimStream

_HEADER_BYTES = 40
"""IP and TCP headers of a segment without data; they count for the capacity, not in the trace."""

Interference = Callable[["Wire", "SimStream", bytes], None]


class Wire:
    """One direction between two machines.

    Args:
        source: who sends.
        target: who receives.
        path: the arithmetic.
        agenda: does things at their time.
        trace: is told every arrival.
    """

    def __init__(self, source: SimMachine, target: SimMachine, path: Path, agenda: Agenda, trace: Trace) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.agenda = agenda
        self.interfere: Interference | None = None
        """Is given each segment of data instead of :meth:`pass_on`, and passes on what it likes."""
        self._trace = trace
        self._held: deque[tuple[str, int, float, Callable[..., None], tuple[object, ...]]] = deque()

    # --- segments of a connection ---

    def send(self, stream: SimStream, data: bytes) -> None:
        """Send a segment of a stream."""
        if stream.trickle is not None:
            stream.trickle.pass_on(self, stream, data)
        elif self.interfere is not None:
            self.interfere(self, stream, data)
        else:
            self.pass_on(stream, data)

    def pass_on(self, stream: SimStream, data: bytes) -> None:
        """Send a segment of a stream, whatever faults there are."""
        stream.sent_bytes += len(data)
        self._send_in_order(stream, "data", len(data), stream.peer.take_data, data)

    def send_end(self, stream: SimStream) -> None:
        """Send the end of a stream's half, after its data."""
        self._send_in_order(stream, "end", 0, stream.peer.take_end)

    def send_reset(self, stream: SimStream) -> None:
        """Send a reset, after what was sent before."""
        self._send_in_order(stream, "reset", 0, stream.peer.take_reset)

    def _send_in_order(self, stream: SimStream, kind: str, size: int, take: Callable[..., None], *args: object) -> None:
        if stream.is_severed:
            return
        if self.source.is_frozen:
            self.source.outbox.append(partial(self._send_in_order, stream, kind, size, take, *args))
        else:
            stream.last_arrival_s = self.carry(kind, size, take, *args, not_before=stream.last_arrival_s)

    # --- anything ---

    def carry(self, kind: str, size: int, take: Callable[..., None], *args: object, not_before: float = 0.0) -> float:
        """Call ``take(*args)`` when a segment that leaves now arrives.

        Args:
            kind: for the trace.
            size: bytes of data.
            take: what the receiver does. It must not raise nor wait.
            args: for ``take``.
            not_before: when the stream's segment before arrives.

        Returns:
            When it arrives, unless the link stalls until then.
        """
        now = trio.current_time()
        arrival_s = self.path.arrival_s(now, size + _HEADER_BYTES, not_before=not_before)
        self.agenda.at(arrival_s, self._arrive, kind, size, now, take, args)
        return arrival_s

    def release(self) -> None:
        """Let what was held arrive, if nothing holds it any more."""
        while self._held and not self._is_blocked():
            kind, size, sent_s, take, args = self._held.popleft()
            self._deliver(kind, size, sent_s, take, args)

    def _arrive(self, kind: str, size: int, sent_s: float, take: Callable[..., None], args: tuple[object, ...]) -> None:
        if self._held or self._is_blocked():
            self._held.append((kind, size, sent_s, take, args))
            return
        self._deliver(kind, size, sent_s, take, args)

    def _deliver(
        self, kind: str, size: int, sent_s: float, take: Callable[..., None], args: tuple[object, ...]
    ) -> None:
        now = trio.current_time()
        if self.target.is_on and not self.path.link.is_cut:
            self._trace.add(now, kind, self.source.name, self.target.name, size, sent_s)
            take(*args)
        else:
            self._trace.add(now, "lost", self.source.name, self.target.name, size, sent_s)

    def _is_blocked(self) -> bool:
        target, source = self.target, self.source
        return (
            self.path.link.is_stalled
            or target.is_frozen
            or (target is not source and not (target.has_interface and source.has_interface))
        )
