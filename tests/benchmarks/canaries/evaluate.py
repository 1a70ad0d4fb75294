"""How often the shipped test speaks against each recorded engine: thousands of windows drawn from the recordings.

The calibration part of the recordings makes the calibration; windows are drawn from the test part alone, which shares
no prompt, line, passage or seed with it. Everything random comes from one seed: the figures are the same each time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.canaries.jobs import CALIBRATION, COUNTS, RECORDINGS, TEST, RecordedJob, read_jobs

from hostmesh.canaries.comparison import Agreement, agreement
from hostmesh.canaries.evidence import (
    ACCUSING_P_VALUE,
    WINDOW,
    Calibration,
    CanaryEvidence,
    Observation,
    Warmth,
    warmth_of,
    weigh,
)

DRAWS = 1000
SEED = 7
MODEL_ID = "smollm2-135m-instruct"
REFERENCE = "reference"
REFERENCES = (REFERENCE,)
"""The client's own engine: in one setting."""
CALIBRATED = ("honest_attention",)
"""The honest engines whose agreement makes the calibration: those that are not bit-exact with the reference."""
HONEST = ("honest_batch", "honest_threads", "honest_attention")
DETECTED = ("q4_0", "noise_2", "noise_10", "fewer_layers", "other_model")
REPORTED = ("reference_2", "q8_0", "noise_0_5")
"""Without a bound. ``reference_2`` is honest: another attention path and a cache of 32-bit floats; the calibration has
not seen it."""
THRESHOLDS = (0.001, 0.005, 0.01, 0.05)
HONEST_PARTS = (0.1, 0.25, 0.5)
"""Of its jobs, for which a host runs the true model because it suspects a canary."""
QUORUMS = {
    "alike": ("reference", "reference", "honest_attention"),
    "diverse": ("honest_batch", "honest_attention", "reference_2"),
    "alike_and_a_liar": ("reference", "honest_attention", "q4_0"),
    "diverse_and_a_liar": ("honest_attention", "reference_2", "q4_0"),
}
"""What the other hosts run, where a quorum is asked; two of the reference's setting give the same answers. Where the
host's own engine is one of them the reference stands in, so that nobody is compared with himself."""

Agree = Callable[[str, Sequence[str]], Agreement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """All answers, by variant and job."""

    jobs: Mapping[str, RecordedJob]
    answers: Mapping[str, Mapping[str, str]]

    def expected(self, job_id: str) -> list[str]:
        """Return the references' answers to a job."""
        return [self.answers[reference][job_id] for reference in REFERENCES]

    def test_ids(self, variant: str) -> list[str]:
        """Return the test part's jobs that a variant answered, in a fixed order."""
        return sorted(job_id for job_id in self.answers[variant] if self.jobs[job_id].part == TEST)


def read_recordings() -> Recordings:
    """Return what lies in the folder ``recordings``."""
    answers: dict[str, dict[str, str]] = {}
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        if path.name != "jobs.jsonl":
            lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
            answers[path.stem] = {line["id"]: line["text"] for line in lines}
    return Recordings(jobs={job.job_id: job for job in read_jobs()}, answers=answers)


def calibrate(recordings: Recordings, *, agree: Agree = agreement) -> Calibration:
    """Return the calibration that the calibration part makes."""
    engines: dict[str, dict[Warmth, list[Agreement]]] = {}
    for variant in CALIBRATED:
        strata: dict[Warmth, list[Agreement]] = {}
        for job_id, answer in sorted(recordings.answers[variant].items()):
            job = recordings.jobs[job_id]
            if job.part == CALIBRATION:
                strata.setdefault(warmth_of(job.temperature), []).append(agree(answer, recordings.expected(job_id)))
        engines[variant] = strata
    return Calibration(model_id=MODEL_ID, engines=engines)


def observations(recordings: Recordings, variant: str, *, agree: Agree = agreement) -> dict[str, Observation]:
    """Return what each canary of the test part says of a variant."""
    return {
        job_id: Observation(
            warmth=warmth_of(recordings.jobs[job_id].temperature),
            agreements={REFERENCE: agree(recordings.answers[variant][job_id], recordings.expected(job_id))},
        )
        for job_id in recordings.test_ids(variant)
    }


def rate_against(
    seen: Sequence[Observation],
    calibration: Calibration,
    *,
    draws: int = DRAWS,
    window: int = WINDOW,
    seed: int = SEED,
) -> float:
    """Return the part of windows, drawn without replacement, that speak against the engine."""
    source = random.Random(seed)
    return sum(_window(source.sample(seen, window), calibration).speaks_against for _ in range(draws)) / draws


def _window(seen: Sequence[Observation], calibration: Calibration) -> CanaryEvidence:
    evidence = weigh(seen, peer_id="host", calibration=calibration, reference="the reference")
    assert evidence is not None, "everybody answered"
    return evidence


def calibration_rates(recordings: Recordings, *, draws: int = DRAWS) -> dict[str, float]:
    """Return, by threshold, how often windows of the calibration part are below it: against the rest of that part.

    What a threshold is chosen by. No test recording is looked at.
    """
    seen = [
        (warmth_of(recordings.jobs[job_id].temperature), agreement(answer, recordings.expected(job_id)))
        for variant in CALIBRATED
        for job_id, answer in sorted(recordings.answers[variant].items())
        if recordings.jobs[job_id].part == CALIBRATION
    ]
    source = random.Random(SEED)
    p_values = []
    for _ in range(draws):
        source.shuffle(seen)
        rest: dict[Warmth, list[Agreement]] = {}
        for warmth, one in seen[WINDOW:]:
            rest.setdefault(warmth, []).append(one)
        window = [Observation(warmth=warmth, agreements={"the rest": one}) for warmth, one in seen[:WINDOW]]
        p_values.append(_window(window, Calibration(model_id=MODEL_ID, engines={"the rest": rest})).p_value)
    return {str(each): sum(p_value < each for p_value in p_values) / draws for each in THRESHOLDS}


def quorum_observations(recordings: Recordings, variant: str, quorum: Sequence[str]) -> list[Observation]:
    """Return what each canary of the test part says of a variant when a quorum is asked."""
    return [
        Observation(
            warmth=warmth_of(recordings.jobs[job_id].temperature),
            agreements={
                f"member {number}": agreement(recordings.answers[variant][job_id], [recordings.answers[member][job_id]])
                for number, member in enumerate(quorum)
            },
        )
        for job_id in recordings.test_ids(variant)
    ]


def evaluate_variant(
    recordings: Recordings, variant: str, *, draws: int = DRAWS, quorums: Collection[str] = tuple(QUORUMS)
) -> dict[str, Any]:
    """Return the figures of one variant, with those of these quorums."""
    calibration = calibrate(recordings)
    seen = list(observations(recordings, variant).values())
    by_warmth = {warmth: [one for one in seen if one.warmth is warmth] for warmth in Warmth}
    return {
        "generations": len(seen),
        "parted": {
            warmth.value: _mean([one.agreements[REFERENCE].parted for one in by_warmth[warmth]]) for warmth in Warmth
        },
        "mean_characters": {
            warmth.value: round(_mean([one.agreements[REFERENCE].characters for one in by_warmth[warmth]]), 1)
            for warmth in Warmth
        },
        "spoken_against": rate_against(seen, calibration, draws=draws),
        "spoken_against_by_warmth": {
            warmth.value: rate_against(by_warmth[warmth], calibration, draws=draws // 5) for warmth in Warmth
        },
        "spoken_against_by_quorum": {
            name: rate_against(
                quorum_observations(
                    recordings, variant, [REFERENCE if member == variant else member for member in QUORUMS[name]]
                ),
                calibration,
                draws=draws,
            )
            for name in quorums
        },
    }


def recorded(recordings: Recordings) -> list[str]:
    """Return the variants of which all test jobs are recorded, in the order of the tables."""
    return [
        variant
        for variant in (*HONEST, *DETECTED, *REPORTED)
        if variant in recordings.answers and len(recordings.test_ids(variant)) == COUNTS[TEST]
    ]


def evaluate(recordings: Recordings, *, draws: int = DRAWS) -> dict[str, object]:
    """Return all figures of the comparison."""
    calibration = calibrate(recordings)
    return {
        "window": WINDOW,
        "draws": draws,
        "accusing_p_value": ACCUSING_P_VALUE,
        "calibration": {
            "generations": calibration.size,
            "below_threshold": calibration_rates(recordings, draws=4 * draws),
            "parted": {
                engine: {warmth.value: _mean([one.parted for one in values]) for warmth, values in strata.items()}
                for engine, strata in calibration.engines.items()
            },
        },
        "variants": {variant: evaluate_variant(recordings, variant, draws=draws) for variant in recorded(recordings)},
        "not_recorded": sorted({*HONEST, *DETECTED, *REPORTED} - set(recorded(recordings))),
        "honest_on_some": {
            variant: {
                str(part): honest_when_suspicious(recordings, variant, part=part, draws=draws // 5)
                for part in HONEST_PARTS
            }
            for variant in DETECTED
            if variant in recorded(recordings)
        },
    }


def honest_when_suspicious(recordings: Recordings, variant: str, *, part: float, draws: int = DRAWS) -> float:
    """Return how often a host is spoken against that runs the true model on some of the canaries.

    Its guesses tell it nothing, so that the canaries for which it runs the true model are a random part of them, the
    same part as of all jobs.
    """
    calibration = calibrate(recordings)
    false = observations(recordings, variant)
    true = observations(recordings, "honest_attention")
    source = random.Random(SEED)
    count = 0
    for _ in range(draws):
        drawn = source.sample(sorted(false), WINDOW)
        seen = [true[job_id] if source.random() < part else false[job_id] for job_id in drawn]
        count += _window(seen, calibration).speaks_against
    return count / draws


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
