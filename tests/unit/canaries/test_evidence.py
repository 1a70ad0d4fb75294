"""Windows of observations, and the evidence that they make."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.comparison import Agreement, agreement, quorum_agreement
from hostmesh.canaries.evidence import (
    ACCUSING_P_VALUE,
    STATED_FALSE_POSITIVE_PPM,
    WINDOW,
    Calibration,
    CanaryEvidence,
    Observation,
    Warmth,
    warmth_of,
    weigh,
)
from hostmesh.canaries.shipped import shipped_calibrations

texts = st.text(alphabet="ab", max_size=6)


def answers(source: random.Random, count: int, mean: float) -> list[Agreement]:
    """Answers of 100 characters that part after so many, on average."""
    drawn = [int(source.expovariate(1 / mean)) for _ in range(count)]
    return [Agreement(characters=min(place, 100), parted=place < 100) for place in drawn]


def calibration(**means: float) -> Calibration:
    """Engines whose answers part after so many characters."""
    source = random.Random(2)
    engines = {name: {warmth: answers(source, 96, mean) for warmth in Warmth} for name, mean in means.items()}
    return Calibration(model_id="m", engines=engines)


def window(mean: float, seed: int = 1) -> list[Observation]:
    source = random.Random(seed)
    return [Observation(warmth=source.choice(list(Warmth)), agreement=seen) for seen in answers(source, WINDOW, mean)]


def weighed(seen: list[Observation], known: Calibration) -> CanaryEvidence:
    return weigh(seen, peer_id="host", calibration=known, reference="the reference")


def test_evidence_speaks_against_who_agrees_less_and_for_nobody() -> None:
    known = calibration(other_attention=80)
    against, fine, better = (weighed(window(mean), known) for mean in (20, 80, 1000))
    assert [one.speaks_against for one in (against, fine, better)] == [True, False, False]
    assert against.n == fine.n == WINDOW
    assert against.deviation > 4
    assert against.p_value < ACCUSING_P_VALUE
    assert "wrongly in at most 1 %" in against.explain()
    assert "nothing speaks against m" in fine.explain()
    assert against.false_positive_ppm == STATED_FALSE_POSITIVE_PPM == 10_000
    assert json.loads(json.dumps(against.to_dict()))["p_value"] == against.p_value


def test_being_like_one_honest_engine_is_enough() -> None:
    seen = window(40)
    assert weighed(seen, calibration(exact=1000)).speaks_against
    assert not weighed(seen, calibration(exact=1000, other_attention=40)).speaks_against
    assert not weighed(seen, calibration(other_attention=40, exact=1000)).speaks_against


@given(answer=texts, others=st.lists(texts, min_size=3, max_size=7).filter(lambda texts: len(texts) % 2))
def test_a_quorum_agrees_as_far_as_most_of_it_goes(answer: str, others: list[str]) -> None:
    seen = quorum_agreement(answer, others)
    alone = [agreement(answer, [other]) for other in others]
    as_far = sum(one.characters >= seen.characters and (not one.parted or seen.parted) for one in alone)
    farther = sum(one.characters > seen.characters for one in alone if one.parted) if seen.parted else 0
    assert as_far > len(others) / 2 > farther
    assert seen.parted is (sum(one.parted for one in alone) > len(others) / 2)
    assert seen == quorum_agreement(answer, others[::-1])


@given(answer=texts, lies=st.lists(texts, min_size=2, max_size=2))
def test_a_minority_of_a_quorum_has_no_say_against_the_others(answer: str, lies: list[str]) -> None:
    assert quorum_agreement(answer, [*lies, answer, answer, answer]) == agreement(answer, [answer])
    other = answer + "!"
    assert quorum_agreement(answer, [answer, answer, other, other, other]).parted


def test_a_quorum_of_two_or_of_an_even_number_is_refused() -> None:
    for others in ([], ["a"], ["a", "a"], ["a"] * 4):
        with pytest.raises(ValueError, match="odd number"):
            quorum_agreement("a", others)


def test_a_calibration_without_an_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="an engine or more"):
        Calibration(model_id="m", engines={})


def test_shipped_calibrations_are_of_real_size() -> None:
    for model_id, known in shipped_calibrations().items():
        assert known.model_id == model_id
        for strata in known.engines.values():
            assert set(strata) == set(Warmth)
            assert sum(map(len, strata.values())) >= 240


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(None, Warmth.WARM), (0.0, Warmth.GREEDY), (0.1, Warmth.MILD), (0.5, Warmth.MILD), (0.51, Warmth.WARM)],
)
def test_strata_by_temperature(temperature: float | None, expected: Warmth) -> None:
    assert warmth_of(temperature) is expected
