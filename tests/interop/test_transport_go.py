"""hostmesh and go-libp2p, each dialling the other for every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.go_peer import build_go_peer
from tests.interop.peer_process import AT_ONCE_SCENARIOS, HOSTMESH, HOSTMESH_AT_ONCE, Server, check_scenario, serving
from tests.interop.scenarios import SCENARIOS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]  # the first builds go-libp2p


@pytest.fixture(scope="module")
def go_peer(toolchain_cache: Path) -> list[str]:
    return [str(build_go_peer(toolchain_cache / "go"))]


@pytest.fixture(scope="module")
def go_server(go_peer: list[str]) -> Iterator[Server]:
    with serving(go_peer) as server:
        yield server


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_hostmesh_dials_go(go_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH, go_server, scenario)


@pytest.mark.parametrize("scenario", AT_ONCE_SCENARIOS)
def test_hostmesh_dials_go_before_it_is_identified(go_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH_AT_ONCE, go_server, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_go_dials_hostmesh(go_peer: list[str], hostmesh_server: Server, scenario: str) -> None:
    check_scenario(go_peer, hostmesh_server, scenario)
