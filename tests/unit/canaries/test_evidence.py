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
    QuorumObservation,
    ReferenceObservation,
    Warmth,
    observe_quorum,
    warmth_of,
    weigh,
)

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
    return [
        ReferenceObservation(warmth=source.choice(list(Warmth)), agreement=seen)
        for seen in answers(source, WINDOW, mean)
    ]


def weighed(seen: list[Observation], known: Calibration | None) -> CanaryEvidence:
    return weigh(seen, peer_id="host", model_id="m", calibration=known)


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


def test_a_quorum_needs_no_calibration_and_bears_a_liar() -> None:
    def ask(host: str, others: tuple[str, ...]) -> CanaryEvidence:
        source = random.Random(3)
        seen: list[Observation] = []
        for _ in range(WINDOW):
            texts = {"honest": "a" * 60 + source.choice("xy") * 20, "false": source.choice("bcd") * 80}
            seen.append(observe_quorum(texts[host], [texts[other] for other in others]))
        return weighed(seen, None)

    assert ask("false", ("honest", "honest", "honest")).speaks_against
    assert ask("false", ("honest", "honest", "false")).n == WINDOW
    assert not ask("honest", ("honest", "honest")).speaks_against
    assert not ask("honest", ("honest", "honest", "false")).speaks_against


@given(answer=texts, others=st.lists(texts, min_size=2, max_size=5))
def test_each_answer_of_a_quorum_is_judged_by_all_the_others(answer: str, others: list[str]) -> None:
    seen = observe_quorum(answer, others)
    turned = observe_quorum(others[0], [answer, *others[1:]])
    assert len(seen.others) == len(others)
    assert (turned.host, turned.others[0]) == (seen.others[0], seen.host)
    assert seen.host.parted is (answer not in others)


def test_too_small_a_quorum_and_mixed_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="2 other hosts"):
        observe_quorum("a", ["a"])
    full = Agreement(characters=9, parted=False)
    own = ReferenceObservation(warmth=Warmth.GREEDY, agreement=full)
    asked = QuorumObservation(host=full, others=(full, full))
    with pytest.raises(ValueError, match="need its calibration"):
        weighed([own, asked], None)
    with pytest.raises(ValueError, match="take no calibration"):
        weighed([own, asked], calibration(exact=1000))
    with pytest.raises(ValueError, match="an engine or more"):
        Calibration(model_id="m", engines={})


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(None, Warmth.WARM), (0.0, Warmth.GREEDY), (0.1, Warmth.MILD), (0.5, Warmth.MILD), (0.51, Warmth.WARM)],
)
def test_strata_by_temperature(temperature: float | None, expected: Warmth) -> None:
    assert warmth_of(temperature) is expected
