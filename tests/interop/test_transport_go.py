"""hostmesh and go-libp2p, each dialling the other for every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.go_peer import build_go_peer
from tests.interop.peer_process import HOSTMESH, Server, check_scenario, exclusive, serving
from tests.interop.scenarios import SCENARIOS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]  # the first builds go-libp2p


@pytest.fixture(scope="module")
def go_peer(toolchain_cache: Path) -> list[str]:
    with exclusive(toolchain_cache):
        return [str(build_go_peer(toolchain_cache / "go"))]


@pytest.fixture(scope="module")
def go_server(go_peer: list[str]) -> Iterator[Server]:
    with serving(go_peer) as server:
        yield server


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_hostmesh_dials_go(go_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH, go_server, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_go_dials_hostmesh(go_peer: list[str], hostmesh_server: Server, scenario: str) -> None:
    check_scenario(go_peer, hostmesh_server, scenario)
