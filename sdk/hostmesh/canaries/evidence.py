"""What canaries say of a host: observations, and evidence made of a window of them. Pure.

Evidence is no verdict: it says how many of the host's answers parted from a reference's, how likely that is for an
honest host, and at which rate honest hosts get such evidence. What follows is the reader's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.canaries.comparison import Agreement, Comparison, Stratum, agreement, compare

WINDOW = 60
"""Observations that one piece of evidence is made of. Windows do not overlap, so that looking again and again at the
same observations does not raise the rate of false accusations."""
ACCUSING_P_VALUE = 0.005
"""Below this the evidence speaks against the host: half of the stated rate, since a calibration is of some hundred
prompts and not of the user's."""
STATED_FALSE_POSITIVE_PPM = 10_000
"""The stated rate at which windows of honest engines speak against them, in a million: 1 %, the bound that the measured
rates keep; see docs/canaries.md."""
MIN_QUORUM = 2
"""Other hosts' answers beside the host's own: with one alone nobody can say which of the two deviates."""
_MILD_TEMPERATURE = 0.5


class Warmth(Enum):
    """The stratum of a job: how much chance there is in its answer."""

    GREEDY = "greedy"
    MILD = "mild"
    WARM = "warm"


def warmth_of(temperature: float | None) -> Warmth:
    """Return the stratum of a temperature; None = the engine's default, which is warm.

    >>> warmth_of(0.0), warmth_of(0.3), warmth_of(None)
    (<Warmth.GREEDY: 'greedy'>, <Warmth.MILD: 'mild'>, <Warmth.WARM: 'warm'>)
    """
    if temperature is None or temperature > _MILD_TEMPERATURE:
        return Warmth.WARM
    return Warmth.MILD if temperature > 0.0 else Warmth.GREEDY


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far honest engines that are not the reference agree with it, by engine and stratum.

    A host passes when it is like any one of the engines: the p-value is the greatest over them, which keeps its meaning
    for a host that is like one of them, whichever that is.

    >>> seen = Agreement(characters=97, parted=False)
    >>> Calibration(model_id="m", engines={"another attention path": {Warmth.GREEDY: [seen]}}).size
    1
    """

    model_id: str
    engines: Mapping[str, Mapping[Warmth, Sequence[Agreement]]]

    def __post_init__(self) -> None:
        if not self.engines:
            raise ValueError("a calibration has an engine or more")

    @property
    def size(self) -> int:
        """Values in it."""
        return sum(len(values) for strata in self.engines.values() for values in strata.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceObservation:
    """A canary that the host and the client's own reference answered."""

    warmth: Warmth
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumObservation:
    """A canary that the host and some other hosts answered: each answer's agreement with those of all the others."""

    host: Agreement
    others: tuple[Agreement, ...]


Observation = ReferenceObservation | QuorumObservation


def observe_quorum(answer: str, others: Sequence[str]) -> QuorumObservation:
    """Return what a quorum's answers to one canary say.

    Args:
        answer: the host's.
        others: those of :data:`MIN_QUORUM` or more other hosts.

    >>> [one.characters for one in observe_quorum("yes", ["yep", "yep"]).others]
    [3, 3]
    """
    if len(others) < MIN_QUORUM:
        raise ValueError(f"a quorum has {MIN_QUORUM} other hosts or more")
    answers = (answer, *others)
    seen = [agreement(mine, [*answers[:place], *answers[place + 1 :]]) for place, mine in enumerate(answers)]
    return QuorumObservation(host=seen[0], others=tuple(seen[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvidence:
    """What one window of canaries says of a host's model.

    >>> CanaryEvidence(peer_id="h", model_id="m", reference="own engine", n=60, parted=58,
    ...     expected_parted=30.0, deviation=6.0, p_value=1e-9).speaks_against
    True
    """

    peer_id: str
    model_id: str
    reference: str
    """What the answers were held against, in words."""
    n: int
    parted: int
    """Answers that parted from the reference's."""
    expected_parted: float
    """Of an honest host's, given how far each came."""
    deviation: float
    """In standard deviations; above 0 = they part sooner than honest hosts' do."""
    p_value: float
    """How likely an honest host's answers part as soon, if calibration is right."""
    false_positive_ppm: int = STATED_FALSE_POSITIVE_PPM
    """How often, in a million, a window speaks against an honest host: what is stated, not what is hoped."""

    @property
    def speaks_against(self) -> bool:
        """The p-value is below :data:`ACCUSING_P_VALUE`."""
        return self.p_value < ACCUSING_P_VALUE

    def explain(self) -> str:
        """Return the evidence in words, with its false-positive rate."""
        seen = (
            f"{self.parted} of {self.n} answers to canaries part from {self.reference},"
            f" {self.expected_parted:.0f} expected of an honest host (p = {self.p_value:.2g})"
        )
        if self.speaks_against:
            return f"{seen}; speaks against {self.model_id}, wrongly in at most {self.false_positive_ppm / 1e4:g} %"
        return f"{seen}; nothing speaks against {self.model_id}"

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {name: getattr(self, name) for name in self.__slots__}


def weigh(
    observations: Iterable[Observation], *, peer_id: str, model_id: str, calibration: Calibration | None
) -> CanaryEvidence:
    """Return the evidence of one window.

    Args:
        observations: all of one kind.
        peer_id: the host's.
        model_id: what it says it runs.
        calibration: of the reference; None = the observations are a quorum's, which carries its own.

    Raises:
        ValueError: observations of another kind than the calibration is for.

    Cost: O(calibrated engines * values).
    """
    seen = list(observations)
    if calibration is None:
        quorum = [one for one in seen if isinstance(one, QuorumObservation)]
        if len(quorum) != len(seen):
            raise ValueError("observations against a reference need its calibration")
        found = compare(Stratum(host=(one.host,), pool=one.others) for one in quorum)
        reference = "other hosts"
    else:
        own = [one for one in seen if isinstance(one, ReferenceObservation)]
        if len(own) != len(seen):
            raise ValueError("a quorum's observations take no calibration")
        found = max(
            (_compare_with(own, engine) for engine in calibration.engines.values()), key=lambda one: one.p_value
        )
        reference = "the reference"
    return CanaryEvidence(
        peer_id=peer_id,
        model_id=model_id,
        reference=reference,
        n=found.n,
        parted=found.parted,
        expected_parted=found.expected_parted,
        deviation=found.deviation,
        p_value=found.p_value,
    )


def _compare_with(
    observations: Sequence[ReferenceObservation], engine: Mapping[Warmth, Sequence[Agreement]]
) -> Comparison:
    return compare(
        Stratum(host=[one.agreement for one in observations if one.warmth is warmth], pool=pool)
        for warmth, pool in engine.items()
    )
