"""SmolLM2-135M-Instruct on llama.cpp, as a process: ``python -m hostmesh_host.engines.llamacpp_child``.

The server is llama.cpp's own, on a random loopback port, behind a random key. Options, as JSON on standard input:
``api_key``, ``weights`` (the file), ``context_tokens`` (each slot's), ``slots``, ``threads``, ``metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostmesh.errors import EngineError
from hostmesh_host.engines.child_main import run_child
from hostmesh_host.engines.gguf import read_digests
from hostmesh_host.engines.weights import SMOLLM2, check_weights

BATCH_TOKENS = 16
"""Tokens of a prompt computed between two looks at the connection. A cancelled job stops within two batches: measured
on one core 0.1 s at 16, 0.3 s at 32, 0.65 s at 64, 3 s at 256, and two to three times that on a busy machine. Larger
batches compute a prompt faster by a third at best."""

_servers: list[object] = []


def start(options: Mapping[str, Any]) -> Mapping[str, object]:
    """Load the weights and listen.

    Raises:
        EngineError: xllamacpp is not installed, or the weights are missing, changed or do not load.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise EngineError("xllamacpp is not installed", remedy="install hostmesh[engine]") from error
    path = Path(options["weights"])
    digest = check_weights(path, SMOLLM2)
    held = read_digests(path)
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, path, options))
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"llama.cpp does not start: {error}", remedy="see the engine's log: -v") from error
    _servers.append(server)  # lives as long as the process
    return {
        "url": server.listening_address,
        "models": [
            {
                "model_id": SMOLLM2.model_id,
                "kind": "chat",
                "context_tokens": int(options["context_tokens"]),
                "quantisation": "Q4_1",
                "weights_sha256": digest.hex(),
                "tokenizer_sha256": _hex(held.tokenizer),
                "chat_template_sha256": _hex(held.chat_template),
                "engine": "llama.cpp",
                "engine_version": f"xllamacpp {xllamacpp.__version__}",
            }
        ],
    }


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _parameters(xllamacpp: Any, path: Path, options: Mapping[str, Any]) -> Any:
    slots = int(options["slots"])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {SMOLLM2.model_id}  # else the model's id is its path
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [options["api_key"]]
    # No page in a browser has business here.
    parameters.cors_origins = ""
    parameters.cors_credentials = False
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.endpoint_metrics = bool(options["metrics"])
    parameters.offline = True
    # One client's prompt must not show in another's timing, nor in its answer: on top of cached tokens a prompt is
    # computed in other batches, whose sums round differently.
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.slot_prompt_similarity = 0.0
    parameters.n_parallel = slots
    parameters.n_ctx = int(options["context_tokens"]) * slots  # llama.cpp shares it out
    parameters.n_batch = BATCH_TOKENS
    parameters.n_ubatch = BATCH_TOKENS
    parameters.cpuparams.n_threads = int(options["threads"])
    parameters.cpuparams_batch.n_threads = int(options["threads"])
    parameters.verbosity = 2  # warnings
    return parameters


if __name__ == "__main__":
    run_child(start)
