"""Agreement, and the log-rank test: its p-values against brute force."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.comparison import COMPARED_CHARACTERS, Agreement, Stratum, agreement, compare

texts = st.text(alphabet="abc é", max_size=30)
agreements = st.builds(Agreement, characters=st.integers(0, 100), parted=st.booleans())


@given(one=texts, other=texts)
def test_agreement_is_even_handed_and_unparted_only_for_equal_answers(one: str, other: str) -> None:
    seen = agreement(one, [other])
    assert seen == agreement(other, [one])
    assert seen.parted is (one != other)
    assert one[: seen.characters] == other[: seen.characters]
    if seen.parted:
        assert one[: seen.characters + 1] != other[: seen.characters + 1]


@given(answer=texts, references=st.lists(texts, min_size=1, max_size=4))
def test_an_answer_agrees_with_the_reference_that_it_follows_longest(answer: str, references: list[str]) -> None:
    seen = agreement(answer, references)
    alone = [agreement(answer, [reference]) for reference in references]
    assert seen.parted is all(one.parted for one in alone)
    assert seen.characters == (max(one.characters for one in alone) if seen.parted else len(answer))


def test_only_the_beginning_counts_and_a_cut_answer_has_parted() -> None:
    long = "a" * COMPARED_CHARACTERS
    assert agreement(long + "b", [long + "c"]) == Agreement(characters=COMPARED_CHARACTERS, parted=False)
    assert agreement("a" * 20, ["a" * 60]) == Agreement(characters=20, parted=True)
    with pytest.raises(ValueError, match="no reference"):
        agreement("a", [])


def lifetimes(source: random.Random, count: int, mean: float, *, most: int = 100) -> list[Agreement]:
    """Answers that part at a constant rate, and are as long as it happens."""
    drawn = []
    for _ in range(count):
        parts, ends = int(source.expovariate(1 / mean)), source.randint(most // 2, most)
        drawn.append(Agreement(characters=min(parts, ends), parted=parts < ends))
    return drawn


def test_a_small_case_by_hand() -> None:
    """The scores and the variance of their sum over all ten ways to name two of five answers the host's."""
    parted = [Agreement(characters=place, parted=True) for place in (4, 7)]
    stays = Agreement(characters=9, parted=False)
    found = compare([Stratum(host=[parted[0], stays], pool=[parted[0], parted[1], stays])])
    early, later = 2 / 5, 2 / 5 + 1 / 3
    scores = [1 - early, -later, 1 - early, 1 - later, -later]
    sums = [one + other for place, one in enumerate(scores) for other in scores[place + 1 :]]
    assert (found.n, found.parted) == (2, 1)
    assert found.expected_parted == pytest.approx(early + later)
    assert found.deviation == pytest.approx((1 - early - later) / (sum(value**2 for value in sums) / 10) ** 0.5)


def test_the_p_value_is_that_of_permutations() -> None:
    """Where all answers may be as long, the host's name can be put on any of them."""
    source = random.Random(5)
    pools = [lifetimes(source, 96, 90), lifetimes(source, 96, 30)]
    hosts = [lifetimes(source, 24, 45), lifetimes(source, 24, 15)]
    observed = compare([Stratum(host=host, pool=pool) for host, pool in zip(hosts, pools, strict=True)])
    mixed = [[*host, *pool] for host, pool in zip(hosts, pools, strict=True)]
    rounds, as_far = 1500, 0
    for _ in range(rounds):
        for values in mixed:
            source.shuffle(values)
        drawn = compare([Stratum(host=values[:24], pool=values[24:]) for values in mixed])
        as_far += drawn.deviation >= observed.deviation
    assert 0.002 < observed.p_value < 0.2, "a tail that shuffles can see"
    assert observed.p_value == pytest.approx(as_far / rounds, rel=0.3, abs=0.005)


def test_a_host_with_few_answers_has_small_p_values_as_often_as_permutations_do() -> None:
    """Its sum is skewed: a normal tail calls 0.006 what happens once in a hundred times."""
    source = random.Random(11)
    answers, rounds = lifetimes(source, 120, 60), 4000
    p_values = []
    for _ in range(rounds):
        source.shuffle(answers)
        p_values.append(compare([Stratum(host=answers[:12], pool=answers[12:])]).p_value)
    assert sum(p_value < 0.05 for p_value in p_values) / rounds == pytest.approx(0.05, abs=0.004)
    assert sum(p_value < 0.01 for p_value in p_values) / rounds == pytest.approx(0.01, abs=0.002)


def rejected(source: random.Random, draw_host: Callable[[], list[Agreement]], threshold: float) -> float:
    rounds = 400
    return (
        sum(
            compare([Stratum(host=draw_host(), pool=lifetimes(source, 240, 80))]).p_value < threshold
            for _ in range(rounds)
        )
        / rounds
    )


def test_honest_hosts_have_small_p_values_as_rarely_as_these_say() -> None:
    source = random.Random(6)
    assert rejected(source, lambda: lifetimes(source, 60, 80), 0.05) == pytest.approx(0.05, abs=0.03)
    assert rejected(source, lambda: lifetimes(source, 60, 80), 0.01) <= 0.025


def test_answers_of_another_length_are_compared_fairly() -> None:
    source = random.Random(7)
    assert rejected(source, lambda: lifetimes(source, 60, 80, most=400), 0.01) <= 0.025
    assert rejected(source, lambda: lifetimes(source, 60, 80, most=20), 0.01) <= 0.025
    assert rejected(source, lambda: lifetimes(source, 60, 25, most=400), 0.01) > 0.99, "the control"


some_agreements = st.lists(agreements, min_size=2, max_size=30)


@given(one=some_agreements, other=some_agreements)
def test_what_one_side_parts_too_often_the_other_parts_too_seldom(one: list[Agreement], other: list[Agreement]) -> None:
    found, turned = compare([Stratum(host=one, pool=other)]), compare([Stratum(host=other, pool=one)])
    assert (found.n, turned.n) == (len(one), len(other))
    assert found.deviation == pytest.approx(-turned.deviation, abs=1e-9)
    assert found.parted - found.expected_parted == pytest.approx(turned.expected_parted - turned.parted, abs=1e-9)
    assert 0.0 <= found.p_value <= 1.0


@given(pool=some_agreements, count=st.integers(1, 60))
def test_who_outlasts_all_others_is_not_accused(pool: list[Agreement], count: int) -> None:
    host = [Agreement(characters=101, parted=False)] * count
    assert compare([Stratum(host=host, pool=pool)]).p_value > 0.1


def test_strata_without_either_side_are_left_out() -> None:
    some = [Agreement(characters=5, parted=True)] * 9
    empty = [Stratum(host=some, pool=[]), Stratum(host=[], pool=some)]
    assert compare(empty).n == 0
    assert compare(empty).p_value == 1.0
    one = Stratum(host=some, pool=[*some, Agreement(characters=50, parted=False)])
    assert compare([one, *empty]) == compare([one])


def test_what_cannot_vary_tells_nothing() -> None:
    full = [Agreement(characters=90, parted=False)] * 60
    found = compare([Stratum(host=full, pool=full)])
    assert (found.parted, found.deviation, found.p_value) == (0, 0.0, 1.0)


def test_strata_are_not_compared_with_each_other() -> None:
    """A host that was asked the hard questions only is not worse than one that was asked both kinds."""
    source = random.Random(8)
    asked, hard, easy = lifetimes(source, 60, 20), lifetimes(source, 90, 20), lifetimes(source, 90, 2000)
    assert compare([Stratum(host=asked, pool=hard), Stratum(host=[], pool=easy)]).p_value > 0.01
    assert compare([Stratum(host=asked, pool=[*hard, *easy])]).p_value < 1e-4, "the control: without strata it is"
