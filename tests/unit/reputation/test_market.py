"""A thousand sybils and one bad host against one honest host: the honest one is first, whatever they say.

``python -m tests.benchmarks.market`` has the figures of many more settings.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tests.benchmarks.market import (
    BAD,
    FAILED,
    FARM,
    FARMED,
    FINISHED,
    HONEST,
    OWN_JOBS,
    SYBILS,
    TODAY,
    Formula,
    Market,
    Strategy,
    jobs_until_behind,
    named,
    of_jobs,
    sybil_reviews,
    wallet,
)

from hostmesh.canaries.evidence import STATED_FALSE_POSITIVE_PPM, WINDOW
from hostmesh.reputation.decay import UNIT_MICROS
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import FOREIGN_CAP_MICROS, Reviews, foreign_cap_micros
from hostmesh.reputation.reputations import Reputations
from hostmesh.reputation.score import Reputation, Weights, points
from hostmesh.reputation.tally import HostEvidence

SEEDS = 300


@cache
def index_of(strategy: Strategy) -> Reviews:
    return Reviews(sybil_reviews(strategy))


@cache
def market(*, farmed_used: int, is_ranked: bool, strategy: Strategy, bad_good_per_mille: int = 100) -> Market:
    made = Market(
        reviews=(),
        farmed_used=farmed_used,
        bad_good_per_mille=bad_good_per_mille,
        is_ranked=is_ranked,
    )
    made.__dict__["_index"] = index_of(strategy)  # as its own, but made once for all tests
    return made


@pytest.mark.parametrize("farmed_used", [0, 1], ids=["fresh", "met"])
@pytest.mark.parametrize("is_ranked", [True, False], ids=["ranked", "in turn"])
@pytest.mark.parametrize("strategy", Strategy)
def test_a_new_client_ranks_the_honest_host_first(*, farmed_used: int, is_ranked: bool, strategy: Strategy) -> None:
    assert market(farmed_used=farmed_used, is_ranked=is_ranked, strategy=strategy).share_of_wins(SEEDS) >= 0.99


def test_a_thousand_sybils_who_farmed_one_host_that_we_used_are_next_to_nobody() -> None:
    """At half the cap and more they would put the bad host at 147 points, and the other at 95."""
    points = market(farmed_used=1, is_ranked=True, strategy=Strategy.LOUD).points((0, 0, 0, 0))
    assert points == (99, 106)


def test_sybils_earn_trust_and_are_heard() -> None:
    """Else the tests below would prove nothing."""
    reputations = Reputations({named(host): of_jobs(5, 0) for host in FARM}, index_of(Strategy.LOUD), TODAY)
    assert reputations.trust_micros(wallet(10_000 + SYBILS - 1)) > 700_000
    assert reputations.of(*named(BAD)).points > 100 > reputations.of(*named(HONEST)).points


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
@pytest.mark.parametrize("is_ranked", [True, False], ids=["ranked", "in turn"])
def test_nor_do_sybils_win_who_earned_all_the_trust_there_is(*, is_ranked: bool, first: int) -> None:
    played = market(farmed_used=FARMED, is_ranked=is_ranked, strategy=Strategy.LOUD)
    assert sum(played.honest_is_first(seed) for seed in range(first, first + 100)) >= 99


@pytest.mark.parametrize("is_ranked", [True, False], ids=["ranked", "in turn"])
def test_nor_would_they_with_all_that_the_caps_allow_at_every_moment(*, is_ranked: bool) -> None:
    bound = Market(reviews=(), farmed_used=0, bad_good_per_mille=100, is_ranked=is_ranked, formula=Formula.BOUND)
    assert bound.share_of_wins(5000) >= 0.99
    shipped = market(farmed_used=FARMED, is_ranked=is_ranked, strategy=Strategy.LOUD)
    for good_with_honest in range(OWN_JOBS + 1):
        state = (good_with_honest, 0, 0, OWN_JOBS - good_with_honest)
        honest, bad = shipped.points(state)
        least, most = bound.points(state)
        assert (honest >= least, bad <= most) == (True, True), "it bounds what the shipped formula does"


@pytest.mark.parametrize("bad_good_per_mille", [100, 200, 500])
@pytest.mark.parametrize("formula", [Formula.SHIPPED, Formula.BOUND])
def test_seeds_say_what_all_outcomes_do(formula: Formula, bad_good_per_mille: int) -> None:
    """The figures that docs/reputation.md has of them come from ``exact_figures``."""
    played = Market(reviews=(), farmed_used=0, bad_good_per_mille=bad_good_per_mille, is_ranked=True, formula=formula)
    exact = played.exact_share_of_wins()
    assert exact == pytest.approx(played.share_of_wins(4000), abs=4 * (exact * (1 - exact) / 4000) ** 0.5)
    if bad_good_per_mille == 200:
        page = (Path(__file__).parents[3] / "docs" / "reputation.md").read_text(encoding="utf-8")
        assert f"{100 * exact:.2f} %" in page


@pytest.mark.parametrize("is_ranked", [True, False], ids=["ranked", "in turn"])
def test_a_formula_that_counts_foreign_jobs_in_full_fails_the_same_test(*, is_ranked: bool) -> None:
    played = market(farmed_used=0, is_ranked=is_ranked, strategy=Strategy.LOUD)
    assert replace(played, reviews=sybil_reviews(Strategy.LOUD, 10), formula=Formula.FULL_WEIGHT).share_of_wins(20) == 0


def test_a_new_identity_never_beats_an_honest_veteran() -> None:
    """The newcomer has all the praise that counts, the veteran all the slander, and one job's weight of evidence."""
    newcomer = points(FOREIGN_CAP_MICROS, 0, unit=UNIT_MICROS)
    for tenths in range(10, 200):
        own = Weights(good_micros=tenths * UNIT_MICROS // 10)
        slandered = Reputation(good=1, bad=0, own=own, foreign=Weights(bad_micros=foreign_cap_micros(own)))
        assert slandered.points >= newcomer
        assert tenths < 11 or slandered.points > newcomer
    for good in range(1, 200):  # nor without others' word, if one job in twenty failed
        assert Reputation(good=good, bad=good // 20).points > Reputation(good=0, bad=0).points


@cache
def wrongly_failed(good: int, days: int) -> int:
    """The points of an honest host after so many jobs and one test of its model that failed, idle for so many days.

    All slander that counts is counted.
    """
    failed = Evidence(kind=EvidenceKind.CANARY_FAILED, false_positive_ppm=STATED_FALSE_POSITIVE_PPM, answers=WINDOW)
    own = of_jobs(good, 0).after(failed, TODAY).weights_on(TODAY + days)
    return Reputation(good=good, bad=1, own=own, foreign=Weights(bad_micros=foreign_cap_micros(own))).points


def test_a_veteran_whose_model_was_wrongly_failed_can_fall_behind_a_praised_newcomer() -> None:
    """How far, and from how many jobs on it does not, as docs/reputation.md says."""
    praised = points(FOREIGN_CAP_MICROS, 0, unit=UNIT_MICROS)
    idle_days = (0, 31, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 365, 640, 10_000)
    used = next(good for good in range(1, 1000) if wrongly_failed(good, 0) > praised)
    always = next(good for good in range(300, 1000) if min(wrongly_failed(good, days) for days in idle_days) > praised)
    assert min(wrongly_failed(good, days) for good in range(60, 300, 20) for days in idle_days) >= points(0, 0, unit=1)
    page = " ".join((Path(__file__).parents[3] / "docs" / "reputation.md").read_text(encoding="utf-8").split())
    assert f"more than {praised} points while it is used if it did {used} jobs or more for you" in page
    assert f"however long it then lies idle, if it did {always}, all slander counted." in page
    assert (
        f"of 120 jobs falls to {wrongly_failed(120, 365)} after a year, one of 300 to {wrongly_failed(300, 365)}:"
        in page
    )


@pytest.mark.parametrize("bad_in", [None, 20])
@pytest.mark.parametrize("good", [2, 5, 20, 500])
def test_nor_one_that_was_last_used_years_ago(good: int, bad_in: int | None) -> None:
    """The sybils praise the newcomer and slander the veteran, and have all the trust that there is."""
    for days in (0, 31, 64, 150, 640, 10_000):
        veteran = HostEvidence()
        for job in range(good):
            veteran = veteran.after(FAILED if bad_in and job % bad_in == bad_in - 1 else FINISHED, TODAY - days)
        evidence = {named(HONEST): veteran} | {named(host): of_jobs(5, 0) for host in FARM}
        reputations = Reputations(evidence, index_of(Strategy.LOUD), TODAY)
        assert reputations.of(*named(HONEST)).points > 174 > reputations.of(*named(BAD)).points > 145


def test_five_own_jobs_decide_whatever_others_say() -> None:
    for good in range(OWN_JOBS + 1):
        evidence = {named(BAD): of_jobs(good, OWN_JOBS - good)} | {named(host): of_jobs(5, 0) for host in FARM}
        assert Reputations(evidence, index_of(Strategy.LOUD), TODAY).of(*named(BAD)).points == points(
            good, OWN_JOBS - good
        )


def test_a_client_without_own_evidence_hears_nobody() -> None:
    reputations = Reputations({}, index_of(Strategy.LOUD), TODAY)
    assert {reputations.of(*named(host)).points for host in (HONEST, BAD, *FARM)} == {100}


def test_a_host_that_turned_bad_is_found_out_because_evidence_decays() -> None:
    shipped, forever = (jobs_until_behind(500, half_life_days=half_life) for half_life in (32, None))
    assert shipped < 500 < 4000 < forever
