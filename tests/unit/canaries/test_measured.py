"""The figures of docs/canaries.md follow from the recordings, and keep what the issue asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.canaries.evaluate import (
    DETECTED,
    HONEST,
    HONEST_PARTS,
    MODEL_ID,
    REFERENCES,
    REPORTED,
    Recordings,
    calibrate,
    calibration_rates,
    evaluate_variant,
    honest_when_suspicious,
    observations,
    rate_against,
    read_recordings,
    recorded,
)
from tests.benchmarks.canaries.jobs import CALIBRATION, COUNTS, MAX_OUTPUT_TOKENS, TEST
from tests.benchmarks.canaries.report import with_tables
from tests.benchmarks.canaries.traffic import KINDS
from tests.unit.canaries.test_guessing import tells_nothing

from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.evidence import ACCUSING_P_VALUE, STATED_FALSE_POSITIVE_PPM
from hostmesh.canaries.shipped import shipped_calibrations

MEASURED: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "docs" / "measurements" / "canaries.json").read_text(encoding="utf-8")
)
COMPARISON: dict[str, Any] = MEASURED["comparison"]


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    return read_recordings()


def test_calibration_and_test_share_no_prompt_and_no_seed(recordings: Recordings) -> None:
    parts = {part: [job for job in recordings.jobs.values() if job.part == part] for part in COUNTS}
    assert {part: len(jobs) for part, jobs in parts.items()} == COUNTS
    assert COUNTS[TEST] >= 600
    for what in ("prompt", "seed"):
        one, other = ({getattr(job, what) for job in parts[part]} for part in (CALIBRATION, TEST))
        assert not one & other
        assert len(one | other) == sum(COUNTS.values())


def test_the_threshold_follows_from_the_calibration_part_alone(recordings: Recordings) -> None:
    """It is the highest of those looked at that honest windows of that part are below in at most the stated rate."""
    below = calibration_rates(recordings, draws=4 * COMPARISON["draws"])
    assert below == COMPARISON["calibration"]["below_threshold"]
    kept = [float(threshold) for threshold, rate in below.items() if rate <= STATED_FALSE_POSITIVE_PPM / 1e6]
    assert max(kept) == ACCUSING_P_VALUE < float(max(below))


def test_each_variant_has_its_recordings(recordings: Recordings) -> None:
    assert set(COMPARISON["variants"]) == set(recorded(recordings)) == {*HONEST, *DETECTED, *REPORTED}
    for reference in REFERENCES:
        assert set(recordings.answers[reference]) == set(recordings.jobs)
    for variant in recorded(recordings):
        assert len(recordings.test_ids(variant)) == COMPARISON["variants"][variant]["generations"] == COUNTS[TEST]
        texts = recordings.answers[variant].values()
        assert len(set(texts)) > 0.7 * len(texts), "generations, not one text"
        assert max(map(len, texts)) < 12 * MAX_OUTPUT_TOKENS


@pytest.mark.parametrize("variant", COMPARISON["variants"])
def test_the_figures_follow_from_the_recordings(recordings: Recordings, variant: str) -> None:
    quorums = ["diverse_and_a_liar"] if variant == "honest_attention" else []  # each takes seconds
    written = dict(COMPARISON["variants"][variant])
    rates = written.pop("spoken_against_by_quorum")
    found = evaluate_variant(recordings, variant, quorums=quorums)
    assert found.pop("spoken_against_by_quorum") == {name: rates[name] for name in quorums}
    assert found == written


@pytest.mark.parametrize("variant", DETECTED)
def test_other_weights_are_detected(variant: str) -> None:
    assert COMPARISON["draws"] == 1000
    assert COMPARISON["window"] == 60
    assert COMPARISON["variants"][variant]["spoken_against"] >= 0.99


@pytest.mark.parametrize("variant", HONEST)
def test_honest_engines_are_not_accused(variant: str) -> None:
    assert COMPARISON["variants"][variant]["spoken_against"] <= 0.01
    assert max(COMPARISON["variants"][variant]["spoken_against_by_quorum"].values()) <= 0.01


@pytest.mark.parametrize("variant", COMPARISON["honest_on_some"])
def test_a_host_that_is_honest_on_some_jobs_is_still_detected(recordings: Recordings, variant: str) -> None:
    """It cannot tell canaries from jobs, and so is honest on as many of the one as of the other."""
    rates = COMPARISON["honest_on_some"][variant]
    assert list(rates) == [str(part) for part in HONEST_PARTS]
    part = HONEST_PARTS[0]
    assert honest_when_suspicious(recordings, variant, part=part, draws=200) == rates[str(part)]
    assert rates[str(part)] >= 0.9


def test_the_shipped_calibration_is_the_recorded_one(recordings: Recordings) -> None:
    known = shipped_calibrations()[MODEL_ID]
    assert {
        engine: {warmth: list(values) for warmth, values in strata.items()} for engine, strata in known.engines.items()
    } == calibrate(recordings).engines


def test_a_broken_statistic_is_found_out(recordings: Recordings) -> None:
    """The control: with an agreement that looks at nothing, or at the answer's length, bounds are not kept."""

    def blind(answer: str, references: Sequence[str]) -> Agreement:
        return Agreement(characters=50, parted=True)

    def by_length(answer: str, references: Sequence[str]) -> Agreement:
        return Agreement(characters=min(len(answer), 120), parted=len(answer) not in map(len, references))

    for broken in (blind, by_length):
        calibration = calibrate(recordings, agree=broken)
        rates = {
            variant: rate_against(
                list(observations(recordings, variant, agree=broken).values()), calibration, draws=100
            )
            for variant in ("honest_attention", "q4_0", "noise_2")
        }
        assert rates["honest_attention"] > 0.01 or min(rates["q4_0"], rates["noise_2"]) < 0.99, rates


@pytest.mark.parametrize("kind", KINDS)
def test_the_guessing_host_gained_nothing_measurable(kind: str) -> None:
    found = MEASURED["guessing"][kind]
    assert found["canaries"] > 300
    for name, seen in found["classifiers"].items():
        assert tells_nothing(kind, name, seen), name


def test_the_page_has_the_measured_tables() -> None:
    page = (Path(__file__).parents[3] / "docs" / "canaries.md").read_text(encoding="utf-8")
    assert with_tables(page, MEASURED) == page
