"""What canaries say of a host: observations, and evidence made of a window of them. Pure.

Evidence is no verdict: it says how many of the host's answers parted from a reference's, how likely that is for an
honest host, and at which rate honest hosts get such evidence. What follows is the reader's to decide.

Against a quorum the host is compared with each member by itself, as with a reference, and most of these comparisons
decide: the p-value is their median times the number of members that are honest when a minority lies. That keeps its
meaning whatever a minority answers: the median is then as low as the lowest of the honest ones at worst, and each of
them is a comparison of two honest engines, as in the calibration (Bonferroni's bound). A minority that answers as the
host does, to save it, moves the median up to the highest of the honest ones. To compare with what most of the members
answered, prompt by prompt, keeps no such promise: with one liar among three, engines that round differently part from
that "most" up to twice as often as from each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.canaries.comparison import Agreement, Comparison, Stratum, compare

MIN_QUORUM = 3
"""Other hosts: of fewer one that lies would be as good as half."""
WINDOW = 60
"""Observations that one piece of evidence is made of. Windows do not overlap, so that looking again and again at the
same observations does not raise the rate of false accusations."""
ACCUSING_P_VALUE = 0.005
"""Below this the evidence speaks against the host: half of the stated rate, since a calibration is of some hundred
prompts and not of the user's."""
STATED_FALSE_POSITIVE_PPM = 10_000
"""The stated rate at which windows of honest engines speak against them, in a million: 1 %, the bound that the measured
rates keep; see docs/canaries.md."""
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
class Observation:
    """A canary that the host and the reference, or a quorum, answered."""

    warmth: Warmth
    agreements: Mapping[str, Agreement]
    """With whom: the reference under any one name, or each member of a quorum that answered."""


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
    """How likely an honest host's answers part as soon, if calibration is right; 0 to 1."""
    operator: str = ""
    """The wallet under which the host answered, as an address in small letters; empty = none is known."""
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
    observations: Iterable[Observation],
    *,
    peer_id: str,
    calibration: Calibration,
    reference: str,
    operator: str = "",
) -> CanaryEvidence | None:
    """Return the evidence of one window; None = too few members of a quorum answered half of it.

    Args:
        observations: the window.
        peer_id: the host's.
        calibration: of the model that the host says it runs.
        reference: what the answers were held against, in words.
        operator: the wallet under which the host answered.

    Cost: O(members * calibrated engines * n log n).
    """
    seen = list(observations)
    members = _members(seen)
    if not members:
        return None
    found = [_compare_with_member(seen, member, calibration) for member in members]
    found.sort(key=lambda one: one.p_value)
    middle = found[len(found) // 2]
    return CanaryEvidence(
        peer_id=peer_id,
        model_id=calibration.model_id,
        reference=reference,
        operator=operator,
        n=middle.n,
        parted=middle.parted,
        expected_parted=middle.expected_parted,
        deviation=middle.deviation,
        p_value=min(1.0, middle.p_value * (len(found) + 1) / 2),
    )


def _members(observations: Sequence[Observation]) -> list[str]:
    """Return the reference, or an odd number of members who answered half of a window or more: those who did most."""
    answered = Counter(name for one in observations for name in one.agreements)
    names = sorted(answered, key=lambda name: (-answered[name], name))
    if len(names) == 1:
        return names
    names = [name for name in names if 2 * answered[name] >= len(observations)]
    return names[: len(names) - (len(names) + 1) % 2] if len(names) >= MIN_QUORUM else []


def _compare_with_member(observations: Sequence[Observation], member: str, calibration: Calibration) -> Comparison:
    seen = [(one.warmth, one.agreements[member]) for one in observations if member in one.agreements]
    by_engine = (
        compare(
            Stratum(host=[agreement for at, agreement in seen if at is warmth], pool=pool)
            for warmth, pool in engine.items()
        )
        for engine in calibration.engines.values()
    )
    return max(by_engine, key=lambda one: one.p_value)
