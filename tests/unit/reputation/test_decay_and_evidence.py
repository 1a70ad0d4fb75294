"""What evidence weighs, and what is left of it later."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.reputation.decay import HALF_LIFE_DAYS, UNIT_MICROS, day_of, decayed
from hostmesh.reputation.evidence import PPM, Evidence, EvidenceKind, canary_units
from hostmesh.reputation.score import Reputation, Weights, points
from hostmesh.reputation.tally import MAX_COUNT, MAX_WEIGHT_MICROS, NO_EVIDENCE, Entry, HostEvidence

weights = st.integers(0, MAX_WEIGHT_MICROS)
days = st.integers(0, 2000)
KINDS = list(EvidenceKind)


def evidence(kind: EvidenceKind, detail: str = "") -> Evidence:
    is_test = kind in (EvidenceKind.CANARY_FAILED, EvidenceKind.CANARY_PASSED)
    return Evidence(kind=kind, detail=detail, false_positive_ppm=10_000 if is_test else None)


def history(*kinds: EvidenceKind, day: int = 0) -> HostEvidence:
    known = NO_EVIDENCE
    for kind in kinds:
        known = known.after(evidence(kind), day)
    return known


@given(weight=weights, passed=days)
def test_what_is_left_is_the_exact_power_rounded_down(weight: int, passed: int) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(weight) * Decimal(2) ** (Decimal(-passed) / HALF_LIFE_DAYS)
    assert 0 <= exact - decayed(weight, passed) < Decimal("1.000001")


@given(weight=weights, passed=days)
def test_it_grows_less_with_each_day_and_more_with_each_weight(weight: int, passed: int) -> None:
    assert decayed(weight, passed + 1) <= decayed(weight, passed) <= decayed(weight + 1, passed)


def test_a_weight_halves_in_its_half_life_and_one_job_ends() -> None:
    assert [decayed(UNIT_MICROS, HALF_LIFE_DAYS * halvings) for halvings in (0, 1, 2, 20)] == [
        10**6,
        500_000,
        250_000,
        0,
    ]
    assert decayed(UNIT_MICROS, HALF_LIFE_DAYS * 20 - 1) == 0 < decayed(UNIT_MICROS, HALF_LIFE_DAYS * 19)
    assert decayed(MAX_WEIGHT_MICROS, 10**9) == 0
    assert decayed(10**9, -3) == 10**9, "a clock that was set back"
    assert [day_of(unix_s) for unix_s in (0.0, 86_399.9, 86_400)] == [0, 0, 1]


def test_each_kind_weighs_what_the_docs_say() -> None:
    units = {kind: evidence(kind).weight_micros // UNIT_MICROS for kind in KINDS}
    assert list(units.values()) == [1, 1, 2, 1, 5, 3, 10, 10]
    assert [kind for kind in KINDS if kind.is_good] == [EvidenceKind.JOB_FINISHED, EvidenceKind.CANARY_PASSED]
    assert [kind for kind in KINDS if kind.is_proof] == [EvidenceKind.FALSE_RECEIPT, EvidenceKind.EQUIVOCATION]
    assert len({kind.text for kind in KINDS}) == len(KINDS)


def test_a_failed_test_of_the_model_weighs_for_each_answer() -> None:
    failed, passed = (
        Evidence(kind=kind, false_positive_ppm=10_000, answers=60)
        for kind in (EvidenceKind.CANARY_FAILED, EvidenceKind.CANARY_PASSED)
    )
    assert (failed.weight_micros, failed.each_micros) == (300 * UNIT_MICROS, 5 * UNIT_MICROS)
    assert (passed.weight_micros, passed.each_micros) == (UNIT_MICROS, UNIT_MICROS), "its answers are jobs already"
    for kind, answers in ((EvidenceKind.CANARY_FAILED, 0), (EvidenceKind.CANARY_FAILED, 1001)):
        with pytest.raises(ValueError, match="1 to 1,000 answers"):
            Evidence(kind=kind, false_positive_ppm=10_000, answers=answers)
    with pytest.raises(ValueError, match="nothing else"):
        Evidence(kind=EvidenceKind.JOB_FAILED, answers=2)


@given(ppm=st.integers(1, PPM))
def test_accusations_cost_an_honest_host_less_than_its_passed_tests_earn(ppm: int) -> None:
    assert 0 <= canary_units(ppm) <= 10
    assert ppm * canary_units(ppm) <= PPM // 2
    if ppm <= 10_000:
        assert ppm * canary_units(ppm) <= (PPM - ppm) // 18


def test_the_surprise_of_an_accusation_in_bits() -> None:
    rates = (1, 100, 244, 245, 10_000, 100_000, 250_000, 250_001, 500_000, 500_001, PPM)
    assert [canary_units(ppm) for ppm in rates] == [10, 10, 10, 10, 5, 2, 1, 0, 0, 0, 0]
    assert [canary_units(ppm) for ppm in (488, 489, 976, 977)] == [10, 9, 9, 8]


@pytest.mark.parametrize(
    ("kind", "ppm"),
    [
        (EvidenceKind.JOB_FAILED, 10_000),
        (EvidenceKind.CANARY_FAILED, None),
        (EvidenceKind.CANARY_PASSED, None),
        (EvidenceKind.CANARY_FAILED, 0),
        (EvidenceKind.CANARY_FAILED, PPM + 1),
    ],
)
def test_a_rate_belongs_to_tests_and_is_one(kind: EvidenceKind, ppm: int | None) -> None:
    with pytest.raises(ValueError, match="false-positive rate"):
        Evidence(kind=kind, false_positive_ppm=ppm)


def test_a_long_detail_is_cut_between_characters() -> None:
    assert evidence(EvidenceKind.JOB_FAILED, "é" * 200).detail == "é" * 100
    assert evidence(EvidenceKind.JOB_FAILED, "x" + "é" * 100).detail == "x" + "é" * 99
    assert evidence(EvidenceKind.JOB_FAILED, "a\ud800b").detail == "a?b"


def test_a_proven_lie_leaves_nothing_of_what_was_earned() -> None:
    finished = [EvidenceKind.JOB_FINISHED] * 500 + [EvidenceKind.CANARY_PASSED] * 50
    known = history(*finished, EvidenceKind.FALSE_RECEIPT)
    assert known.weights_on(0) == Weights(bad_micros=10 * UNIT_MICROS)
    assert (known.good, known.bad) == (550, 1), "what was is still told"
    again = known.after(evidence(EvidenceKind.JOB_FINISHED), 0)
    assert again.weights_on(0) == Weights(good_micros=UNIT_MICROS, bad_micros=10 * UNIT_MICROS)
    failed = history(*finished, EvidenceKind.JOB_FAILED, EvidenceKind.EQUIVOCATION).weights_on(0)
    assert failed == Weights(bad_micros=11 * UNIT_MICROS), "nor does it forgive"


def test_evidence_of_one_kind_adds_up_as_it_decays() -> None:
    known = history(EvidenceKind.JOB_FAILED).after(evidence(EvidenceKind.JOB_FAILED), 32)
    assert known.entries == {EvidenceKind.JOB_FAILED: Entry(count=2, weight_micros=1_500_000, day=32)}
    back = known.after(evidence(EvidenceKind.JOB_FAILED), 3)
    assert back.entries[EvidenceKind.JOB_FAILED] == Entry(count=3, weight_micros=2_500_000, day=32)
    assert known.weights_on(64) == Weights(bad_micros=750_000)
    assert known.weights_on(2000) == Weights()
    assert known.bad == 2


def test_counts_and_weights_have_an_end() -> None:
    full = HostEvidence(
        {EvidenceKind.EQUIVOCATION: Entry(count=MAX_COUNT, weight_micros=MAX_WEIGHT_MICROS, day=0)}
    ).after(evidence(EvidenceKind.EQUIVOCATION), 0)
    assert full.entries[EvidenceKind.EQUIVOCATION] == Entry(count=MAX_COUNT, weight_micros=MAX_WEIGHT_MICROS, day=0)


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=30), later=days)
def test_points_stay_on_the_scale_and_bad_ones_return_to_a_hundred(kinds: list[EvidenceKind], later: int) -> None:
    def points_on(day: int) -> int:
        own = known.weights_on(day)
        return Reputation(good=known.good, bad=known.bad, own=own).points

    known = history(*kinds)
    assert 0 <= points_on(later) < 1000
    assert points_on(5000) >= points(0, 0) == 100
    assert points_on(5000) == 100 or points_on(0) > 100, "only a good name is kept"
    if not any(kind.is_good for kind in kinds):
        assert points_on(later) <= 100
    if all(kind.is_good for kind in kinds):
        assert points_on(later) >= 100
    assert (known.good, known.bad) == (sum(each.is_good for each in kinds), sum(not each.is_good for each in kinds))


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=12), kind=st.sampled_from(KINDS), day=days)
def test_what_speaks_for_a_host_never_lowers_it_and_what_speaks_against_it_never_raises(
    kinds: list[EvidenceKind], kind: EvidenceKind, day: int
) -> None:
    before, after = history(*kinds), history(*kinds).after(evidence(kind), day)
    low, high = (before, after) if kind.is_good else (after, before)
    shown = [Reputation(good=0, bad=0, own=each.weights_on(day)).points for each in (low, high)]
    assert shown == sorted(shown)


@pytest.mark.parametrize(("good", "bad"), [(1, 0), (2, 0), (20, 1), (3, 27), (1, 9), (0, 1), (0, 20)])
def test_evidence_for_a_host_is_never_less_than_two_jobs_and_other_evidence_goes(good: int, bad: int) -> None:
    made = HostEvidence()
    for kind in [EvidenceKind.JOB_FINISHED] * good + [EvidenceKind.JOB_FAILED] * bad:
        made = made.after(Evidence(kind=kind), 0)
    at_last = made.weights_on(10_000)
    assert made.recent_on(10_000).total_micros == 0
    if 9 * good <= bad:
        assert at_last.total_micros == 0
        return
    least = min(2, good + bad) * UNIT_MICROS
    assert (at_last.good_micros, at_last.bad_micros) == (least * good // (good + bad), least * bad // (good + bad))
    weights = [made.weights_on(day).total_micros for day in range(0, 400, 8)]
    assert weights == sorted(weights, reverse=True)


def test_a_proven_lie_leaves_nothing_of_it() -> None:
    made = HostEvidence()
    for _ in range(50):
        made = made.after(Evidence(kind=EvidenceKind.JOB_FINISHED), 0)
    lied = made.after(Evidence(kind=EvidenceKind.FALSE_RECEIPT), 10)
    assert (lied.weights_on(10).good_micros, lied.weights_on(10_000).total_micros) == (0, 0)


@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 2000))
def test_one_more_good_job_never_lowers_what_speaks_for_a_host(good: int, bad: int, days: int) -> None:
    made = HostEvidence()
    for kind in [EvidenceKind.JOB_FINISHED] * good + [EvidenceKind.JOB_FAILED] * bad:
        made = made.after(Evidence(kind=kind), 0)
    before = made.weights_on(days)
    after = made.after(Evidence(kind=EvidenceKind.JOB_FINISHED), days).weights_on(days)
    assert after.good_micros == before.good_micros + UNIT_MICROS
    assert after.bad_micros == before.bad_micros
