"""Installs the Node.js programs in ``js*/``, once for each content of their lock files and sources."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).with_name("js")
RPC_SOURCES = Path(__file__).with_name("js-rpc")
ETHERS_SOURCES = Path(__file__).with_name("js-ethers")
INSTALL_LIMIT_S = 480
_MANIFESTS = ("package.json", "package-lock.json")
_NPM_CPU_NAMES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}


def prepare_js_peer(cache_directory: Path) -> list[str]:
    """Return the start of the command line of the peer in ``js/``. As :func:`_prepare`."""
    return _prepare(SOURCES, "peer.mjs", cache_directory)


def prepare_js_rpc_client(cache_directory: Path) -> list[str]:
    """Return the start of the command line of the client of the conformance suite. As :func:`_prepare`."""
    return _prepare(RPC_SOURCES, "conformance.mjs", cache_directory)


def prepare_ethers(cache_directory: Path) -> list[str]:
    """Return the command line of the program in ``js-ethers/``. As :func:`_prepare`."""
    return _prepare(ETHERS_SOURCES, "ethers.mjs", cache_directory)


def _prepare(package: Path, main: str, cache_directory: Path) -> list[str]:
    """Return the start of a program's command line, after installing what the directory does not have yet.

    The packages come from the npm registry, as the lock file pins them, and with them a Node.js that can run them: of
    the machine's own Node.js only ``npm`` is used. A change of the sources alone installs nothing again. Parallel
    callers wait for the one that installs.

    Args:
        package: a folder with manifests and sources.
        main: the source that is run.
        cache_directory: where installations are kept between runs; made when it is missing.

    Raises:
        RuntimeError: there is no npm, or no Node.js for this machine, or the installation failed; says what npm said.
    """
    node = _node_path()
    manifests = [package / name for name in _MANIFESTS]
    sources = [package / "package.json", *sorted(package.glob("*.mjs"))]
    # Modules are looked for in the directories above a source, so that installations of sources share them.
    modules = cache_directory / f"modules-{_digest(manifests)}"
    peer = modules / f"peer-{_digest(sources)}"
    cache_directory.mkdir(parents=True, exist_ok=True)
    with (cache_directory / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not modules.exists():
            _install(manifests, modules, node)
        if not peer.exists():
            _copy(sources, peer)
    return [str(modules / node), "--expose-gc", str(peer / main)]


def _node_path() -> Path:
    """Return where an installation has its Node.js."""
    cpu = _NPM_CPU_NAMES.get(platform.machine().lower())
    if sys.platform != "linux" or cpu is None:
        raise RuntimeError(
            f"this program brings Node.js for Linux on x64 and arm64, not for {sys.platform} on "
            f"{platform.machine()}: add its package to the optionalDependencies in {SOURCES / 'package.json'}"
        )
    return Path("node_modules", f"node-linux-{cpu}", "bin", "node")


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _install(manifests: Iterable[Path], modules: Path, node: Path) -> None:
    """An installation appears whole or not at all: one that was killed leaves none that looks finished."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("this needs npm, and there is none in PATH: install Node.js 18 or newer")
    with tempfile.TemporaryDirectory(dir=modules.parent) as scratch:
        staged = Path(scratch) / modules.name
        _copy(manifests, staged)
        # No scripts: the packages need none. Not engine-strict: it is not the npm's own Node.js that runs the peer.
        _run(
            npm, "ci", "--ignore-scripts", "--engine-strict=false", "--prefer-offline", "--no-audit", "--no-fund",
            cwd=staged,
        )  # fmt: skip
        if not (staged / node).exists():
            # npm passes over an optional dependency that it cannot fetch.
            raise RuntimeError(f"npm installed no {node.parts[1]}: can it be fetched from the npm registry?")
        _run(str(staged / node), "--version", cwd=staged)
        staged.replace(modules)


def _copy(files: Iterable[Path], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        staged = Path(scratch) / target.name
        staged.mkdir()
        for path in files:
            shutil.copyfile(path, staged / path.name)
        staged.replace(target)


def _run(*command: str, cwd: Path) -> None:
    try:
        result = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"`{' '.join(command)}` did not end within {INSTALL_LIMIT_S} s") from error
    if result.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {result.returncode}:\n{result.stdout}{result.stderr}")
