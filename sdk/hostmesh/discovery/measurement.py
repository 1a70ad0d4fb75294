"""A number with its origin: who says so, from how many samples, how long ago. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.terms import Price


class Origin(Enum):
    """Where a number comes from."""

    MEASURED = "measured"
    """By this node, over the path that a job would take."""
    CLAIMED = "claimed"
    """By the host itself; signed, and no more than that."""
    OUTCOMES = "outcomes"
    """Counted from this client's own jobs."""


class Path(Enum):
    """The way a measurement took."""

    DIRECT = "direct"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured, claimed or counted number.

    >>> rtt = Measurement(value=38.2, unit="ms", at_unix_s=9, samples=5, origin=Origin.MEASURED, path=Path.DIRECT)
    >>> rtt.describe(11)
    'measured 38.2 ms, 5 samples, direct, 2 s ago'
    >>> Measurement(value=3600.0, unit="s", at_unix_s=9, samples=1, origin=Origin.CLAIMED).describe(9)
    'claimed 3600 s, 0 s ago'
    """

    value: float
    unit: str
    """``ms``, ``s``."""
    at_unix_s: float
    """When it was taken."""
    samples: int
    """How many samples stand behind ``value``, >= 1."""
    origin: Origin
    spread: float | None = None
    """Median absolute deviation of the samples, in ``unit``; None = not known."""
    path: Path | None = None
    """None where a path means nothing."""

    def describe(self, now_unix_s: float) -> str:
        """Return one line for people: origin, value, samples, path and age."""
        number = f"{self.value:.1f}".removesuffix(".0")
        parts = [f"{self.origin.value} {number} {self.unit}"]
        if self.origin is not Origin.CLAIMED:
            parts.append(f"{self.samples} samples" if self.samples != 1 else "1 sample")
        if self.path is not None:
            parts.append(self.path.value)
        parts.append(f"{max(0, int(now_unix_s - self.at_unix_s))} s ago")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "value": self.value,
            "unit": self.unit,
            "at_unix_s": self.at_unix_s,
            "samples": self.samples,
            "origin": self.origin.value,
            "spread": self.spread,
            "path": None if self.path is None else self.path.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedPrice:
    """What a host asked for a job when it was probed: signed by it, for this client alone.

    A record says what a host wants to be found with; this is what a job would have cost.
    """

    model_id: str
    price: Price
    jobs_ahead: int
    """Jobs that would have run before this one; 0 = it would have started at once."""
    at_unix_s: float
    """When it came."""

    @property
    def origin(self) -> Origin:
        """:attr:`Origin.MEASURED`: the host is held to it."""
        return Origin.MEASURED

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "model": self.model_id,
            **self.price.to_dict(),
            "jobs_ahead": self.jobs_ahead,
            "at_unix_s": self.at_unix_s,
            "origin": self.origin.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRefusal:
    """Why a host gave no quote when it was asked for one."""

    NOT_SERVED = "NOT_SERVED"
    """It serves no jobs, at least none of this protocol: it may serve something else at its price."""
    UNPRICED = "UNPRICED"
    """It names no price for the model."""
    BROKEN = "BROKEN"
    """What it gave proves nothing: signed by another, for another, or no quote at all."""
    OF_PRICE = (UNPRICED, BROKEN)
    """Those that speak of the price. Others say that the host takes no job now."""
    RATE_LIMITED = "RATE_LIMITED"
    """This client asks more often than the host allows; nothing is said of jobs."""

    reason: str
    """One of the above, or what the host said: ``BUSY``, ``DRAINING``, ``UNSUPPORTED_MODEL``."""
    retry_after_ms: int | None = None
    """When to ask again; None = not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """A host that answered, and refused to be measured: this client asks it more often than it allows.

    >>> str(Throttling(reason="RATE_LIMITED", retry_after_ms=40))
    'allows this client no more calls now: RATE_LIMITED; again in 40 ms'
    """

    reason: str
    """What the host said: ``RATE_LIMITED``, ``BUSY``."""
    retry_after_ms: int | None = None
    """When to ask again; None = not said."""

    def __str__(self) -> str:
        again = "" if self.retry_after_ms is None else f"; again in {self.retry_after_ms} ms"
        return f"allows this client no more calls now: {self.reason}{again}"
