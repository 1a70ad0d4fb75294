"""Agreement, and the permutation test: its p-values against brute force."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.comparison import COMPARED_CHARACTERS, Stratum, agreement, compare

texts = st.text(alphabet="abc é", max_size=120)
shares = st.floats(0.0, 1.0)


@given(one=texts, other=texts)
def test_agreement_is_even_handed_and_full_only_for_equal_beginnings(one: str, other: str) -> None:
    value = agreement(one, other)
    assert 0.0 <= value <= 1.0
    assert value == agreement(other, one)
    assert (value == 1.0) == (one[:COMPARED_CHARACTERS] == other[:COMPARED_CHARACTERS])


@given(head=texts, one=texts, other=texts)
def test_agreement_is_the_part_before_the_first_difference(head: str, one: str, other: str) -> None:
    mine, its = (f"{head}x{one}")[:COMPARED_CHARACTERS], (f"{head}y{other}")[:COMPARED_CHARACTERS]
    expected = 1.0 if mine == its else len(head) / max(len(mine), len(its))
    assert agreement(mine, its) == expected


def test_a_cut_answer_agrees_as_far_as_it_goes() -> None:
    assert agreement("a" * 60, "a" * 20) == pytest.approx(1 / 3)


def test_the_p_value_is_that_of_permutations() -> None:
    """The tail's closed form against 20,000 shuffles, in strata that are skewed as real ones are."""
    source = random.Random(5)
    pools = [[1.0] * 60 + [source.random() for _ in range(36)], [source.random() ** 3 for _ in range(96)]]
    hosts = [[1.0] * 12 + [source.random() * 0.9 for _ in range(12)], [source.random() ** 3.5 for _ in range(24)]]
    strata = [Stratum(host=host, pool=pool) for host, pool in zip(hosts, pools, strict=True)]
    found = compare(strata)
    observed = sum(map(sum, hosts))
    rounds, as_low = 20_000, 0
    mixed = [[*host, *pool] for host, pool in zip(hosts, pools, strict=True)]
    for _ in range(rounds):
        as_low += sum(sum(source.sample(values, 24)) for values in mixed) <= observed + 1e-9
    assert found.p_value == pytest.approx(as_low / rounds, rel=0.1, abs=0.001)
    assert 0.005 < found.p_value < 0.2, "a tail that shuffles can see"


def test_honest_hosts_have_small_p_values_as_rarely_as_these_say() -> None:
    source = random.Random(6)

    def draw(count: int) -> list[float]:
        return [min(1.0, source.random() * 1.8) for _ in range(count)]

    p_values = [compare([Stratum(host=draw(24), pool=draw(96))]).p_value for _ in range(2000)]
    for threshold, most in ((0.05, 125), (0.01, 33), (0.001, 8)):
        assert sum(p_value < threshold for p_value in p_values) <= most, threshold


@given(values=st.lists(shares, min_size=4, max_size=30), pool=st.lists(shares, min_size=2, max_size=30))
def test_agreeing_less_never_raises_the_p_value(values: list[float], pool: list[float]) -> None:
    lower = [value / 2 for value in values]
    before, after = compare([Stratum(host=values, pool=pool)]), compare([Stratum(host=lower, pool=pool)])
    assert 0.0 <= after.p_value <= 1.0
    assert after.mean <= before.mean
    assert before.n == after.n == len(values)


def test_strata_without_honest_values_are_left_out() -> None:
    empty = [Stratum(host=[0.0] * 9, pool=[1.0]), Stratum(host=[], pool=[1.0] * 9)]
    assert compare(empty).n == 0
    assert compare(empty).p_value == 1.0
    one = Stratum(host=[0.2] * 9, pool=[1.0, 0.5] * 9)
    assert compare([one, *empty]) == compare([one])


def test_what_cannot_vary_tells_nothing() -> None:
    found = compare([Stratum(host=[1.0] * 60, pool=[1.0] * 60)])
    assert (found.deviation, found.p_value, found.mean) == (0.0, 1.0, 1.0)


def test_strata_are_not_compared_with_each_other() -> None:
    """A host that was asked the hard questions only is not worse than one that was asked both kinds."""
    hard = Stratum(host=[0.1, 0.2, 0.15] * 20, pool=[0.1, 0.2, 0.15] * 30)
    easy = Stratum(host=[], pool=[1.0, 0.9] * 45)
    assert compare([hard, easy]).p_value == pytest.approx(0.5, abs=0.05)
    merged = Stratum(host=hard.host, pool=[*hard.pool, *easy.pool])
    assert compare([merged]).p_value < 1e-6, "the control: without strata it is accused"
