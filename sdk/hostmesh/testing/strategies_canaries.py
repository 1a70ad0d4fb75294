"""Strategies for what checks of hosts' models take and find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.canaries.asking import CanaryRequest
from hostmesh.canaries.canary import OptedInPrompt
from hostmesh.canaries.comparison import COMPARED_CHARACTERS, Agreement
from hostmesh.canaries.evidence import STATED_FALSE_POSITIVE_PPM, WINDOW, Calibration, CanaryEvidence, Warmth
from hostmesh.jobs.engine import Role
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import counts, model_ids, peer_ids, texts
from hostmesh.testing.strategies_jobs import job_parameters

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def agreements() -> SearchStrategy[Agreement]:
    """Draw how far two answers agree."""
    return st.builds(Agreement, characters=st.integers(0, COMPARED_CHARACTERS), parted=st.booleans())


def calibrations() -> SearchStrategy[Calibration]:
    """Draw how far one to three honest engines agree with a reference."""
    strata = st.dictionaries(st.sampled_from(Warmth), st.lists(agreements(), max_size=8).map(tuple), max_size=3)
    engines = st.dictionaries(texts(most_bytes=32), strata, min_size=1, max_size=3)
    return st.builds(Calibration, model_id=model_ids(), engines=engines)


def opted_in_prompts() -> SearchStrategy[OptedInPrompt]:
    """Draw a prompt that may go to any host."""
    return st.builds(OptedInPrompt, text=texts(most_bytes=256))


def canary_requests() -> SearchStrategy[CanaryRequest]:
    """Draw what a reference is asked."""
    roles = st.sampled_from([role.value for role in Role])
    turns = st.lists(st.tuples(roles, texts(most_bytes=64)), min_size=1, max_size=4).map(tuple)

    def build(seed: int, settings: dict[str, object], **rest: object) -> CanaryRequest:
        return CanaryRequest(parameters={**settings, "seed": seed}, **rest)  # type: ignore[arg-type]

    return st.builds(
        build,
        st.integers(0, 2**31 - 1),
        job_parameters(),
        model_id=model_ids(),
        messages=turns,
        max_output_tokens=st.none() | counts().filter(bool),
        timeout_s=st.none() | st.floats(0.1, 3600),
    )


def canary_evidence() -> SearchStrategy[CanaryEvidence]:
    """Draw the evidence of one window, for the host or against it."""
    return st.builds(
        CanaryEvidence,
        peer_id=peer_ids(),
        model_id=model_ids(),
        reference=st.sampled_from(["the reference", "most of a quorum"]),
        n=st.just(WINDOW),
        parted=st.integers(0, WINDOW),
        expected_parted=st.floats(0, WINDOW),
        deviation=st.floats(-20, 20),
        p_value=st.floats(0, 1),
        false_positive_ppm=st.just(STATED_FALSE_POSITIVE_PPM),
    )
