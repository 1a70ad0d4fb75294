"""What a search thinks of each host that it probed, worked out once for each record and probe.

A search looks at all of them after each answer: worked out anew each time, that would be quadratic in the hosts. What
changes for another reason meanwhile, such as a host's standing, is seen at the search's end.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.matching import failing, is_measured
from hostmesh.discovery.observer import Observer, Opinions
from hostmesh.discovery.ranking import Precedence, Strategy, precedence
from hostmesh.discovery.table import KnownHost
from hostmesh.discovery.view import ProbeResult
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one host."""

    is_match: bool
    """It meets every criterion."""
    precedence: Precedence | None
    """Of a match that was measured; else None."""

    @property
    def is_credible(self) -> bool:
        """Whether it matches, and was not caught in a claim that is not true."""
        return self.is_match and (self.precedence is None or self.precedence.credibility > 0)


class Verdicts:
    """The verdicts of one search. It holds as many as hosts were probed.

    Args:
        observer: sees the hosts.
        criteria: what they must meet.
        strategy: which of them is better.
        opinions: of hosts.
        answers_at_s: uptimes are counted to this time of the monotonic clock.
    """

    def __init__(
        self,
        observer: Observer,
        criteria: HostCriteria,
        strategy: Strategy,
        *,
        opinions: Opinions,
        answers_at_s: float,
    ) -> None:
        self._observer = observer
        self._criteria = criteria
        self._strategy = strategy
        self._opinions = opinions
        self._answers_at_s = answers_at_s
        self._held: dict[PeerId, tuple[KnownHost, ProbeResult, Verdict]] = {}

    def of(self, known: KnownHost, probe: ProbeResult) -> Verdict:
        """Return the verdict on a host by this record and this probe."""
        peer_id = known.info.peer_id
        held = self._held.get(peer_id)
        if held is not None and held[0] == known and held[1] is probe:
            return held[2]
        verdict = self._judge(known, probe)
        self._held[peer_id] = (known, probe, verdict)
        return verdict

    def reconsider(self, opinions: Opinions) -> None:
        """Work each out anew the next time, with other opinions."""
        self._opinions = opinions
        self._held.clear()

    def _judge(self, known: KnownHost, probe: ProbeResult) -> Verdict:
        view = self._observer.view(known, probe, self._opinions, answers_at_s=self._answers_at_s)
        if failing(view, self._criteria, first_only=True):
            return Verdict(is_match=False, precedence=None)
        if not is_measured(view, self._criteria):
            return Verdict(is_match=True, precedence=None)
        return Verdict(is_match=True, precedence=precedence(view, self._criteria, self._strategy))
