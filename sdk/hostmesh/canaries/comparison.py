"""Compares a host's answers with a reference's: how soon they part, how likely an honest host parts as soon. Pure.

With the same weights, prompt, settings and seed two engines give the same text up to where rounding sends one of them
another way. Honest engines that are not bit-exact part from each other, too, now and then; other weights part sooner.
How soon is a matter of survival: each answer agrees with the reference until it parts from it, or until it ends without
having parted. A reference may be several engines, or one in several settings: an answer agrees as long as it agrees
with any of them, so that where honest engines go two ways, either is right.

The test is the stratified log-rank test, one-sided, as a permutation test. Its null hypothesis: at each place in the
text the host's answers part at the rate of calibrated honest engines' answers that came as far, so that, stratum by
stratum, the name "host" could stand on any of the answers. Strata keep apart what makes answers part sooner whoever
gives them, above all the temperature. The statistic is the number of the host's answers that parted, less the number
expected; its permutation distribution is that of a sum of scores drawn without replacement, whose first three moments
are known exactly, and its tail is taken from the Pearson type III distribution with these moments (Wilson and
Hilferty's approximation): the host has fewer answers than the pool, and so the sum is skewed.

Sources: R. Peto, J. Peto, "Asymptotically Efficient Rank Invariant Test Procedures", 1972 (the scores); P. Mielke, K.
Berry, "Permutation Methods", 2007 (moments, Pearson type III); E. Wilson, M. Hilferty, "The Distribution of
Chi-Square", 1931; I. Gao, P. Liang, C. Guestrin, "Model Equality Testing: Which Model Is This API Serving?", arXiv
2410.20247 (the question, and two-sample tests for it without a common seed).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COMPARED_CHARACTERS = 120
"""Of an answer, at most. About what 24 tokens of SmolLM2 are, which calibration was recorded with: answers that are
allowed to be longer shall not be looked at longer."""
MIN_POOL = 2
_NO_SKEWNESS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an answer agrees with a reference."""

    characters: int
    """The same in both, from the beginning."""
    parted: bool
    """They differ there; False = the answer ended, or is not looked at any further."""


def agreement(answer: str, references: Sequence[str]) -> Agreement:
    """Return how far an answer agrees with the one of the references that it follows longest.

    Args:
        answer: the host's.
        references: one or more; an answer that is shorter than a reference has parted from it.

    >>> agreement("The sky is blue.", ["The sky is grey.", "Skies!"])
    Agreement(characters=11, parted=True)
    >>> agreement("yes", ["no", "yes"])
    Agreement(characters=3, parted=False)
    """
    mine = answer[:COMPARED_CHARACTERS]
    longest = -1
    for reference in references:
        its = reference[:COMPARED_CHARACTERS]
        if mine == its:
            return Agreement(characters=len(mine), parted=False)
        longest = max(longest, _common(mine, its))
    if longest < 0:
        raise ValueError("no reference to agree with")
    return Agreement(characters=longest, parted=True)


def _common(one: str, two: str) -> int:
    for place, (mine, its) in enumerate(zip(one, two, strict=False)):
        if mine != its:
            return place
    return min(len(one), len(two))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Answers that may be compared with each other."""

    host: Sequence[Agreement]
    pool: Sequence[Agreement]
    """Of honest engines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the test found."""

    n: int
    """The host's answers that were compared."""
    parted: int
    """Those of them that parted."""
    expected_parted: float
    """Of an honest host's, given how far each came; the same answers may be expected to part more than once."""
    deviation: float
    """Of the one from the other, in standard deviations; above 0 = parts sooner. 0.0 when nothing can vary."""
    p_value: float
    """How likely an honest host's answers part as soon, 0 to 1."""


def compare(strata: Iterable[Stratum]) -> Comparison:
    """Return how the host's answers compare with those of honest engines.

    A stratum without answers of the host, or with fewer than :data:`MIN_POOL` honest ones, is left out.

    Cost: O(n log n) in the number of answers.

    >>> soon, late = Agreement(characters=3, parted=True), Agreement(characters=90, parted=False)
    >>> compare([Stratum(host=[soon] * 20, pool=[late] * 60 + [soon] * 20)]).p_value < 1e-6
    True
    >>> compare([Stratum(host=[late] * 15 + [soon] * 5, pool=[late] * 60 + [soon] * 20)]).p_value > 0.1
    True
    """
    count, parted, total, variance, third = 0, 0, 0.0, 0.0, 0.0
    for stratum in strata:
        drawn = len(stratum.host)
        size = drawn + len(stratum.pool)
        if not drawn or len(stratum.pool) < MIN_POOL:
            continue
        scores = _scores([*stratum.host, *stratum.pool])  # their mean is 0
        spread = drawn * (size - drawn) / (size - 1)
        count += drawn
        parted += sum(one.parted for one in stratum.host)
        total += math.fsum(scores[:drawn])
        variance += spread * math.fsum(score**2 for score in scores) / size
        third += spread * (size - 2 * drawn) / (size - 2) * math.fsum(score**3 for score in scores) / size
    if variance <= 0.0:
        return Comparison(n=count, parted=parted, expected_parted=float(parted), deviation=0.0, p_value=1.0)
    deviation = total / math.sqrt(variance)
    return Comparison(
        n=count,
        parted=parted,
        expected_parted=parted - total,
        deviation=deviation,
        p_value=_upper_tail(deviation, third / variance**1.5),
    )


def _scores(answers: Sequence[Agreement]) -> list[float]:
    """Return for each answer 1 if it parted, less how often it was expected to part before it ended.

    The expectation is Nelson and Aalen's cumulative hazard of all the answers.
    """
    ends = Counter(one.characters for one in answers)
    partings = Counter(one.characters for one in answers if one.parted)
    present, hazard, hazards = len(answers), 0.0, {}
    for place in sorted(ends):
        hazard += partings[place] / present
        hazards[place] = hazard
        present -= ends[place]
    return [one.parted - hazards[one.characters] for one in answers]


def _upper_tail(deviation: float, skewness: float) -> float:
    """Return P(X >= deviation) of the standardised Pearson type III distribution with this skewness."""
    if abs(skewness) < _NO_SKEWNESS:
        return _normal_tail(deviation)
    base = skewness * deviation / 2 + 1
    if base <= 0:  # beyond the end of the distribution
        return 1.0 if skewness > 0 else 0.0
    return _normal_tail((base ** (1 / 3) - 1) * 6 / skewness + skewness / 6)


def _normal_tail(deviation: float) -> float:
    return 0.5 * math.erfc(deviation / math.sqrt(2))
