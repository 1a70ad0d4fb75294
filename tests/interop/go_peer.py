"""Builds the go-libp2p peer in ``go/``, once for each content of its sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).with_name("go")


def build_go_peer(directory: Path) -> Path:
    """Return the peer's executable, built when the directory has none of these sources and this Go.

    The first build downloads the modules that ``go.sum`` pins. Parallel callers wait for the one that builds.

    Args:
        directory: where executables are kept between runs; made when it is missing.

    Raises:
        RuntimeError: there is no Go, or the build failed; says what the compiler said.
    """
    go = shutil.which("go")
    if go is None:
        raise RuntimeError(
            "the Go peer needs the Go toolchain, and there is no `go` in PATH: install it from go.dev/dl"
        )
    executable = directory / f"peer-{_digest(_run(go, 'version'))}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not executable.exists():
            _build(go, executable)
    return executable


def _digest(toolchain: str) -> str:
    digest = hashlib.sha256(toolchain.encode())
    sources = [path for path in SOURCES.glob("*.go") if not path.name.endswith("_test.go")]
    for path in sorted([*sources, SOURCES / "go.mod", SOURCES / "go.sum"]):
        content = path.read_bytes()
        digest.update(f"\n{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _build(go: str, executable: Path) -> None:
    """An executable appears whole or not at all: a build that was killed leaves none that looks finished."""
    with tempfile.TemporaryDirectory(dir=executable.parent) as scratch:
        built = Path(scratch) / executable.name
        _run(go, "build", "-trimpath", "-o", str(built), ".")
        built.replace(executable)


def _run(*command: str) -> str:
    # Without cgo no C compiler is needed, and none decides what is built.
    environment = os.environ | {"CGO_ENABLED": "0"}
    result = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {result.returncode} in {SOURCES}:\n{result.stderr}")
    return result.stdout
