"""Windows of observations, and the evidence that they make."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.comparison import Agreement
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
    seen = answers(source, WINDOW, mean)
    return [Observation(warmth=source.choice(list(Warmth)), agreements={"reference": one}) for one in seen]


def quorum_window(**means: float) -> list[Observation]:
    """Answers that part from each member's after so many characters."""
    source = random.Random(3)
    seen = {member: answers(source, WINDOW, mean) for member, mean in means.items()}
    return [
        Observation(
            warmth=source.choice(list(Warmth)), agreements={member: those[place] for member, those in seen.items()}
        )
        for place in range(WINDOW)
    ]


def weighed(seen: list[Observation], known: Calibration) -> CanaryEvidence:
    evidence = weigh(seen, peer_id="host", calibration=known, reference="the reference")
    assert evidence is not None
    return evidence


def alone(seen: list[Observation], member: str, known: Calibration) -> CanaryEvidence:
    """What one member would say."""
    return weighed(
        [
            Observation(warmth=one.warmth, agreements={member: one.agreements[member]})
            for one in seen
            if member in one.agreements
        ],
        known,
    )


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


@given(means=st.lists(st.sampled_from([8.0, 40.0, 80.0, 1000.0]), min_size=3, max_size=7))
def test_most_of_a_quorum_decide(means: list[float]) -> None:
    """The members' own comparisons are the truth: most of them, of an odd number, say so or do not."""
    known = calibration(other_attention=80)
    seen = quorum_window(**{f"member {number}": mean for number, mean in enumerate(means)})
    evidence = weighed(seen, known)
    p_values = sorted(
        alone(seen, f"member {number}", known).p_value for number in range(len(means) - (len(means) + 1) % 2)
    )
    honest = len(p_values) // 2 + 1
    assert evidence.p_value == min(1.0, p_values[len(p_values) // 2] * honest)


@pytest.mark.parametrize("liars", [{"liar": 5.0}, {"liar": 5.0, "another": 3.0}])
def test_a_minority_that_lies_accuses_nobody_and_saves_nobody(liars: dict[str, float]) -> None:
    known = calibration(other_attention=80)
    members = [f"member {number}" for number in range(len(liars) + 1)]
    honest = quorum_window(**dict.fromkeys(members, 80.0), **liars)
    assert not weighed(honest, known).speaks_against
    assert alone(honest, "liar", known).speaks_against
    savers = dict.fromkeys(liars, 10000.0)
    assert weighed(quorum_window(**dict.fromkeys(members, 15.0), **savers), known).speaks_against


def test_a_member_that_does_not_answer_half_of_a_window_is_left_out() -> None:
    known = calibration(other_attention=80)
    seen = quorum_window(one=15.0, two=15.0, three=80.0, four=80.0, rare=80.0)
    rarely = [
        Observation(
            warmth=one.warmth,
            agreements={
                name: each for name, each in one.agreements.items() if name != "rare" or place < WINDOW // 2 - 1
            },
        )
        for place, one in enumerate(seen)
    ]
    assert weighed(rarely, known) == weighed(
        [
            Observation(warmth=one.warmth, agreements={name: one.agreements[name] for name in ("four", "one", "three")})
            for one in seen
        ],
        known,
    ), "an odd number, by name"


@pytest.mark.parametrize("members", [(), ("one", "two")])
def test_fewer_than_three_others_are_no_quorum(members: tuple[str, ...]) -> None:
    seen = quorum_window(**dict.fromkeys(members, 80.0))
    assert weigh(seen, peer_id="host", calibration=calibration(other=80), reference="most of a quorum") is None


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
