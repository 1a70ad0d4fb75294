"""How much a TCP sender has on the way: slow start, as Linux does it with reno and cubic while nothing is lost. Pure.

Without it a simulated message of any size would take one latency. Really one of 64 KiB over a new connection takes
three round trips, and one of 10 KiB takes one.
"""

from __future__ import annotations

from collections import deque

SEGMENT_PAYLOAD_BYTES = 1448
"""TCP's payload of an Ethernet frame."""
INITIAL_WINDOW_BYTES = 10 * SEGMENT_PAYLOAD_BYTES
"""RFC 6928."""
MIN_TIMEOUT_S = 0.2
"""Linux waits so much longer than a round trip before it repeats. A sender that is idle for so long begins anew."""


class CongestionWindow:
    """The congestion window of one direction of a connection. It doubles each round trip in which it is used up.

    Times are seconds of the simulation, sizes bytes.
    """

    __slots__ = ("_flight", "_flight_bytes", "_last_sent_s", "_was_full", "_window_bytes")

    def __init__(self) -> None:
        self._window_bytes = INITIAL_WINDOW_BYTES
        self._flight: deque[tuple[float, int, bool, int]] = deque()
        self._flight_bytes = 0
        self._last_sent_s = 0.0
        self._was_full = False

    @property
    def next_change_s(self) -> float | None:
        """When the next acknowledgement comes; None = none is to come."""
        return self._flight[0][0] if self._flight else None

    def room(self, now: float, round_trip_s: float) -> int:
        """Return how much may be sent now.

        >>> window = CongestionWindow()
        >>> window.room(0.0, 0.1)
        14480
        >>> window.note_sent(0.0, 14480, acknowledged_s=0.1)
        >>> window.room(0.05, 0.1), window.room(0.1, 0.1)
        (0, 28960)
        """
        flight = self._flight
        if self._flight_bytes >= self._window_bytes:
            self._was_full = True
        while flight and flight[0][0] <= now:
            _, size, was_full, flight_bytes = flight.popleft()
            self._flight_bytes -= size
            # A window that is not used up does not grow.
            if was_full or self._window_bytes < 2 * flight_bytes:
                self._window_bytes += size
        if not flight and self._window_bytes > INITIAL_WINDOW_BYTES:
            idle_s = now - self._last_sent_s
            timeout_s = round_trip_s + MIN_TIMEOUT_S
            while idle_s > timeout_s and self._window_bytes > INITIAL_WINDOW_BYTES:
                idle_s -= timeout_s
                self._window_bytes = max(self._window_bytes // 2, INITIAL_WINDOW_BYTES)
        return self._window_bytes - self._flight_bytes

    def note_sent(self, now: float, size: int, *, acknowledged_s: float) -> None:
        """Note what was sent now, and when the sender will hear that it came."""
        self._last_sent_s = now
        self._flight_bytes += size
        self._flight.append((acknowledged_s, size, self._was_full, self._flight_bytes))
        self._was_full = False
