"""all-MiniLM-L6-v2 embeddings as a process: ``python -m hostmesh_host.engines.minilm_child``.

Options, as JSON on standard input: ``api_key``, ``weights`` (the file), ``threads``. The API is OpenAI's:
``/v1/embeddings`` and ``/v1/models``, with ``/health`` and ``/tokenize`` as llama.cpp has them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostmesh_host.engines.child_main import run_child
from hostmesh_host.engines.minilm.model import MiniLm, vocabulary_sha256
from hostmesh_host.engines.minilm.server import EmbeddingServer
from hostmesh_host.engines.weights import MINILM, check_weights


def start(options: Mapping[str, Any]) -> Mapping[str, object]:
    """Load the weights and listen.

    Raises:
        EngineError: a package is not installed, or the weights are missing, changed or do not load.
    """
    path = Path(options["weights"])
    digest = check_weights(path, MINILM)
    model = MiniLm.load(path, threads=int(options["threads"]))
    server = EmbeddingServer(model, api_key=options["api_key"])
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return {
        "url": f"http://127.0.0.1:{server.server_port}",
        "models": [
            {
                "model_id": MINILM.model_id,
                "kind": "embedding",
                "context_tokens": model.max_tokens,
                "quantisation": "int8",
                "weights_sha256": digest.hex(),
                "tokenizer_sha256": vocabulary_sha256().hex(),
                "engine": "onnxruntime",
                "engine_version": model.runtime_version,
            }
        ],
    }


if __name__ == "__main__":
    run_child(start)
