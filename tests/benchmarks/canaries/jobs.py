"""The recorded jobs: which prompts, with which settings and seeds. The same ones on every machine.

``recordings/jobs.jsonl`` was drawn once, when the corpus was smaller; drawn now, the prompts would be others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.shipped import shipped_corpus

RECORDINGS = Path(__file__).with_name("recordings")
JOBS = RECORDINGS / "jobs.jsonl"
CALIBRATION, TEST = "calibration", "test"
COUNTS = {CALIBRATION: 240, TEST: 600}
MAX_OUTPUT_TOKENS = 24
TEMPERATURES = (0.0, 0.0, 0.3, 0.7, 1.0)
"""Taken in turn: two jobs in five are greedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJob:
    """A job that was given to every variant."""

    job_id: str
    part: str
    prompt: str
    temperature: float
    seed: int


def draw_jobs() -> list[RecordedJob]:
    """Return the jobs: the parts share no line, reading, passage, prompt or seed."""
    draws = Draws(hashlib.sha256(b"hostmesh canary recordings 1").digest())
    halves = {CALIBRATION: shipped_corpus().half(0), TEST: shipped_corpus().half(1)}
    jobs: list[RecordedJob] = []
    used: set[str] = set()
    seeds: set[int] = set()
    for part, count in COUNTS.items():
        ages: dict[str, int] = {}
        while sum(job.part == part for job in jobs) < count:
            length = 20 + draws.below(50) if draws.unit() < 0.7 else 100 + draws.below(200)
            prompt = halves[part].compose(draws, length_bytes=length, age=lambda line, ages=ages: ages.get(line, 0))
            seed = draws.below(2**31)
            if prompt.text in used or seed in seeds:
                continue
            used.add(prompt.text)
            seeds.add(seed)
            ages.update(dict.fromkeys(prompt.parts, len(jobs) + 1))
            jobs.append(
                RecordedJob(
                    job_id=f"{part[0]}{len(jobs):04}",
                    part=part,
                    prompt=prompt.text,
                    temperature=TEMPERATURES[len(jobs) % len(TEMPERATURES)],
                    seed=seed,
                )
            )
    return jobs


def read_jobs() -> list[RecordedJob]:
    """Return the jobs that were recorded."""
    return [RecordedJob(**json.loads(line)) for line in JOBS.read_text(encoding="utf-8").splitlines()]


def write_jobs() -> None:
    """Write the jobs beside the recordings."""
    lines = [json.dumps(asdict(job), ensure_ascii=False) for job in draw_jobs()]
    JOBS.write_text("\n".join(lines) + "\n", encoding="utf-8")
