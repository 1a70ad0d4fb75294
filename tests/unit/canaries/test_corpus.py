"""Choices from random bytes, and prompts composed with them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.corpus import MAX_PROMPT_BYTES, Corpus
from hostmesh.canaries.draws import Draws
from hostmesh.canaries.shipped import shipped_corpus

entropies = st.binary(min_size=16, max_size=32)
CORPUS = shipped_corpus()
SHORTEST = min(len(line.encode()) for line in CORPUS.templates)


def never(_: str) -> int:
    return 0


@given(entropy=entropies, n=st.integers(1, 2**40))
def test_draws_stay_in_range_and_repeat_with_their_bytes(entropy: bytes, n: int) -> None:
    one, other = Draws(entropy), Draws(entropy)
    values = [one.below(n) for _ in range(200)]
    assert values == [other.below(n) for _ in range(200)]
    assert all(0 <= value < n for value in values)
    assert 0.0 < one.unit() < 1.0 < one.exponential() + 1.0


def test_draws_are_even_and_hang_on_every_byte() -> None:
    counts = Counter(Draws(number.to_bytes(16, "big")).below(10) for number in range(5000))
    # Chi-square with 9 degrees of freedom: 27.9 in one of a thousand runs, and these bytes are always the same.
    assert sum((counts[value] - 500) ** 2 / 500 for value in range(10)) < 27.9
    draws = Draws(bytes(32))
    assert sorted(draws.shuffled(range(50))) == list(range(50)) != draws.shuffled(range(50))


def test_too_few_random_bytes_and_an_empty_choice_are_refused() -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        Draws(bytes(15))
    with pytest.raises(ValueError, match="nothing to choose"):
        Draws(bytes(16)).choice([])


@given(entropy=entropies, length=st.integers(20, 3000))
def test_prompts_have_about_the_length_that_is_wanted(entropy: bytes, length: int) -> None:
    prompt = CORPUS.compose(Draws(entropy), length_bytes=length, age=never)
    assert abs(len(prompt.text.encode()) - length) <= max(16, 0.1 * length)
    assert "{" not in prompt.text
    assert prompt.text.strip()


@given(entropy=entropies, length=st.integers(1, 400))
def test_follow_ups_have_it_too(entropy: bytes, length: int) -> None:
    prompt = CORPUS.follow_up(Draws(entropy), length_bytes=length, age=never)
    assert abs(len(prompt.text.encode()) - max(length, SHORTEST)) <= max(16, 0.1 * length)
    assert "{" not in prompt.text


def test_no_length_is_too_great() -> None:
    prompt = CORPUS.compose(Draws(bytes(32)), length_bytes=10**9, age=never)
    assert MAX_PROMPT_BYTES - 64 < len(prompt.text.encode()) <= MAX_PROMPT_BYTES


def test_lines_that_were_used_come_back_last() -> None:
    ages: dict[str, int] = {}
    for turn in range(1, 61):
        prompt = CORPUS.compose(Draws(turn.to_bytes(16, "big")), length_bytes=35, age=lambda part: ages.get(part, 0))
        assert prompt.parts[0] not in ages
        ages[prompt.parts[0]] = turn
    draws = (Draws(turn.to_bytes(16, "big")) for turn in range(1, 61))
    lines = [CORPUS.compose(draw, length_bytes=35, age=never).parts[0] for draw in draws]
    assert len(set(lines)) < 60, "the control: without ages they come back"


def test_the_halves_share_no_line() -> None:
    one, other = CORPUS.half(0), CORPUS.half(1)
    for kind in ("templates", "readings", "follow_ups", "passages", "closings"):
        assert not set(getattr(one, kind)) & set(getattr(other, kind))
        assert {*getattr(one, kind), *getattr(other, kind)} == set(getattr(CORPUS, kind))


def test_the_shipped_corpus_says_nothing_twice_and_is_large() -> None:
    for kind in ("templates", "readings", "follow_ups", "passages", "closings"):
        assert len(set(getattr(CORPUS, kind))) == len(getattr(CORPUS, kind))
    assert len(CORPUS.templates) >= 300
    texts = {CORPUS.compose(Draws(n.to_bytes(16, "big")), length_bytes=60, age=never).text for n in range(500)}
    assert len(texts) >= 430


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"templates": ("{unknown}?",)}, "no words for the slot 'unknown'"),
        ({"closings": ("{unknown}",)}, "no words for the slot 'unknown'"),
        ({"readings": ("Read this.",)}, "a reading without a passage"),
        ({"passages": ()}, "a corpus has lines"),
    ],
)
def test_a_corpus_that_cannot_be_composed_from_is_refused(change: dict[str, tuple[str, ...]], message: str) -> None:
    parts = dict.fromkeys(("templates", "follow_ups", "passages", "closings"), ("x",))
    with pytest.raises(ValueError, match=message):
        Corpus(**{**parts, "readings": ("{passage}",), **change}, slots={})
