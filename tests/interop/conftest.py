"""Where peers that must be built are kept between runs, and a hostmesh peer for others to dial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.peer_process import HOSTMESH, Server, serving


@pytest.fixture(scope="session")
def toolchain_cache() -> Path:
    """A directory for what the other languages' peers are built of."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "hostmesh-tests"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def hostmesh_server() -> Iterator[Server]:
    """A hostmesh node that serves the scenarios."""
    with serving(HOSTMESH) as server:
        yield server
