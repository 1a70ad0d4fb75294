"""A simulation takes as long as the same scenario on real sockets, over a link with the same round trips."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.netns.compare import as_table
from tests.netns.comparison import Plan, compare, quantile, simulate
from tests.netns.scenario import CALL, CONNECT, FIGURES, FIND_COLD, FIND_WARM, MESSAGE

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TOLERANCE = 0.2


def test_a_simulation_and_real_sockets_agree_within_a_fifth() -> None:
    plan = Plan()
    comparison = compare(plan)
    real, simulated = comparison.real, comparison.simulated
    # The link is what it was told to be, and the simulated one is like it.
    assert min(real.round_trips_s) >= 2 * plan.delay_s
    assert len(real.round_trips_s) == len(simulated.round_trips_s) == plan.round_trips
    for part in (0.1, 0.5, 0.9):
        assert quantile(simulated.round_trips_s, part) == pytest.approx(
            quantile(real.round_trips_s, part), rel=TOLERANCE
        )
    ratios = comparison.ratios()
    assert set(ratios) == set(FIGURES)
    for ratio in ratios.values():
        assert 1 - TOLERANCE <= ratio <= 1 + TOLERANCE, "\n" + as_table(comparison)

    # With another link the simulation does not agree: what was asserted above is not always so.
    nearer = simulate(plan, replace(comparison.profile, latency_s=comparison.profile.latency_s / 2))
    for name in (CONNECT, CALL, MESSAGE, FIND_COLD, FIND_WARM):
        assert nearer.figures.medians_s()[name] / real.figures.medians_s()[name] < 1 - TOLERANCE
