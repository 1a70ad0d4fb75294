"""Records real generations of SmolLM2-135M-Instruct and of its variants, one line each; goes on where it stopped.

    python -m tests.benchmarks.canaries.weights SmolLM2-135M-Instruct.Q4_1.gguf FOLDER     the variants' weights
    python -m tests.benchmarks.canaries.record SmolLM2-135M-Instruct.Q4_1.gguf FOLDER      all recordings, about an hour
    python -m tests.benchmarks.canaries.record SmolLM2-135M-Instruct.Q4_1.gguf FOLDER --only q4_0

The engine is llama.cpp as ``hostmesh_host.engines.llamacpp_child`` sets it up (batches of 16, no prompt cache, context
of 2,048), in this process, with one thread unless the variant says otherwise.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.canaries.jobs import JOBS, MAX_OUTPUT_TOKENS, RECORDINGS, TEST, read_jobs, write_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How a variant is run."""

    weights: str | None = None
    """Name of a file of :mod:`weights`; None = the shipped Q4_1."""
    batch_tokens: int = 16
    threads: int = 1
    flash_attention: bool = True
    float_cache: bool = False
    """Keys and values of attention are kept as 32-bit floats, not as 16-bit ones."""
    calibrated: bool = False
    """The calibration part is recorded, too."""


ENGINES: dict[str, Engine] = {
    "reference": Engine(calibrated=True),
    "honest_attention": Engine(flash_attention=False, calibrated=True),
    "q4_0": Engine(weights="q4_0"),
    "noise_2": Engine(weights="noise_2"),
    "noise_10": Engine(weights="noise_10"),
    "honest_batch": Engine(batch_tokens=512),
    "honest_threads": Engine(threads=3),
    "fewer_layers": Engine(weights="fewer_layers"),
    "q8_0": Engine(weights="q8_0"),
    "noise_0_5": Engine(weights="noise_0_5"),
    "reference_2": Engine(flash_attention=False, float_cache=True, calibrated=True),
}
"""In the order in which they are recorded."""


def start(shipped: Path, folder: Path, engine: Engine) -> Any:
    """Load the weights; the server answers calls in this process."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(shipped if engine.weights is None else folder / f"{engine.weights}.gguf")
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.ui = False
    parameters.offline = True
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.slot_prompt_similarity = 0.0
    parameters.n_parallel = 1
    parameters.n_ctx = 2048
    parameters.n_batch = engine.batch_tokens
    parameters.n_ubatch = engine.batch_tokens
    parameters.verbosity = 1
    for pool in (parameters.cpuparams, parameters.cpuparams_batch):
        pool.n_threads = engine.threads
        pool.poll = 50 if engine.threads == 1 else 0  # threads that spin starve each other on a busy machine
    kinds = xllamacpp.llama_flash_attn_type
    parameters.flash_attn_type = (
        kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED if engine.flash_attention else kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    if engine.float_cache:
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(parameters)


def record(shipped: Path, folder: Path, name: str) -> None:
    """Record what is missing of one variant."""
    engine = ENGINES[name]
    path = RECORDINGS / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # half a line of a run that was stopped
        path.write_text("".join(lines), encoding="utf-8")
    done = {json.loads(line)["id"] for line in lines}
    jobs = [job for job in read_jobs() if job.job_id not in done and (engine.calibrated or job.part == TEST)]
    if not jobs:
        return
    server = start(shipped, folder, engine)
    began = time.monotonic()
    with path.open("a", encoding="utf-8") as file:
        for job in jobs:
            answer = server.handle_chat_completions(
                {
                    "messages": [{"role": "user", "content": job.prompt}],
                    "max_tokens": MAX_OUTPUT_TOKENS,
                    "temperature": job.temperature,
                    "seed": job.seed,
                }
            )
            text = answer["choices"][0]["message"]["content"]
            file.write(json.dumps({"id": job.job_id, "text": text}, ensure_ascii=False) + "\n")
            file.flush()
    print(f"{name}: {len(jobs)} in {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Record everything that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shipped", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("folder", type=Path, help="where weights.py wrote the variants")
    parser.add_argument("--only", choices=ENGINES, action="append")
    arguments = parser.parse_args()
    RECORDINGS.mkdir(exist_ok=True)
    if not JOBS.exists():
        write_jobs()
    for name in arguments.only or ENGINES:
        record(arguments.shipped, arguments.folder, name)


if __name__ == "__main__":
    main()
