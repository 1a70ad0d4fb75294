"""Compares a host's answers with a reference's: how far they agree, how likely an honest host agrees as little. Pure.

With the same weights, prompt, settings and seed two engines give the same text up to where rounding sends one of them
another way. The *agreement* of two answers is the part of the text before that point. Honest engines that are not
bit-exact agree less than fully; how much, calibration says. Other weights part sooner.

The test is a stratified two-sample permutation test, one-sided. Under its null hypothesis the host's agreements are
drawn from the same distribution as those of calibrated honest engines, stratum by stratum: what matters most to the
agreement, the temperature, is never compared across. The statistic is the sum of the host's agreements; its permutation
distribution is that of a sum of values drawn without replacement, whose first three moments are known exactly, and its
lower tail is taken from the Pearson type III distribution with these moments (Wilson and Hilferty's approximation).

Sources: I. Gao, P. Liang, C. Guestrin, "Model Equality Testing: Which Model Is This API Serving?", arXiv 2410.20247
(the question, and two-sample tests for it); P. Mielke, K. Berry, "Permutation Methods", 2007 (moments of permutation
distributions and the Pearson type III fit); E. Wilson, M. Hilferty, "The Distribution of Chi-Square", 1931.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COMPARED_CHARACTERS = 80
"""Only the beginnings of answers are compared, so that their agreement does not hang on how long they were allowed to
be. 24 tokens of SmolLM2, which calibration was recorded with, are longer than that nine times in ten."""
MIN_POOL = 2
"""Least honest values in a stratum; one with fewer tells nothing and is left out."""
_FIRM_SKEWNESS = 1e-6


def agreement(answer: str, other: str) -> float:
    """Return which part of two answers' beginnings is the same, from 0 to 1.

    >>> agreement("The sky is blue.", "The sky is grey.")
    0.6875
    >>> agreement("", ""), agreement("a" * 100, "a" * 80 + "b")
    (1.0, 1.0)
    """
    one, two = answer[:COMPARED_CHARACTERS], other[:COMPARED_CHARACTERS]
    longer = max(len(one), len(two))
    if not longer:
        return 1.0
    for position, (mine, its) in enumerate(zip(one, two, strict=False)):
        if mine != its:
            return position / longer
    return min(len(one), len(two)) / longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Values that may be compared with each other.

    Args:
        host: agreements of the host, each from 0 to 1.
        pool: agreements of honest engines.
    """

    host: Sequence[float]
    pool: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the test found."""

    n: int
    """The host's values that were compared."""
    mean: float
    """Of the host's agreements."""
    expected_mean: float
    """Under the null hypothesis."""
    deviation: float
    """Of the sum from its expectation, in standard deviations; below 0 = agrees less. 0.0 when nothing can vary."""
    p_value: float
    """How likely an honest host agrees as little, 0 to 1."""


def compare(strata: Iterable[Stratum]) -> Comparison:
    """Return how the host's agreements compare with those of honest engines.

    Strata without values of the host, or with fewer than :data:`MIN_POOL` honest ones, are left out.

    Cost: O(values).

    >>> compare([Stratum(host=[0.1] * 20, pool=[1.0, 0.9, 1.0, 0.4] * 20)]).p_value < 1e-9
    True
    >>> compare([Stratum(host=[1.0, 0.4], pool=[1.0, 0.9, 1.0, 0.4] * 20)]).p_value > 0.1
    True
    """
    count, total, expected, variance, third = 0, 0.0, 0.0, 0.0, 0.0
    for stratum in strata:
        drawn = len(stratum.host)
        size = drawn + len(stratum.pool)
        if not drawn or len(stratum.pool) < MIN_POOL:
            continue
        values = (*stratum.host, *stratum.pool)
        mean = math.fsum(values) / size
        second_moment = math.fsum((value - mean) ** 2 for value in values) / size
        third_moment = math.fsum((value - mean) ** 3 for value in values) / size
        spread = drawn * (size - drawn) / (size - 1)
        count += drawn
        total += math.fsum(stratum.host)
        expected += drawn * mean
        variance += spread * second_moment
        third += spread * (size - 2 * drawn) / (size - 2) * third_moment
    if variance <= 0.0:
        mean = total / count if count else 0.0
        return Comparison(n=count, mean=mean, expected_mean=mean, deviation=0.0, p_value=1.0)
    deviation = (total - expected) / math.sqrt(variance)
    return Comparison(
        n=count,
        mean=total / count,
        expected_mean=expected / count,
        deviation=deviation,
        p_value=_lower_tail(deviation, third / variance**1.5),
    )


def _lower_tail(deviation: float, skewness: float) -> float:
    """Return P(X <= deviation) of the standardised Pearson type III distribution with this skewness."""
    if abs(skewness) < _FIRM_SKEWNESS:
        return _normal(deviation)
    base = skewness * deviation / 2 + 1
    if base <= 0:  # beyond the end of the distribution
        return 0.0 if skewness > 0 else 1.0
    return _normal((base ** (1 / 3) - 1) * 6 / skewness + skewness / 6)


def _normal(deviation: float) -> float:
    return 0.5 * math.erfc(-deviation / math.sqrt(2))
