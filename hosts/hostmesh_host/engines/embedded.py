"""The engines that hostmesh brings along."""

from __future__ import annotations

import os
from pathlib import Path

from hostmesh_host.engines.child import ChildSpec
from hostmesh_host.engines.dialect import Dialect
from hostmesh_host.engines.weights import MINILM, SMOLLM2, find_weights

CONTEXT_TOKENS = 2048
"""SmolLM2 was trained on 8192; 2048 keep its memory at about 250 MB."""


def default_threads() -> int:
    """Return all cores but one: an engine that waits for a core others use spins, and loses most of its speed."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def smollm2_spec(
    *,
    models_dir: Path | None = None,
    threads: int | None = None,
    context_tokens: int = CONTEXT_TOKENS,
    slots: int = 1,
    metrics: bool = False,
) -> ChildSpec:
    """Return how to run SmolLM2-135M-Instruct.

    Args:
        models_dir: where ``hostmesh-host models install`` puts weights.
        threads: None = all cores but one.
        context_tokens: of each slot.
        slots: jobs computed side by side. More than one gains nothing on one core, and answers computed in one batch
            are no longer, at temperature 0, what each is alone.
        metrics: answer ``/metrics``, to those who know the key.

    Raises:
        EngineError: the weights are not installed.
    """
    return ChildSpec(
        name=SMOLLM2.model_id,
        module="hostmesh_host.engines.llamacpp_child",
        dialect=Dialect.LLAMA_CPP,
        options={
            "weights": str(find_weights(SMOLLM2, models_dir)),
            "threads": default_threads() if threads is None else threads,
            "context_tokens": context_tokens,
            "slots": slots,
            "metrics": metrics,
        },
    )


def minilm_spec(*, models_dir: Path | None = None, threads: int | None = None) -> ChildSpec:
    """Return how to run all-MiniLM-L6-v2. Arguments and errors are those of :func:`smollm2_spec`."""
    return ChildSpec(
        name=MINILM.model_id,
        module="hostmesh_host.engines.minilm_child",
        dialect=Dialect.MINILM,
        options={
            "weights": str(find_weights(MINILM, models_dir)),
            "threads": default_threads() if threads is None else threads,
        },
    )
