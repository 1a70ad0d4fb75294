"""The arithmetic of a simulated link: when bytes that are sent now arrive. Pure.

Times are seconds of the simulation, sizes bytes. A link joins two machines; each of its directions is a :class:`Path`,
whose capacity all connections of the pair share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FRAME_BYTES = 1500
"""A larger segment goes as several frames, each with its own jitter."""
LOOPBACK_LATENCY_S = 25e-6
"""One way within a machine. Chosen here: what loopback TCP takes between two processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """What a link is like.

    Raises:
        ValueError: a negative time, or a bandwidth that is not positive.
    """

    latency_s: float = 0.02
    """One way."""
    jitter_s: float = 0.0
    """Added to the latency: uniform between 0 and this, drawn for each frame. Bytes of a stream keep their order."""
    bytes_per_s: float | None = None
    """Capacity of each direction; None = no limit."""

    def __post_init__(self) -> None:
        if not (self.latency_s >= 0 and self.jitter_s >= 0):
            raise ValueError("a link's latency and jitter are not negative")
        if self.bytes_per_s is not None and not self.bytes_per_s > 0:
            raise ValueError("a link's bandwidth is positive, or None for no limit")


class Link:
    """The settings of one pair of machines. They may be changed at any time, and hold for what is sent from then on."""

    __slots__ = ("bytes_per_s", "is_cut", "is_stalled", "jitter_s", "latency_s")

    def __init__(self, profile: LinkProfile) -> None:
        self.latency_s = profile.latency_s
        self.jitter_s = profile.jitter_s
        self.bytes_per_s = profile.bytes_per_s
        self.is_stalled = False
        """Nothing arrives; it waits, as TCP repeats what is lost."""
        self.is_cut = False
        """There is no way: dialling fails at once."""


class Path:
    """One direction of a link.

    Args:
        link: its settings.
        draw: numbers from 0 to below 1, for the jitter.
    """

    __slots__ = ("_draw", "_free_at_s", "link")

    def __init__(self, link: Link, draw: Callable[[], float]) -> None:
        self.link = link
        self._draw = draw
        self._free_at_s = 0.0

    def arrival_s(self, now: float, size: int, *, not_before: float = 0.0) -> float:
        """Return when a segment that is sent now arrives, and take its share of the capacity.

        Args:
            now: the time.
            size: bytes.
            not_before: when the stream's last segment arrives: what jitter may not overtake.

        >>> path = Path(Link(LinkProfile(latency_s=0.5, bytes_per_s=1000)), lambda: 0.0)
        >>> path.arrival_s(10.0, 100), path.arrival_s(10.0, 100)
        (10.6, 10.7)
        """
        link = self.link
        sent_at_s = now
        if link.bytes_per_s is not None:
            sent_at_s = self._free_at_s = max(now, self._free_at_s) + size / link.bytes_per_s
        latency_s = link.latency_s
        if link.jitter_s:
            drawn = self._draw()
            # Frames keep their order, so that the largest of their draws counts: one draw gives that, too.
            latency_s += link.jitter_s * (drawn if size <= FRAME_BYTES else drawn ** (FRAME_BYTES / size))
        return max(sent_at_s + latency_s, not_before)
