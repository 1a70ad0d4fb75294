"""The stacks, and how a peer of each is started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.transport.peer import PYTHON_STACKS

STACKS = ("tcp", "tls", "grpc", "js", "go", "stock", "hostmesh")


class StackMissingError(Exception):
    """What a stack is made of cannot be had here."""


def prepare(name: str, cache: Path) -> list[str]:
    """Return the command of a stack's peer, after fetching and building what it needs.

    Args:
        name: one of STACKS.
        cache: a folder for what is fetched and built.

    Raises:
        StackMissingError: it cannot be had; the text says why.
    """
    if name in PYTHON_STACKS:
        return [sys.executable, "-m", "tests.benchmarks.transport.peer", name]
    folder = cache / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return list(_OTHERS[name](folder))
    except Exception as error:  # whatever npm, go or the network has against it costs this stack alone
        raise StackMissingError(f"{name} cannot be prepared: {type(error).__name__}: {error}") from error


def _prepare_js(folder: Path) -> Sequence[str]:
    from tests.interop.js_peer import prepare_js_peer

    return prepare_js_peer(folder)


def _prepare_go(folder: Path) -> Sequence[str]:
    from tests.interop.go_peer import build_go_peer

    return [str(build_go_peer(folder))]


_OTHERS: dict[str, Callable[[Path], Sequence[str]]] = {"js": _prepare_js, "go": _prepare_go}
