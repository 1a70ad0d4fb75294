"""Everything that a client knows of a host at one moment: its record, what was measured, what came of jobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Measurement, QuotedPrice, QuoteRefusal, Throttling
from hostmesh.discovery.record import HostInfo


class ReputationLike(Protocol):
    """A host's reputation with this client; :class:`hostmesh.reputation.score.Reputation` is one."""

    @property
    def points(self) -> int:
        """0 to 1000; 100 with no evidence."""
        ...

    @property
    def n(self) -> int:
        """How many outcomes stand behind it."""
        ...


class StandingLike(Protocol):
    """What this client's user, or its own failures with a host, say of the host beside the criteria."""

    @property
    def barred(self) -> str:
        """Why the host is not to be used now (a blacklist, a pause after a failure); empty = it may be used."""
        ...

    @property
    def priority(self) -> int:
        """Higher ranks first, whatever the scores; 0 for a host of whom nothing was said."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A standing as a value."""

    barred: str = ""
    priority: int = 0


NO_STANDING = Standing()
"""Of a host of whom nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a host said of its load when it was probed."""

    state: HostState
    ready_models: frozenset[str]
    """Models that are loaded and answering."""
    free_slots: int | None
    """Jobs that would start at once; None = not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What came of probing a host. ``None`` for the whole means that it was not tried."""

    latency: Measurement | None
    """None: reachable, but it could not be measured (the host serves no status protocol)."""
    readiness: Readiness | None
    unreachable: str = ""
    """Why it could not be reached; empty = it was."""
    refuted: str = ""
    """Why the host cannot be where it claims to be; empty = nothing speaks against it."""
    address: str = ""
    """The multiaddr that the probe went to; empty = not known."""
    quote: QuotedPrice | None = None
    """What one of its models would have cost; None = it was asked for no quote, or gave none."""
    unquoted: QuoteRefusal | None = None
    """Why it gave no quote; None = it gave one, or was not asked."""
    unasked: str = ""
    """Why the host was not asked, which says nothing of it; empty = it was."""
    throttling: Throttling | None = None
    """How the host refused to be measured because this client asks too often; None = it did not."""

    @property
    def is_answer(self) -> bool:
        """Whether the host was asked and answered, be it by refusing to be measured."""
        return not self.unreachable and not self.unasked


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """Everything known of one host at one moment."""

    info: HostInfo
    uptime: Measurement | None
    """As observed from here: the time from the first to the last of an unbroken row of answers; None = not observed."""
    reputation: ReputationLike
    probe: ProbeResult | None
    sources: tuple[str, ...]
    """Who named it."""
    claimed_uptime: Measurement | None = None
    """Since the start that the host states; None = it states none."""
    standing: StandingLike = NO_STANDING

    @property
    def latency(self) -> Measurement | None:
        """The measured round-trip time, if there is one."""
        return None if self.probe is None else self.probe.latency

    @property
    def readiness(self) -> Readiness | None:
        """What the host said of its load when it was probed, if it did."""
        return None if self.probe is None else self.probe.readiness

    @property
    def free_slots(self) -> int | None:
        """Jobs that would start at once, as the host said when it was probed; None = not said."""
        return None if self.readiness is None else self.readiness.free_slots

    @property
    def refuted(self) -> str:
        """Why the host cannot be where it claims to be; empty = nothing speaks against it."""
        return "" if self.probe is None else self.probe.refuted

    @property
    def unquoted(self) -> QuoteRefusal | None:
        """Why the host gave no quote when it was asked for one; None = it gave one, or was not asked."""
        return None if self.probe is None else self.probe.unquoted

    @property
    def throttling(self) -> Throttling | None:
        """How the host refused to be measured or to quote because this client asks too often; None = it did not."""
        if self.probe is not None and self.probe.throttling is not None:
            return self.probe.throttling
        refusal = self.unquoted
        if refusal is None or refusal.reason != QuoteRefusal.RATE_LIMITED:
            return None
        return Throttling(reason=refusal.reason, retry_after_ms=refusal.retry_after_ms)

    def quote_of(self, model_id: str) -> QuotedPrice | None:
        """Return what the host asked for a job of a model when it was probed; None = it was not asked, or gave none."""
        quote = None if self.probe is None else self.probe.quote
        return quote if quote is not None and quote.model_id == model_id else None

    @property
    def names(self) -> frozenset[str]:
        """What criteria and lists may call it: its peer id and its operator's address."""
        return frozenset((str(self.info.peer_id), self.info.operator_address))
